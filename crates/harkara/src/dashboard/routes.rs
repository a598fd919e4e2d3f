//! The one list of pages: method, path, whom it is for, and what makes it.
//!
//! It drives the router and the authorization matrix of the tests: a page that is not in their table of
//! expectations fails them. A new page is a line here, a line there, and a handler.

use harkara_core::access::Permission::{
    ChangeEndpoints, ChangeKeys, ChangeMembers, ReadAudit, Resend, SeeSystem, SeeTraffic,
};
use http::Method;

use super::gate::{Route, merchant, open, platform, signed_in};
use super::{
    account, assets, audit, catalogue, events, home, keys, members, orders, overview, recovery,
    sign_in, system, trial, webhooks,
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// A path below a merchant's.
macro_rules! of {
    ($path:literal) => {
        concat!("/dashboard/merchants/{merchant_id}", $path)
    };
}

/// Every page.
#[rustfmt::skip]
pub(super) fn routes() -> Vec<Route> {
    vec![
        // Anybody.
        open(GET, "/dashboard/static/{file}", assets::file),
        open(GET, "/dashboard/sign-in", sign_in::show),
        open(POST, "/dashboard/sign-in", sign_in::sign_in),
        open(GET, "/dashboard/welcome", sign_in::welcome),
        open(POST, "/dashboard/welcome", sign_in::enter),
        // Whoever is signed in, about themselves.
        signed_in(GET, "/dashboard", home::enter),
        signed_in(POST, "/dashboard/sign-out", sign_in::sign_out),
        signed_in(GET, "/dashboard/account", account::show),
        signed_in(POST, "/dashboard/account/password", account::set_password),
        signed_in(
            POST,
            "/dashboard/account/sessions/{session_id}/end",
            account::end_session,
        ),
        // The platform.
        platform(GET, "/dashboard/merchants", SeeTraffic, home::merchants),
        platform(GET, "/dashboard/members", ChangeMembers, members::show),
        platform(
            POST,
            "/dashboard/members/invite",
            ChangeMembers,
            members::invite,
        ),
        platform(
            POST,
            "/dashboard/members/{user_id}/role",
            ChangeMembers,
            members::set_role,
        ),
        platform(
            POST,
            "/dashboard/members/{user_id}/reset",
            ChangeMembers,
            members::reset,
        ),
        platform(
            POST,
            "/dashboard/members/{user_id}/remove",
            ChangeMembers,
            members::remove,
        ),
        platform(
            POST,
            "/dashboard/links/{hash}/withdraw",
            ChangeMembers,
            members::withdraw_link,
        ),
        platform(GET, "/dashboard/keys", ChangeKeys, keys::show),
        platform(POST, "/dashboard/keys", ChangeKeys, keys::make),
        platform(POST, "/dashboard/keys/{key_id}/revoke", ChangeKeys, keys::end),
        platform(GET, "/dashboard/system", SeeSystem, system::show),
        platform(GET, "/dashboard/audit", ReadAudit, audit::show),
        // A merchant, and the platform about it.
        merchant(GET, of!(""), SeeTraffic, overview::show),
        merchant(GET, of!("/live"), SeeTraffic, overview::live).quiet(),
        merchant(GET, of!("/live/orders"), SeeTraffic, orders::list_live).quiet(),
        merchant(GET, of!("/live/orders/{order_id}"), SeeTraffic, orders::one_live).quiet(),
        merchant(GET, of!("/live/events"), SeeTraffic, events::list_live).quiet(),
        merchant(GET, of!("/live/recovery"), SeeTraffic, recovery::list_live).quiet(),
        merchant(GET, of!("/live/recovery/{job_id}"), SeeTraffic, recovery::one_live).quiet(),
        merchant(GET, of!("/live/test/{order_id}"), SeeTraffic, trial::flow_live).quiet(),
        merchant(GET, of!("/orders"), SeeTraffic, orders::list),
        merchant(GET, of!("/orders/{order_id}"), SeeTraffic, orders::one),
        merchant(POST, of!("/orders/{order_id}/resend"), Resend, orders::resend_all),
        merchant(GET, of!("/events"), SeeTraffic, events::list),
        merchant(GET, of!("/events/{event_id}"), SeeTraffic, events::one),
        merchant(POST, of!("/events/{event_id}/resend"), Resend, events::resend_one),
        merchant(GET, of!("/recovery"), SeeTraffic, recovery::show),
        merchant(POST, of!("/recovery"), Resend, recovery::make),
        merchant(GET, of!("/recovery/{job_id}"), SeeTraffic, recovery::one),
        merchant(POST, of!("/recovery/{job_id}/pause"), Resend, recovery::pause),
        merchant(POST, of!("/recovery/{job_id}/resume"), Resend, recovery::resume),
        merchant(POST, of!("/recovery/{job_id}/cancel"), Resend, recovery::cancel),
        merchant(GET, of!("/test"), Resend, trial::show),
        merchant(POST, of!("/test"), Resend, trial::send),
        merchant(GET, of!("/test/{order_id}"), SeeTraffic, trial::flow),
        merchant(GET, of!("/catalogue"), SeeTraffic, catalogue::list),
        merchant(GET, of!("/catalogue/{event_name}"), SeeTraffic, catalogue::one),
        merchant(GET, of!("/webhooks"), SeeTraffic, webhooks::list),
        merchant(GET, of!("/webhooks/new"), ChangeEndpoints, webhooks::blank),
        merchant(POST, of!("/webhooks/new"), ChangeEndpoints, webhooks::create),
        merchant(GET, of!("/webhooks/{endpoint_id}"), SeeTraffic, webhooks::one),
        merchant(POST, of!("/webhooks/{endpoint_id}"), ChangeEndpoints, webhooks::save),
        merchant(POST, of!("/webhooks/{endpoint_id}/test"), Resend, webhooks::test),
        merchant(POST, of!("/webhooks/{endpoint_id}/pause"), ChangeEndpoints, webhooks::pause),
        merchant(POST, of!("/webhooks/{endpoint_id}/resume"), ChangeEndpoints, webhooks::resume),
        merchant(POST, of!("/webhooks/{endpoint_id}/delete"), ChangeEndpoints, webhooks::delete),
        merchant(POST, of!("/webhooks/{endpoint_id}/signing"), ChangeEndpoints, webhooks::sign),
        merchant(POST, of!("/webhooks/{endpoint_id}/signing/remove"), ChangeEndpoints, webhooks::unsign),
        merchant(GET, of!("/members"), ChangeMembers, members::show),
        merchant(POST, of!("/members/invite"), ChangeMembers, members::invite),
        merchant(POST, of!("/members/{user_id}/role"), ChangeMembers, members::set_role),
        merchant(POST, of!("/members/{user_id}/reset"), ChangeMembers, members::reset),
        merchant(POST, of!("/members/{user_id}/remove"), ChangeMembers, members::remove),
        merchant(POST, of!("/links/{hash}/withdraw"), ChangeMembers, members::withdraw_link),
        merchant(GET, of!("/keys"), ChangeKeys, keys::show),
        merchant(POST, of!("/keys"), ChangeKeys, keys::make),
        merchant(POST, of!("/keys/{key_id}/revoke"), ChangeKeys, keys::end),
        merchant(GET, of!("/audit"), ReadAudit, audit::show),
    ]
}

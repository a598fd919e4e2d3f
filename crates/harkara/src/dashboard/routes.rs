//! The one list of pages: method, path, whom it is for, and what makes it.
//!
//! It drives the router and the authorization matrix of the tests: a page that is not in their table of
//! expectations fails them. A new page is a line here, a line there, and a handler.

use harkara_core::access::Permission::{ChangeMembers, ReadAudit, SeeTraffic};
use http::Method;

use super::gate::{Route, merchant, open, platform, signed_in};
use super::{account, assets, audit, home, members, overview, sign_in};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// Every page.
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
        platform(GET, "/dashboard/audit", ReadAudit, audit::show),
        // A merchant, and the platform about it.
        merchant(
            GET,
            "/dashboard/merchants/{merchant_id}",
            SeeTraffic,
            overview::show,
        ),
        merchant(
            GET,
            "/dashboard/merchants/{merchant_id}/members",
            ChangeMembers,
            members::show,
        ),
        merchant(
            POST,
            "/dashboard/merchants/{merchant_id}/members/invite",
            ChangeMembers,
            members::invite,
        ),
        merchant(
            POST,
            "/dashboard/merchants/{merchant_id}/members/{user_id}/role",
            ChangeMembers,
            members::set_role,
        ),
        merchant(
            POST,
            "/dashboard/merchants/{merchant_id}/members/{user_id}/reset",
            ChangeMembers,
            members::reset,
        ),
        merchant(
            POST,
            "/dashboard/merchants/{merchant_id}/members/{user_id}/remove",
            ChangeMembers,
            members::remove,
        ),
        merchant(
            POST,
            "/dashboard/merchants/{merchant_id}/links/{hash}/withdraw",
            ChangeMembers,
            members::withdraw_link,
        ),
        merchant(
            GET,
            "/dashboard/merchants/{merchant_id}/audit",
            ReadAudit,
            audit::show,
        ),
    ]
}

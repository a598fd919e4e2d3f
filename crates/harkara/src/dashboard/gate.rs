//! The gate before every page: who is asking, whether the request is a browser's of ours, and whether
//! they may.
//!
//! A handler is made into a [`Route`] by one of four functions, and what it is given tells what was
//! checked: a [`Visit`] of anybody, [`SignedIn`], [`Staff`] of the platform, or a [`Member`] who may see
//! this merchant. So no page can be reached that says nothing about whom it is for. Somebody else's
//! merchant looks like one that does not exist.

use std::net::IpAddr;
use std::ops::{ControlFlow, Deref};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::response::{IntoResponse, Response};
use harkara_core::access::{Permission, Role};
use harkara_core::id::MerchantId;
use harkara_core::merchant::Merchant;
use harkara_core::time::Timestamp;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use url::form_urlencoded;

use super::answer::harden;
use super::fields::Fields;
use super::session::{self, Wire};
use crate::api::{Api, auth, body_bytes, chain, see_other};
use crate::error::ApiError;
use crate::store::{AuditEntry, Memberships, User, UserSession};

/// The largest form that is taken.
const FORM_MAX: usize = 64 * 1024;

/// What a browser calls itself is kept up to here.
const AGENT_MAX: usize = 200;

/// What a line of the audit log says besides is kept up to here.
const DETAIL_MAX: usize = 1_000;

/// What a handler answers.
pub(super) type Answer = Result<Response, ApiError>;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The address that a connection comes from; `serve.rs` tells it with each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A page, and what makes it for whom it is for.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Whether asking for it shows that somebody is there: what a page asks for by itself does not.
    is_quiet: bool,
    handler: Box<dyn Fn(Visit) -> Answering + Send + Sync>,
}

/// A page for anybody.
pub(super) fn open<F: Future<Output = Answer> + Send + 'static>(
    method: Method,
    path: &'static str,
    handler: impl Fn(Visit) -> F + Send + Sync + 'static,
) -> Route {
    Route {
        method,
        path,
        is_quiet: false,
        handler: Box::new(move |visit| Box::pin(handler(visit))),
    }
}

/// A page for whoever is signed in.
pub(super) fn signed_in<F: Future<Output = Answer> + Send + 'static>(
    method: Method,
    path: &'static str,
    handler: impl Fn(SignedIn) -> F + Clone + Send + Sync + 'static,
) -> Route {
    let guarded = move |visit: Visit| {
        let handler = handler.clone();
        async move {
            match visit.signed_in().await? {
                ControlFlow::Continue(who) => handler(who).await,
                ControlFlow::Break(answer) => Ok(answer),
            }
        }
    };
    open(method, path, guarded)
}

/// A page about the platform, for those of it whose role includes this.
pub(super) fn platform<F: Future<Output = Answer> + Send + 'static>(
    method: Method,
    path: &'static str,
    permission: Permission,
    handler: impl Fn(Staff) -> F + Clone + Send + Sync + 'static,
) -> Route {
    let guarded = move |signed: SignedIn| {
        let handler = handler.clone();
        async move { handler(signed.staff(permission)?).await }
    };
    signed_in(method, path, guarded)
}

/// A page about the merchant in its path, for those whose role there includes this.
pub(super) fn merchant<F: Future<Output = Answer> + Send + 'static>(
    method: Method,
    path: &'static str,
    permission: Permission,
    handler: impl Fn(Member) -> F + Clone + Send + Sync + 'static,
) -> Route {
    let guarded = move |signed: SignedIn| {
        let handler = handler.clone();
        async move { handler(signed.member(permission).await?).await }
    };
    signed_in(method, path, guarded)
}

impl Route {
    /// The same, asked for by a page and not by a person.
    pub(super) fn quiet(self) -> Self {
        Self {
            is_quiet: true,
            ..self
        }
    }

    /// Whether people open it. A file that pages link to is none, nor is what a page asks for by itself.
    pub(super) fn is_page(&self) -> bool {
        let is_file = self.path.starts_with("/dashboard/static/");
        self.method == Method::GET && !self.is_quiet && !is_file
    }

    /// Answers a request for it.
    pub(super) async fn answer(&self, State(api): State<Api>, request: Request) -> Answer {
        let visit = Visit::read(api, request, self.is_quiet).await?;
        let mut response = (self.handler)(visit).await?;
        harden(response.headers_mut());
        Ok(response)
    }
}

/// A request, read.
pub(super) struct Visit {
    pub(super) api: Api,
    pub(super) now: Timestamp,
    /// Where it comes from.
    pub(super) address: String,
    pub(super) query: Fields,
    pub(super) form: Fields,
    method: Method,
    path: String,
    parameters: Fields,
    headers: HeaderMap,
    is_quiet: bool,
}

impl Visit {
    async fn read(api: Api, request: Request, is_quiet: bool) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let is_form = parts.method == Method::POST;
        if is_form {
            refuse_foreign(&parts.headers)?;
        }
        let parameters = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| ApiError::not_found("route.not_found", "there is no such path"))?;
        let parameters: Fields = parameters
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let peer = parts.extensions.get::<Peer>().copied();
        let form = match is_form {
            true => {
                let body = Request::from_parts(parts.clone(), body);
                Fields::parse(&body_bytes(body, FORM_MAX).await?)
            }
            false => Fields::default(),
        };
        let query = Fields::parse(parts.uri.query().unwrap_or_default().as_bytes());
        if [&parameters, &query, &form]
            .iter()
            .any(|fields| fields.has_nul())
        {
            let message = "a NUL is in what was sent, which no text has";
            return Err(ApiError::invalid("invalid_request", message));
        }
        Ok(Self {
            now: api.clock.now(),
            address: address(peer, &parts.headers, &api.config.dashboard.trusted_proxies),
            query,
            form,
            method: parts.method,
            path: parts.uri.path().to_owned(),
            parameters,
            headers: parts.headers,
            is_quiet,
            api,
        })
    }

    /// A part of the path, by the name that its route gives it.
    pub(super) fn param(&self, name: &str) -> &str {
        self.parameters.raw(name).unwrap_or_default()
    }

    /// The path that was asked for.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What the browser calls itself.
    pub(super) fn agent(&self) -> String {
        let agent = self.headers.get(USER_AGENT);
        let agent = agent.and_then(|value| value.to_str().ok());
        agent.unwrap_or_default().chars().take(AGENT_MAX).collect()
    }

    /// How the dashboard is reached.
    pub(super) fn wire(&self) -> Wire {
        Wire::of(&self.api.public_url)
    }

    /// The session that the request belongs to, if there is one that still counts.
    pub(super) async fn session(
        &self,
    ) -> Result<Option<(UserSession, User, Memberships, String)>, ApiError> {
        let wire = self.wire();
        let Some(token) = wire.token(&self.headers).filter(|_| wire != Wire::Open) else {
            return Ok(None);
        };
        let found = self.api.store.session(&token.hash()).await?;
        let live = found.filter(|(session, _, _)| session::is_live(session, self.now));
        Ok(live.map(|(session, user, memberships)| {
            (session, user, memberships, session::form_token(&token))
        }))
    }

    /// Who is asking; whoever is not signed in is sent to where one does so.
    async fn signed_in(self) -> Result<ControlFlow<Response, SignedIn>, ApiError> {
        let Some((session, user, memberships, form_token)) = self.session().await? else {
            return Ok(ControlFlow::Break(self.sent_to_sign_in()));
        };
        if self.method == Method::POST {
            let sent = self.form.raw("form_token").unwrap_or_default();
            if verify_slices_are_equal(sent.as_bytes(), form_token.as_bytes()).is_err() {
                return Err(ApiError::forbidden(
                    "this form is of an earlier sign-in; go back, load the page again and send it \
                     once more",
                ));
            }
        }
        if !self.is_quiet && session::is_to_be_touched(&session, self.now) {
            self.api
                .store
                .touch_session(&session.hash, self.now)
                .await?;
        }
        Ok(ControlFlow::Continue(SignedIn {
            visit: self,
            session,
            user,
            memberships,
            form_token,
        }))
    }

    fn sent_to_sign_in(&self) -> Response {
        let accepts = self
            .headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok());
        // A live part that asks for its stream keeps what it shows, and shows nothing else.
        if accepts.is_some_and(|accepts| accepts.contains("text/event-stream")) {
            return StatusCode::NO_CONTENT.into_response();
        }
        let sign_in = format!("{}/sign-in", super::ROOT);
        match self.method == Method::GET && self.path != super::ROOT {
            true => {
                let mut next = form_urlencoded::Serializer::new(String::new());
                next.append_pair("next", &self.path);
                see_other(&format!("{sign_in}?{}", next.finish()))
            }
            false => see_other(&sign_in),
        }
    }
}

/// Somebody who is signed in.
pub(super) struct SignedIn {
    visit: Visit,
    pub(super) session: UserSession,
    pub(super) user: User,
    pub(super) memberships: Memberships,
    /// What each of their forms carries.
    pub(super) form_token: String,
}

impl Deref for SignedIn {
    type Target = Visit;

    fn deref(&self) -> &Visit {
        &self.visit
    }
}

impl SignedIn {
    /// Their role at the platform.
    pub(super) fn platform_role(&self) -> Option<Role> {
        self.memberships.get(&MerchantId::platform()).copied()
    }

    /// Their role at a merchant: the one they have there, or else the platform's.
    pub(super) fn role_at(&self, merchant_id: &MerchantId) -> Option<Role> {
        let there = self.memberships.get(merchant_id).copied();
        there.or_else(|| self.platform_role())
    }

    fn staff(self, permission: Permission) -> Result<Staff, ApiError> {
        // Who is of no platform has no business to know what is there.
        let role = self
            .platform_role()
            .ok_or_else(|| ApiError::not_found("route.not_found", "there is no such path"))?;
        allow(role, permission)?;
        Ok(Staff { signed: self, role })
    }

    async fn member(self, permission: Permission) -> Result<Member, ApiError> {
        let merchant_id = MerchantId::new(self.param("merchant_id"));
        let unknown = || {
            let message = format!("there is no merchant '{merchant_id}'");
            ApiError::not_found("merchant.not_found", message)
        };
        let role = self.role_at(&merchant_id);
        let role = role.filter(|_| !merchant_id.is_platform());
        let role = role.ok_or_else(unknown)?;
        let merchant = auth::merchant(&self.api, &merchant_id).await?;
        allow(role, permission)?;
        Ok(Member {
            signed: self,
            merchant,
            role,
        })
    }

    /// A line for the audit log about something they do.
    pub(super) fn entry(&self, merchant_id: &MerchantId, action: &str, target: &str) -> AuditEntry {
        AuditEntry {
            merchant_id: merchant_id.clone(),
            address: self.address.clone(),
            target: target.to_owned(),
            ..AuditEntry::new(self.now, &self.user.name, action)
        }
    }

    /// Does what is no single write of the store, with its line in the audit log stored before it:
    /// whatever becomes of the act, it is known who asked for it, and nothing can be lost behind it.
    ///
    /// A handler first refuses what it can refuse by itself, makes the line with [`SignedIn::entry`] and
    /// its `detail`, and hands over the act, which does not begin before the line is there:
    ///
    /// ```ignore
    /// let mut entry = member.entry(merchant_id, "paused an endpoint", endpoint_id.as_str());
    /// entry.detail = reason.clone();
    /// let act = endpoints::stop(&member.api, merchant_id, &endpoint_id, Some(reason));
    /// member.written_down(entry, act).await?;
    /// ```
    ///
    /// The line's result is `begun`, whatever the entry says. If the act fails, a second line has the
    /// code of the error as its result, and the error is returned; nothing follows an act that was done.
    /// A write of the store that takes its entry along needs none of this: both are true, or neither is.
    pub(super) async fn written_down<T>(
        &self,
        mut entry: AuditEntry,
        act: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        entry.result = "begun".to_owned();
        let bounded = |text: &str| text.chars().take(DETAIL_MAX).collect();
        entry.target = bounded(&entry.target);
        entry.detail = bounded(&entry.detail);
        let store = &self.api.store;
        store.add_to_audit(entry.clone()).await?;
        let done = act.await;
        if let Err(error) = &done {
            entry.result = error.code.to_owned();
            entry.at = self.api.clock.now();
            // The first line stands, and what the act met is what they have to know.
            if let Err(lost) = store.add_to_audit(entry).await {
                let lost = chain(&lost);
                tracing::error!(code = error.code, lost, "what failed was not written down");
            }
        }
        done
    }
}

/// Somebody of the platform, about the platform.
pub(super) struct Staff {
    pub(super) signed: SignedIn,
    pub(super) role: Role,
}

impl Deref for Staff {
    type Target = SignedIn;

    fn deref(&self) -> &SignedIn {
        &self.signed
    }
}

/// Somebody about a merchant that is theirs to see.
pub(super) struct Member {
    pub(super) signed: SignedIn,
    pub(super) merchant: Arc<Merchant>,
    pub(super) role: Role,
}

impl Deref for Member {
    type Target = SignedIn;

    fn deref(&self) -> &SignedIn {
        &self.signed
    }
}

/// The platform or a merchant, for pages that both have.
pub(super) enum Place {
    Platform(Staff),
    Merchant(Member),
}

impl From<Staff> for Place {
    fn from(staff: Staff) -> Self {
        Self::Platform(staff)
    }
}

impl From<Member> for Place {
    fn from(member: Member) -> Self {
        Self::Merchant(member)
    }
}

impl Deref for Place {
    type Target = SignedIn;

    fn deref(&self) -> &SignedIn {
        match self {
            Self::Platform(staff) => staff,
            Self::Merchant(member) => member,
        }
    }
}

impl Place {
    /// What whoever asks is here.
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Platform(staff) => staff.role,
            Self::Merchant(member) => member.role,
        }
    }

    /// The merchant; the platform is the empty id.
    pub(super) fn merchant_id(&self) -> &MerchantId {
        static PLATFORM: LazyLock<MerchantId> = LazyLock::new(MerchantId::platform);
        match self {
            Self::Platform(_) => &PLATFORM,
            Self::Merchant(member) => &member.merchant.merchant_id,
        }
    }
}

fn allow(role: Role, permission: Permission) -> Result<(), ApiError> {
    match role.may(permission) {
        true => Ok(()),
        false => Err(ApiError::forbidden(format!(
            "your role here, {}, does not include this; an owner or an admin can change it",
            role.as_str()
        ))),
    }
}

/// Refuses a form that another site's page sent. Browsers say where a request comes from, in one header
/// or, over plain http to another machine, in an older one.
fn refuse_foreign(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text(HOST.as_str())
        }
        (None, None) => false,
    };
    let is_form = text(CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    match is_ours && is_form {
        true => Ok(()),
        false => Err(ApiError::forbidden(
            "a form is taken from a page of this dashboard alone; open the page and send it there",
        )),
    }
}

/// Where a request comes from. A proxy that is trusted tells it in `X-Forwarded-For`, to which each adds
/// at the end, so what is before the last that is not trusted could be anybody's invention. Of IPv6 it
/// is the network: whoever has one address there has them all.
fn address(peer: Option<Peer>, headers: &HeaderMap, trusted: &[ipnet::IpNet]) -> String {
    let Some(Peer(mut address)) = peer else {
        return String::new();
    };
    // On a listener for both, IPv4 arrives as a part of IPv6, which no network of a proxy contains.
    let is_trusted = |address: IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|net| net.contains(&address))
    };
    let forwarded = headers.get_all("x-forwarded-for").iter();
    let forwarded: Vec<&str> = forwarded
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .collect();
    let mut hops = forwarded.iter().rev();
    while is_trusted(address)
        && let Some(hop) = hops.next().and_then(|hop| hop.trim().parse().ok())
    {
        address = hop;
    }
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = ipnet::Ipv6Net::new_assert(address, 64).trunc();
            network.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_form_comes_from_a_page_of_ours() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let host = ("host", "pay.example");
        let table: [(&[(&str, &str)], bool); 8] = [
            (&[form, ("sec-fetch-site", "same-origin")], true),
            (&[form, ("sec-fetch-site", "same-site")], false),
            (&[form, ("sec-fetch-site", "none")], false),
            (&[form, host, ("origin", "https://pay.example")], true),
            (&[form, host, ("origin", "https://evil.example")], false),
            (&[form, host, ("origin", "null")], false),
            (&[form, host], false),
            (
                &[
                    ("content-type", "text/plain"),
                    ("sec-fetch-site", "same-origin"),
                ],
                false,
            ),
        ];
        for (pairs, expected) in table {
            let taken = refuse_foreign(&headers(pairs)).is_ok();
            assert_eq!(taken, expected, "{pairs:?}");
        }
    }

    #[test]
    fn only_trusted_proxies_say_where_somebody_is() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let table = [
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            (
                "10.0.0.1",
                "192.0.2.7, 198.51.100.1, 10.0.0.2",
                "198.51.100.1",
            ),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, ::ffff:10.0.0.2", "198.51.100.1"),
            ("2001:db8::1:2:3:4", "", "2001:db8::/64"),
        ];
        for (peer, forwarded, expected) in table {
            let forwarded = headers(&[("x-forwarded-for", forwarded)]);
            let peer = Some(Peer(peer.parse().unwrap()));
            assert_eq!(address(peer, &forwarded, &trusted), expected);
        }
    }
}

//! Settings > Webhooks: a merchant's endpoints, with all that each can be set to, and the addresses
//! that webhooks come from.
//!
//! A form is read by the API's own reader and stored by its own functions, so there is one set of rules;
//! a refusal stands beside its field and nothing typed is lost. Secrets are written, never shown, but for
//! the one answer that makes one up.

mod typed;
mod versions;

use harkara_core::access::Permission;
use harkara_core::endpoint::{Endpoint, EndpointState};
use harkara_core::health::{Breaker, Health};
use harkara_core::id::EndpointId;
use harkara_webhook::{EventName, catalog};
use http::StatusCode;
use maud::{Markup, html};
use zeroize::Zeroizing;

use self::typed::{Typed, switch_name};
use super::answer::{page, wrong};
use super::components::{
    Field, Section, Tone, ask_first, badge, document, empty, form, heading, id, notice, panel,
    select, span, table, text, time,
};
use super::gate::{Answer, Member};
use super::parts::{endpoint_link, endpoint_state, failing_since, segment};
use crate::api::{endpoints, see_other};
use crate::error::ApiError;
use crate::store::{AuditEntry, EndpointRow};

/// `GET …/webhooks`.
pub(super) async fn list(member: Member) -> Answer {
    let merchant_id = &member.merchant.merchant_id;
    let rows = member.api.store.endpoint_rows(merchant_id).await?;
    let root = member.root();
    let done = member.query.get("done").map(|_| {
        notice(
            Tone::Good,
            "The endpoint is deleted, and what it had not settled is withdrawn.",
        )
    });
    let body = html! {
        (heading("Webhooks", Some("Settings: where this merchant is told of its payments.")))
        @if let Some(done) = done { (done) }
        (panel("Endpoints", html! {
            @if rows.is_empty() {
                (empty("No endpoint yet", "Without one, nobody is told of any payment."))
            } @else {
                (table(
                    "Endpoints", &["URL", "State", "Webhook API version", "Since"],
                    rows.iter().map(|row| list_row(&root, row)),
                ))
            }
            @if may_change(&member) {
                p { a class="button main" href={ (root) "/webhooks/new" } { "Add an endpoint" } }
            }
        }))
        (egress(&member))
        (panel("Which version has which event", versions::matrix()))
    };
    let frame = member.frame(Section::Webhooks);
    Ok(page(
        StatusCode::OK,
        document("Webhooks", Some(&frame), body),
    ))
}

fn list_row(root: &str, row: &EndpointRow) -> Markup {
    let endpoint = &row.endpoint;
    html! {
        tr {
            td { (endpoint_link(root, endpoint)) }
            td { (endpoint_state(row)) }
            td { (endpoint.version.describe()) }
            td { (time(endpoint.created_at)) }
        }
    }
}

fn egress(member: &Member) -> Markup {
    let addresses = &member.api.config.destinations.egress;
    panel(
        "Addresses to let through",
        html! {
            @if addresses.is_empty() {
                p class="quiet" {
                    "Webhooks of this server come from no fixed address. Its operator can name some in \
                     destinations.egress."
                }
            } @else {
                p { "Webhooks come from these, in " (member.api.config.environment) "." }
                (table("Addresses", &["Address", "Label"], addresses.iter().map(|egress| html! {
                    tr {
                        td { code { (egress.address) } }
                        td { (text(egress.label.as_deref().unwrap_or_default())) }
                    }
                })))
                p class="hint" { "For scripts: " code { "/egress.json" } ", " code { "/egress.txt" } }
            }
        },
    )
}

fn may_change(member: &Member) -> bool {
    member.role.may(Permission::ChangeEndpoints)
}

/// `GET …/webhooks/new`.
pub(super) async fn blank(member: Member) -> Answer {
    let typed = Typed {
        ladder: "day".to_owned(),
        success: "only_200".to_owned(),
        order: "hold".to_owned(),
        timeout_seconds: member
            .api
            .config
            .delivery
            .attempt_timeout
            .as_secs()
            .to_string(),
        switches: EventName::ALL
            .iter()
            .map(|name| (*name, "default".to_owned()))
            .collect(),
        ..Typed::default()
    };
    Ok(page(StatusCode::OK, new_page(&member, &typed, None)))
}

/// `POST …/webhooks/new`: the answer alone shows what was made up, and asks nobody anything any more.
pub(super) async fn create(member: Member) -> Answer {
    let typed = Typed::sent(&member.form);
    let made = async {
        let merchant_id = &member.merchant.merchant_id;
        let mut settings =
            typed.settings(password(&member).as_deref().map(String::as_str), None)?;
        settings.signing = Some(member.form.get("signing").is_some());
        let made = endpoints::draft(&member.api, merchant_id, settings).await?;
        let mut entry = about(&member, &made.endpoint, "made an endpoint");
        entry.detail = made.endpoint.url.clone();
        let act = endpoints::put(&member.api, &made.endpoint);
        let row = member.written_down(entry, act).await?;
        Ok::<_, ApiError>((made, row))
    };
    let (made, row) = match made.await {
        Ok(made) => made,
        Err(error) => {
            let error = refused(error)?;
            return Ok(page(error.status, new_page(&member, &typed, Some(&error))));
        }
    };
    let secrets = [
        ("Password", made.password.as_deref().map(String::as_str)),
        (
            "Signing secret",
            made.signing_secret.as_deref().map(String::as_str),
        ),
    ];
    let top = html! { (shown_once(&secrets)) (warnings(&made.warnings)) };
    let shown = one_page(&member, &row, &Typed::of(&row.endpoint), Said::top(top));
    Ok(page(StatusCode::CREATED, shown))
}

/// The password that was typed, if one was.
fn password(member: &Member) -> Option<Zeroizing<String>> {
    let typed = member
        .form
        .raw("password")
        .filter(|typed| !typed.is_empty());
    typed.map(|typed| Zeroizing::new(typed.to_owned()))
}

/// A refusal that is about a field of the form; anything else is no page of the form's.
fn refused(error: ApiError) -> Result<ApiError, ApiError> {
    match error.status.is_client_error() && error.status != StatusCode::NOT_FOUND {
        true => Ok(error),
        false => Err(error),
    }
}

fn new_page(member: &Member, typed: &Typed, error: Option<&ApiError>) -> Markup {
    let action = format!("{}/webhooks/new", member.root());
    let body = html! {
        (heading("A new endpoint", None))
        @if let Some(error) = error { (notice(Tone::Bad, super::answer::sentence(&error.message))) }
        (form(member, &action, html! {
            (fields(typed, None, error))
            (panel("Signing", html! {
                label class="choice" {
                    input type="checkbox" name="signing" value="true";
                    span { "Sign each webhook as well (Standard Webhooks); the secret is shown once." }
                }
            }))
            button class="main" { "Add the endpoint" }
        }))
    };
    document(
        "A new endpoint",
        Some(&member.frame(Section::Webhooks)),
        body,
    )
}

/// `GET …/webhooks/{endpoint_id}`.
pub(super) async fn one(member: Member) -> Answer {
    let row = found(&member).await?;
    let mut typed = Typed::of(&row.endpoint);
    if let Some(version) = member.query.raw("webhook_version") {
        version.trim().clone_into(&mut typed.webhook_version);
    }
    let done = member.query.get("done").map(|done| match done {
        "paused" => "It is paused: its deliveries wait.",
        "resumed" => "It is active again.",
        "unsigned" => "Nothing is signed any more.",
        _ => "The settings are saved.",
    });
    let top = done.map(|done| notice(Tone::Good, done));
    let shown = one_page(
        &member,
        &row,
        &typed,
        Said {
            top,
            ..Said::default()
        },
    );
    Ok(page(StatusCode::OK, shown))
}

/// `POST …/webhooks/{endpoint_id}`: saves, or shows what another version would change.
pub(super) async fn save(member: Member) -> Answer {
    let row = found(&member).await?;
    let typed = Typed::sent(&member.form);
    if member.form.get("act") == Some("preview") {
        let shown = one_page(&member, &row, &typed, Said::default());
        return Ok(page(StatusCode::OK, shown));
    }
    let saved = async {
        let (api, merchant_id) = (&member.api, &member.merchant.merchant_id);
        let password = password(&member);
        let password = password.as_deref().map(String::as_str);
        let settings = typed.settings(password, Some(&row.endpoint))?;
        let after = endpoints::would_be(api, &row.endpoint, settings.clone())?;
        let mut entry = about(&member, &row.endpoint, "changed an endpoint");
        entry.detail = what_changes(&row.endpoint, &after);
        let act = endpoints::set(api, merchant_id, &row.endpoint.endpoint_id, settings);
        member.written_down(entry, act).await
    };
    match saved.await {
        Ok((_, warned)) if warned.is_empty() => {
            Ok(see_other(&format!("{}?done=saved", member.path())))
        }
        Ok((after, warned)) => {
            let saved = notice(Tone::Good, "The settings are saved.");
            let top = html! { (saved) (warnings(&warned)) };
            let typed = Typed::of(&after.endpoint);
            let shown = one_page(&member, &after, &typed, Said::top(top));
            Ok(page(StatusCode::OK, shown))
        }
        Err(error) => {
            let error = refused(error)?;
            let said = Said {
                error: Some(&error),
                ..Said::default()
            };
            Ok(page(error.status, one_page(&member, &row, &typed, said)))
        }
    }
}

/// For the audit log: the settings that become others, and of secrets only that they do.
fn what_changes(before: &Endpoint, after: &Endpoint) -> String {
    let (old, new) = (Typed::of(before), Typed::of(after));
    let mut changes = Vec::new();
    let pairs = [
        ("url", &old.url, &new.url),
        ("username", &old.username, &new.username),
        ("version", &old.webhook_version, &new.webhook_version),
        ("ladder", &old.ladder, &new.ladder),
        ("steps", &old.steps, &new.steps),
        ("success", &old.success, &new.success),
        ("order", &old.order, &new.order),
        ("timeout", &old.timeout_seconds, &new.timeout_seconds),
        ("rate", &old.rate_per_second, &new.rate_per_second),
    ];
    for (name, old, new) in pairs {
        if old != new {
            changes.push(format!("{name} {old} to {new}"));
        }
    }
    for ((name, old), (_, new)) in old.switches.iter().zip(&new.switches) {
        if old != new {
            changes.push(format!("{name} {old} to {new}"));
        }
    }
    let unshown = [
        ("password", before.password != after.password),
        ("headers", before.headers != after.headers),
        ("authorities", before.ca_pem != after.ca_pem),
    ];
    let unshown = unshown.iter().filter(|(_, changed)| *changed);
    changes.extend(unshown.map(|(name, _)| (*name).to_owned()));
    changes.join("; ")
}

async fn found(member: &Member) -> Result<EndpointRow, ApiError> {
    let endpoint_id = EndpointId::new(member.param("endpoint_id"));
    endpoints::find(&member.api, &member.merchant.merchant_id, &endpoint_id).await
}

/// A line for the audit log about an endpoint.
fn about(member: &Member, endpoint: &Endpoint, action: &str) -> AuditEntry {
    let endpoint_id = endpoint.endpoint_id.as_str();
    member.entry(&member.merchant.merchant_id, action, endpoint_id)
}

/// The endpoint of the path, and a line for the audit log about something that is done to it.
async fn noted(member: &Member, action: &str) -> Result<(Endpoint, AuditEntry), ApiError> {
    let endpoint = found(member).await?.endpoint;
    let entry = about(member, &endpoint, action);
    Ok((endpoint, entry))
}

fn here(member: &Member, endpoint_id: &EndpointId) -> String {
    format!(
        "{}/webhooks/{}",
        member.root(),
        segment(endpoint_id.as_str())
    )
}

/// `POST …/webhooks/{endpoint_id}/pause`.
pub(super) async fn pause(member: Member) -> Answer {
    let (endpoint, mut entry) = noted(&member, "paused an endpoint").await?;
    let reason = member.form.get("reason").map(str::to_owned);
    entry.detail = reason.clone().unwrap_or_default();
    let (merchant_id, endpoint_id) = (&endpoint.merchant_id, &endpoint.endpoint_id);
    let act = endpoints::stop(&member.api, merchant_id, endpoint_id, reason);
    member.written_down(entry, act).await?;
    Ok(see_other(&format!(
        "{}?done=paused",
        here(&member, endpoint_id)
    )))
}

/// `POST …/webhooks/{endpoint_id}/resume`.
pub(super) async fn resume(member: Member) -> Answer {
    let (endpoint, mut entry) = noted(&member, "resumed an endpoint").await?;
    let (waiting, becomes) = match member.form.get("waiting") {
        Some("withdraw") => (endpoints::Waiting::Withdraw, "withdrawn"),
        _ => (endpoints::Waiting::Send, "sent"),
    };
    entry.detail = format!("what waited is {becomes}");
    let (merchant_id, endpoint_id) = (&endpoint.merchant_id, &endpoint.endpoint_id);
    let act = endpoints::go_on(&member.api, merchant_id, endpoint_id, waiting);
    member.written_down(entry, act).await?;
    Ok(see_other(&format!(
        "{}?done=resumed",
        here(&member, endpoint_id)
    )))
}

/// `POST …/webhooks/{endpoint_id}/delete`.
pub(super) async fn delete(member: Member) -> Answer {
    let (endpoint, mut entry) = noted(&member, "deleted an endpoint").await?;
    entry.detail.clone_from(&endpoint.url);
    let (merchant_id, endpoint_id) = (&endpoint.merchant_id, &endpoint.endpoint_id);
    let act = endpoints::take_away(&member.api, merchant_id, endpoint_id);
    member.written_down(entry, act).await?;
    Ok(see_other(&format!(
        "{}/webhooks?done=deleted",
        member.root()
    )))
}

/// `POST …/webhooks/{endpoint_id}/test`: the event's page has the whole result.
pub(super) async fn test(member: Member) -> Answer {
    let (endpoint, mut entry) = noted(&member, "sent a test").await?;
    let name = member.form.get("event_name").map(str::parse).transpose();
    let name: Option<EventName> =
        name.map_err(|_| ApiError::field("event_name", "is no event there is"))?;
    entry.detail = name.map_or(String::new(), |name| name.to_string());
    let act = endpoints::try_out(&member.api, &member.merchant, &endpoint.endpoint_id, name);
    let tested = member.written_down(entry, act).await?;
    let event_id = segment(tested.event_id.as_str());
    Ok(see_other(&format!(
        "{}/events/{event_id}?done=tested",
        member.root()
    )))
}

/// `POST …/webhooks/{endpoint_id}/signing`: another secret, which this answer alone shows.
pub(super) async fn sign(member: Member) -> Answer {
    let (endpoint, entry) = noted(&member, "made a signing secret").await?;
    let (merchant_id, endpoint_id) = (&endpoint.merchant_id, &endpoint.endpoint_id);
    let new = endpoints::NewSecret::default();
    let act = endpoints::add_secret(&member.api, merchant_id, endpoint_id, new);
    let (row, secret) = member.written_down(entry, act).await?;
    let secrets = [("Signing secret", secret.as_deref().map(String::as_str))];
    let said = Said::top(shown_once(&secrets));
    let shown = one_page(&member, &row, &Typed::of(&row.endpoint), said);
    Ok(page(StatusCode::CREATED, shown))
}

/// `POST …/webhooks/{endpoint_id}/signing/remove`.
pub(super) async fn unsign(member: Member) -> Answer {
    let (endpoint, entry) = noted(&member, "removed the signing secrets").await?;
    let (merchant_id, endpoint_id) = (&endpoint.merchant_id, &endpoint.endpoint_id);
    let act = endpoints::remove_secrets(&member.api, merchant_id, endpoint_id);
    member.written_down(entry, act).await?;
    Ok(see_other(&format!(
        "{}?done=unsigned",
        here(&member, endpoint_id)
    )))
}

/// What a page of an endpoint says besides.
#[derive(Default)]
struct Said<'a> {
    top: Option<Markup>,
    error: Option<&'a ApiError>,
}

impl Said<'_> {
    fn top(top: Markup) -> Self {
        Self {
            top: Some(top),
            error: None,
        }
    }
}

fn one_page(member: &Member, row: &EndpointRow, typed: &Typed, said: Said<'_>) -> Markup {
    let endpoint = &row.endpoint;
    let here = here(member, &endpoint.endpoint_id);
    let body = html! {
        (heading(html! { (text(&endpoint.url)) }, None))
        @if let Some(top) = said.top { (top) }
        @if let Some(error) = said.error { (notice(Tone::Bad, super::answer::sentence(&error.message))) }
        (state_panel(member, row, &here))
        @if may_change(member) {
            (form(member, &here, html! {
                (fields(typed, Some(endpoint), said.error))
                button class="main" name="act" value="save" { "Save" }
            }))
            (signing_panel(member, endpoint, &here))
            (panel("Delete", ask_first(member, "Delete…", &format!("{here}/delete"), html! {
                p class="hint" { "What it has not settled is withdrawn. Its history stays." }
                button class="danger" { "Delete the endpoint" }
            })))
        } @else {
            (settings_panel(typed))
        }
    };
    document("Endpoint", Some(&member.frame(Section::Webhooks)), body)
}

/// The settings for whoever may only look.
fn settings_panel(typed: &Typed) -> Markup {
    let version = if typed.webhook_version.is_empty() {
        "latest"
    } else {
        &typed.webhook_version
    };
    panel(
        "Settings",
        html! {
            dl class="facts" {
                dt { "Username" } dd { (text(&typed.username)) }
                dt { "Password" } dd { "set" }
                dt { "Webhook API version" } dd { (version) }
                dt { "Retries" } dd { (typed.ladder) " (" (typed.steps) " s)" }
                dt { "Success" } dd { (typed.success) }
                dt { "Order" } dd { (typed.order) }
                dt { "Time-out" } dd { (typed.timeout_seconds) " s" }
            }
        },
    )
}

fn state_panel(member: &Member, row: &EndpointRow, here: &str) -> Markup {
    let endpoint = &row.endpoint;
    let well = Health::default();
    let health = row.health.as_ref().unwrap_or(&well);
    panel(
        "State",
        html! {
            dl class="facts" {
                dt { "State" }
                dd {
                    (endpoint_state(row))
                    @match &endpoint.state {
                        EndpointState::Active => {}
                        EndpointState::Paused { reason, at } | EndpointState::Disabled { reason, at } => {
                            " " (text(reason)) ", " (time(*at))
                        }
                    }
                }
                dt { "Breaker" }
                dd {
                    @match health.breaker {
                        Breaker::Closed => "closed: as much is sent as it takes",
                        Breaker::Open { probe_at, .. } => { "open: one delivery at a time, the next " (time(probe_at)) }
                        Breaker::HalfOpen { window, .. } => { "half open: " (window) " at once, more as they succeed" }
                    }
                }
                @if let Some(since) = failing_since(row) {
                    dt { "Failing" }
                    dd { "for " (span(member.now.since(since))) ", since " (time(since)) }
                    dt { "Failures in a row" } dd { (health.failures) }
                }
                dt { "Id" } dd { (id(endpoint.endpoint_id.as_str())) }
                dt { "Since" } dd { (time(endpoint.created_at)) }
            }
            div class="acts" {
                @if member.role.may(Permission::Resend) {
                    (ask_first(member, "Send a test…", &format!("{here}/test"), html! {
                        (select("Event", "event_name", "ORDER_SUCCEEDED",
                            EventName::ALL.iter().map(|name| (name.as_str(), name.as_str()))))
                        button { "Send" }
                    }))
                }
                @if may_change(member) {
                    @if endpoint.state == EndpointState::Active {
                        (ask_first(member, "Pause…", &format!("{here}/pause"), html! {
                            (Field { label: "Why", name: "reason", hint: "For whoever wonders.", ..Field::default() })
                            button { "Pause" }
                        }))
                    } @else {
                        (ask_first(member, "Resume…", &format!("{here}/resume"), html! {
                            (select("What waited for it", "waiting", "send",
                                [("send", "is sent"), ("withdraw", "is withdrawn")]))
                            button { "Resume" }
                        }))
                    }
                }
            }
        },
    )
}

fn signing_panel(member: &Member, endpoint: &Endpoint, here: &str) -> Markup {
    let secrets: Vec<_> = endpoint.live_signing_secrets(member.now).collect();
    panel(
        "Signing",
        html! {
            @if secrets.is_empty() {
                p class="quiet" { "Webhooks carry Basic credentials, and no signature." }
            } @else {
                (table("Signing secrets", &["Since", "Until"], secrets.iter().map(|secret| html! {
                    tr {
                        td { (time(secret.since)) }
                        td { @match secret.until { Some(until) => (time(until)), None => "" } }
                    }
                })))
            }
            div class="acts" {
                (ask_first(member, "New secret…", &format!("{here}/signing"), html! {
                    p class="hint" { "It is shown once. The one before signs beside it for a day." }
                    button { "Make a secret" }
                }))
                @if !secrets.is_empty() {
                    (ask_first(member, "Stop signing…", &format!("{here}/signing/remove"), html! {
                        button class="danger" { "Forget the secrets" }
                    }))
                }
            }
        },
    )
}

fn shown_once(secrets: &[(&str, Option<&str>)]) -> Markup {
    html! {
        @for (index, (name, secret)) in secrets.iter().enumerate() {
            @if let Some(secret) = secret {
                div class="notice good" role="status" {
                    (name) ", shown this once:"
                    code class="secret" id={ "secret-" (index) } { (secret) }
                    button type="button" data-copy={ "secret-" (index) } { "Copy" }
                }
            }
        }
    }
}

fn warnings(warnings: &[String]) -> Markup {
    html! { @for warning in warnings { (notice(Tone::Warn, super::answer::sentence(warning))) } }
}

fn fields(typed: &Typed, before: Option<&Endpoint>, error: Option<&ApiError>) -> Markup {
    let of = |name| wrong(error, name);
    html! {
        (panel("Where and how", html! {
            (Field {
                label: "URL", name: "url", kind: "url", value: &typed.url, is_required: true,
                hint: "https, at a public address.", error: of("url"), ..Field::default()
            })
            div class="row" {
                (Field {
                    label: "Username", name: "username", value: &typed.username, is_required: true,
                    hint: "Letters and digits; no special characters such as @.",
                    error: of("username"), autocomplete: Some("off"), ..Field::default()
                })
                (Field {
                    label: "Password", name: "password", kind: "password",
                    hint: match before {
                        Some(_) => "Set, and never shown. Leave it empty to keep it.",
                        None => "Leave it empty to have one made up.",
                    },
                    error: of("password"), autocomplete: Some("new-password"), ..Field::default()
                })
            }
            @if before.is_some() {
                (select("When the credentials change, those before them", "overlap_seconds",
                    &typed.overlap_seconds,
                    [("0", "end at once"), ("3600", "stay good for an hour"),
                        ("86400", "stay good for a day"), ("604800", "stay good for 7 days")]))
            }
        }))
        (panel("Webhook API version", html! {
            (version_chooser(typed, before, of("webhook_version")))
        }))
        (panel("Events", switches(typed, before)))
        details class="panel" open[error.is_some()] {
            summary { "Retries, success, order, rate, headers, authorities" }
            (habits(typed, error))
        }
    }
}

fn version_chooser(typed: &Typed, before: Option<&Endpoint>, error: Option<&str>) -> Markup {
    let mut choices: Vec<(String, String)> = versions::known()
        .iter()
        .map(|version| (version.to_string(), version.describe()))
        .collect();
    if choices
        .iter()
        .all(|(value, _)| *value != typed.webhook_version)
    {
        choices.push((typed.webhook_version.clone(), typed.webhook_version.clone()));
    }
    let chosen = typed.webhook_version.parse();
    html! {
        (select("Version", "webhook_version", &typed.webhook_version,
            choices.iter().map(|(value, shown)| (value.as_str(), shown.as_str()))))
        @if let Some(error) = error { p class="error" { (error) } }
        @if let Some(before) = before {
            button name="act" value="preview" { "Show what it changes" }
            @if let Ok(chosen) = chosen { (versions::preview(before.version, chosen)) }
        }
    }
}

fn switches(typed: &Typed, before: Option<&Endpoint>) -> Markup {
    html! {
        (table(
            "Events", &["Event", "What it says", "From version", "Sent"],
            typed.switches.iter().map(|(name, word)| {
                let field = switch_name(*name);
                html! {
                    tr {
                        td { label for=(field) { code { (name) } } }
                        td class="quiet" { (catalog::description(*name)) }
                        td { (catalog::since(*name).to_string()) }
                        td {
                            select id=(field) name=(field) {
                                @for (value, shown) in [("default", "as usual"), ("on", "on"), ("off", "off")] {
                                    option value=(value) selected[value == word] { (shown) }
                                }
                            }
                            @if let Some(Err(why)) = before.map(|endpoint| endpoint.wants(*name)) {
                                div class="hint" { (badge(Tone::Plain, "not sent")) " " (why.to_string()) }
                            }
                        }
                    }
                }
            }),
        ))
    }
}

fn habits(typed: &Typed, error: Option<&ApiError>) -> Markup {
    let of = |name| wrong(error, name);
    html! {
        div class="row" {
            (select("Retries", "ladder", &typed.ladder, [
                ("day", "16 within 24 hours"), ("three-days", "24 within 72 hours"),
                ("month", "45 within 30 days"), ("custom", "steps of my own"),
            ]))
            (Field {
                label: "Steps in seconds", name: "steps", value: &typed.steps, error: of("ladder"),
                hint: "For steps of one's own: 60, 300, 300…", ..Field::default()
            })
        }
        div class="row" {
            (select("Success is", "success", &typed.success,
                [("only_200", "exactly 200"), ("any_2xx", "any 2xx")]))
            (select("Order within a payment", "order", &typed.order, [
                ("hold", "first attempts in order"), ("strict", "each after the one before"),
                ("none", "none"),
            ]))
        }
        div class="row" {
            (Field {
                label: "Time-out in seconds", name: "timeout_seconds", value: &typed.timeout_seconds,
                error: of("timeout_seconds"), ..Field::default()
            })
            (Field {
                label: "Attempts in a second, at most", name: "rate_per_second",
                value: &typed.rate_per_second, hint: "Empty: as many as it takes well.",
                error: of("rate_per_second"), ..Field::default()
            })
        }
        (area("More headers, one a line", "headers", &typed.headers, "Name: value", of("headers")))
        (area("Authorities of its certificate, as PEM", "ca_pem", &typed.ca_pem,
            "Besides those that this server trusts.", of("ca_pem")))
    }
}

fn area(label: &str, name: &str, value: &str, hint: &str, error: Option<&str>) -> Markup {
    html! {
        div class={ "field" @if error.is_some() { " wrong" } } {
            label for=(name) { (label) }
            textarea id=(name) name=(name) rows="4" spellcheck="false" { "\n" (value) }
            @if let Some(error) = error { p class="error" { (error) } }
            p class="hint" { (hint) }
        }
    }
}

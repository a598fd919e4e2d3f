//! Recovery: events that an endpoint never got, found by what became of them and sent again at a rate.
//!
//! A look at what a job would find is a page of its own address and stores nothing; making the job takes
//! the same fields. The rules are the core's and `api/replays.rs` asks them; here they are typed and shown.

mod typed;

use harkara_core::id::{MerchantId, ReplayJobId};
use harkara_core::replay::{Done, Job, JobState, RATE, RATE_MAX, Standing, Wish};
use harkara_webhook::EventName;
use http::StatusCode;
use maud::{Markup, html};

use self::typed::Typed;
use super::answer::{form_status, page, sentence, wrong};
use super::components::{
    Field, Live, Section, Tone, ask_first, badge, document, empty, form, heading, id, live_part,
    notice, panel, select, span, table, text, time,
};
use super::gate::{Answer, Member};
use super::live::{self, Picture, Scene};
use super::parts::segment;
use crate::api::replays::{self, Preview};
use crate::api::{Api, see_other};
use crate::error::ApiError;
use crate::keys::random_id;
use crate::replay::Look;
use crate::store::EndpointRow;

/// Jobs that one page has.
const PAGE: usize = 50;

/// Events that are looked at for a preview, unless somebody asks for all.
const LOOKS: usize = 20_000;

/// Deliveries that are counted each time a job is shown.
const COUNTED: u32 = 10_000;

/// `GET …/recovery`: the jobs, and with an endpoint in the query what a new one would find.
pub(super) async fn show(member: Member) -> Answer {
    if member.query.get("endpoint_id").is_none() {
        return show_with(&member, StatusCode::OK, &Typed::default(), Said::default()).await;
    }
    let typed = Typed::sent(&member.query);
    let how_far = match member.query.get("all") {
        Some(_) => Look::Whole,
        None => Look::At(LOOKS),
    };
    let merchant_id = &member.merchant.merchant_id;
    let found =
        async { replays::look_ahead(&member.api, merchant_id, typed.asked()?, how_far).await };
    match found.await {
        Ok(preview) => {
            let shown = preview_panel(&member, &typed, &preview);
            let said = Said {
                below: Some(shown),
                error: None,
            };
            show_with(&member, StatusCode::OK, &typed, said).await
        }
        Err(error) => show_refused(&member, &typed, error).await,
    }
}

/// `POST …/recovery`: makes the job. The form has a key, so that sending it twice makes one.
pub(super) async fn make(member: Member) -> Answer {
    let typed = Typed::sent(&member.form);
    let asked = match (typed.asked(), member.form.get("key")) {
        (Ok(asked), key) if key.is_none_or(is_key) => asked,
        (Ok(_), _) => {
            let message = "this form is none of ours; load the page again and send it once more";
            return Err(ApiError::invalid("invalid_request", message));
        }
        (Err(error), _) => return show_refused(&member, &typed, error).await,
    };
    let merchant_id = &member.merchant.merchant_id;
    let named = replays::Named::new(&member.api, merchant_id);
    let mut entry = member.entry(merchant_id, "began a replay", named.id.as_str());
    entry.detail = typed.in_words();
    let key = member.form.get("key");
    let made = replays::make(&member.api, merchant_id, (named, asked), key);
    match member.written_down(entry, made).await {
        Ok((job, _)) => Ok(see_other(&job_path(&member.root(), &job.id))),
        Err(error) => show_refused(&member, &typed, error).await,
    }
}

/// Whether a key is one that a page of ours made up.
fn is_key(key: &str) -> bool {
    key.len() <= 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The page with why it cannot be, and all that was typed.
async fn show_refused(member: &Member, typed: &Typed, error: ApiError) -> Answer {
    if !error.status.is_client_error() {
        return Err(error);
    }
    let said = Said {
        error: Some(&error),
        below: None,
    };
    show_with(member, form_status(&error), typed, said).await
}

/// What the page says besides.
#[derive(Default)]
struct Said<'e> {
    error: Option<&'e ApiError>,
    /// Below the form.
    below: Option<Markup>,
}

async fn show_with(member: &Member, status: StatusCode, typed: &Typed, said: Said<'_>) -> Answer {
    let merchant_id = &member.merchant.merchant_id;
    let endpoints = member.api.store.endpoint_rows(merchant_id).await?;
    let jobs = Jobs::of(member);
    let shown = jobs.draw().await?;
    let root = member.root();
    let live = format!("{root}/live/recovery?{}", jobs.query());
    let body = html! {
        (heading("Recovery", Some("Send again what an endpoint never got: the same bytes, at a rate of your choice.")))
        @if let Some(error) = said.error { (notice(Tone::Bad, sentence(&error.message))) }
        @if endpoints.is_empty() {
            (panel("A new replay", empty("No endpoint yet", html! {
                "There is nowhere to send anything: " a href={ (root) "/webhooks" } { "add an endpoint" } "."
            })))
        } @else {
            (ask_panel(&root, &endpoints, typed, said.error))
        }
        @if let Some(below) = said.below { (below) }
        (live_part(Live::List, &live, shown))
    };
    let frame = member.frame(Section::Recovery);
    Ok(page(status, document("Recovery", Some(&frame), body)))
}

/// The form that asks what a job would find. Asking changes nothing, so it is a link like any other.
fn ask_panel(
    root: &str,
    endpoints: &[EndpointRow],
    typed: &Typed,
    error: Option<&ApiError>,
) -> Markup {
    let of = |name| wrong(error, name);
    let options = || {
        let rows = endpoints.iter();
        rows.map(|row| (row.endpoint.endpoint_id.as_str(), row.endpoint.url.as_str()))
    };
    let to = std::iter::once(("", "the same endpoint")).chain(options());
    let states = [
        (Standing::Exhausted, "exhausted: every attempt failed"),
        (
            Standing::Withdrawn,
            "withdrawn: taken back before it arrived",
        ),
        (
            Standing::Withheld,
            "withheld: its version or switches kept it back",
        ),
        (Standing::Pending, "pending: still being tried"),
        (
            Standing::Delivered,
            "delivered: it has it, and gets it once more",
        ),
    ];
    panel(
        "A new replay",
        html! {
            form method="get" action={ (root) "/recovery" } {
                div class="row" {
                    (select("Events of", "endpoint_id", &typed.endpoint_id, options()))
                    (select("Send them to", "to_endpoint_id", &typed.to_endpoint_id, to))
                }
                div class="row" {
                    (Field {
                        label: "From (UTC)", name: "from", kind: "datetime-local", value: &typed.from,
                    error: of("from"),
                        ..Field::default()
                    })
                    (Field {
                        label: "Until (UTC)", name: "to", kind: "datetime-local", value: &typed.to,
                    error: of("to"),
                        ..Field::default()
                    })
                    (Field {
                        label: "Events a second", name: "rate", kind: "number", value: &typed.rate,
                    error: of("rate"),
                        ..Field::default()
                    })
                }
                fieldset {
                    legend { "Which are" }
                    @if let Some(why) = of("states") { p class="error" { (why) } }
                    @for (state, says) in states {
                        label class="choice" {
                            input type="checkbox" name="states" value=(typed::word(state))
                                checked[typed.states.contains(&state)];
                            span { (says) }
                        }
                    }
                }
                details open[!typed.event_names.is_empty() || of("event_names").is_some()] {
                    summary { "Of these events alone" }
                    @if let Some(why) = of("event_names") { p class="error" { (why) } }
                    fieldset class="columns" {
                        legend class="unseen" { "Events" }
                        @for name in EventName::ALL {
                            label class="choice" {
                                input type="checkbox" name="event_names" value=(name)
                                    checked[typed.event_names.contains(name)];
                                span { code { (name) } }
                            }
                        }
                    }
                }
                button class="main" { "Show what it would send" }
                p class="hint" {
                    "Nothing is sent yet. A rate is 1 to " (RATE_MAX) "; " (RATE) " when it is left empty."
                }
            }
        },
    )
}

/// What a job would find, with the button that makes it.
fn preview_panel(member: &Member, typed: &Typed, preview: &Preview) -> Markup {
    let survey = &preview.survey;
    let sent = survey.matched - survey.skipped.items();
    let estimate = std::time::Duration::from_secs(preview.estimated_seconds.into());
    panel(
        "What it would send",
        html! {
            p class="figure" { @if survey.is_partial { "At least " } (events(sent)) }
            @if survey.is_partial {
                p class="quiet" {
                    "There are many events, of which the oldest were looked at. "
                    @let all = member.query.without("all").append_pair("all", "1").finish();
                    a href={ "?" (all) } { "Look at all of them" }
                    " to know how many fit; it may take some seconds."
                }
            }
            @for note in &preview.notes { (notice(Tone::Warn, sentence(note))) }
            dl class="facts" {
                dt { "Found" } dd { (events(survey.matched)) }
                @if survey.skipped.items() > 0 { dt { "Left out" } dd { (skipped(survey.skipped)) } }
                @if let Some(oldest_at) = survey.oldest_at { dt { "Oldest" } dd { (time(oldest_at)) } }
                @if let Some(newest_at) = survey.newest_at { dt { "Newest" } dd { (time(newest_at)) } }
                dt { "At this rate" } dd { (preview.definition.rate) " a second, about " (span(estimate)) }
            }
            @if sent > 0 && may_replay(member) {
                (form(member, &format!("{}/recovery", member.root()), html! {
                    input type="hidden" name="key" value=(random_id());
                    @for (name, value) in typed.pairs() {
                        input type="hidden" name=(name) value=(value);
                    }
                    button class="main" {
                        @if survey.is_partial { "Replay all that fit" } @else { "Replay " (events(sent)) }
                    }
                }))
            }
        },
    )
}

fn may_replay(member: &Member) -> bool {
    member.role.may(harkara_core::access::Permission::Resend)
}

fn events(count: u32) -> String {
    match count {
        1 => "1 event".to_owned(),
        count => format!("{count} events"),
    }
}

/// Why some of them are not sent, in words.
fn skipped(done: Done) -> String {
    let reasons = [
        (done.below_version, "by the endpoint's version"),
        (done.switched_off, "by its switches"),
        (done.delivered, "for they arrived meanwhile"),
        (done.without_body, "for their bodies are kept no longer"),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<_> = reasons
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    reasons.join(", ")
}

/// `GET …/live/recovery`: the list again, whenever it has changed.
pub(super) async fn list_live(member: Member) -> Answer {
    live::stream(&member.api, Jobs::of(&member))
}

/// A page of the list of jobs.
struct Jobs {
    api: Api,
    merchant_id: MerchantId,
    root: String,
    before: Option<ReplayJobId>,
}

impl Jobs {
    fn of(member: &Member) -> Self {
        Self {
            api: member.api.clone(),
            merchant_id: member.merchant.merchant_id.clone(),
            root: member.root(),
            before: member.query.get("before").map(ReplayJobId::new),
        }
    }

    /// Which page of the list it is, for its live part.
    fn query(&self) -> String {
        let before = self.before.as_ref();
        before.map_or(String::new(), |before| {
            format!("before={}", segment(before.as_str()))
        })
    }
}

impl Scene for Jobs {
    async fn draw(&self) -> Result<Markup, ApiError> {
        let before = self.before.clone();
        let mut jobs = self
            .api
            .store
            .replay_jobs(&self.merchant_id, before, PAGE + 1)
            .await?;
        let is_more = jobs.len() > PAGE;
        jobs.truncate(PAGE);
        let next = jobs
            .last()
            .filter(|_| is_more)
            .map(|job| segment(job.id.as_str()));
        let rows = self.api.store.endpoint_rows(&self.merchant_id).await?;
        Ok(panel(
            "Replays",
            html! {
                @if jobs.is_empty() {
                    (empty("No replays yet", "Each that is begun is listed here, with how far it is."))
                } @else {
                    (table(
                        "Replays", &["Replay", "To", "State", "Progress", "Begun"],
                        jobs.iter().map(|job| html! {
                            tr {
                                td { a class="id" href=(job_path(&self.root, &job.id)) { (text(job.id.as_str())) } }
                                td class="id" { (text(&url_of(&rows, job))) }
                                td { (state(job)) }
                                td { (progress(job)) }
                                td { (time(job.created_at)) }
                            }
                        }),
                    ))
                    @if let Some(next) = next { p { a href={ "?before=" (next) } { "Older replays" } } }
                }
            },
        ))
    }
}

/// Where a job sends to; the id of an endpoint that is gone.
fn url_of(rows: &[EndpointRow], job: &Job) -> String {
    let to = &job.definition.to_endpoint_id;
    let row = rows.iter().find(|row| row.endpoint.endpoint_id == *to);
    row.map_or_else(|| to.to_string(), |row| row.endpoint.url.clone())
}

fn state(job: &Job) -> Markup {
    match job.state {
        JobState::Running => badge(Tone::Plain, "running"),
        JobState::Paused => badge(Tone::Warn, "paused"),
        JobState::Cancelled => badge(Tone::Warn, "cancelled"),
        JobState::Finished => badge(Tone::Good, "finished"),
    }
}

fn progress(job: &Job) -> Markup {
    let (done, all) = (job.done.items(), job.matched);
    html! {
        div class="progress" {
            progress value=(done) max=(all) aria-label={ (done) " of " (all) } {}
            span class="quiet" { (done) " of " (all) }
        }
    }
}

fn job_path(root: &str, job_id: &ReplayJobId) -> String {
    format!("{root}/recovery/{}", segment(job_id.as_str()))
}

/// `GET …/recovery/{job_id}`.
pub(super) async fn one(member: Member) -> Answer {
    let one = One::of(&member);
    let job = replays::find(&one.api, &one.merchant_id, &one.job_id).await?;
    let shown = one.draw().await?;
    let here = job_path(&member.root(), &job.id);
    let live = format!(
        "{}/live/recovery/{}",
        member.root(),
        segment(job.id.as_str())
    );
    let body = html! {
        (heading(html! { "Replay " (text(job.id.as_str())) }, None))
        @if member.query.get("done").is_some() {
            (notice(Tone::Warn, "It had ended before that, and stays as it is."))
        }
        @if may_replay(&member) { (acts(&member, &job, &here)) }
        (live_part(Live::Whole, &live, shown))
    };
    let frame = member.frame(Section::Recovery);
    Ok(page(StatusCode::OK, document("Replay", Some(&frame), body)))
}

/// What may be done to a job that has not ended.
fn acts(member: &Member, job: &Job, here: &str) -> Markup {
    let go_on = match job.state {
        JobState::Running => ("pause", "Pause"),
        JobState::Paused => ("resume", "Resume"),
        JobState::Cancelled | JobState::Finished => return html! {},
    };
    html! {
        div class="acts" {
            (form(member, &format!("{here}/{}", go_on.0), html! { button { (go_on.1) } }))
            (ask_first(member, "Cancel…", &format!("{here}/cancel"), html! {
                p class="hint" { "For good. What it has sent already stays sent." }
                button class="danger" { "Cancel the replay" }
            }))
        }
    }
}

/// `GET …/live/recovery/{job_id}`: the job again, whenever it has gone on.
pub(super) async fn one_live(member: Member) -> Answer {
    live::stream(&member.api, One::of(&member))
}

/// A job with how far it is.
struct One {
    api: Api,
    merchant_id: MerchantId,
    root: String,
    job_id: ReplayJobId,
}

impl One {
    fn of(member: &Member) -> Self {
        Self {
            api: member.api.clone(),
            merchant_id: member.merchant.merchant_id.clone(),
            root: member.root(),
            job_id: ReplayJobId::new(member.param("job_id")),
        }
    }
}

impl Scene for One {
    async fn draw(&self) -> Result<Markup, ApiError> {
        Ok(self.picture().await?.shown)
    }

    async fn picture(&self) -> Result<Picture, ApiError> {
        let job = replays::find(&self.api, &self.merchant_id, &self.job_id).await?;
        let delivered = match job.done.replayed {
            0..=COUNTED => Some(self.api.store.delivered_by_replay_job(&job).await?),
            _ => None,
        };
        let has_ended = matches!(job.state, JobState::Cancelled | JobState::Finished);
        Ok(Picture {
            shown: self.shown(&job, delivered).await?,
            is_last: has_ended && delivered.is_none_or(|all| all == job.done.replayed),
        })
    }
}

impl One {
    async fn shown(&self, job: &Job, delivered: Option<u32>) -> Result<Markup, ApiError> {
        let rows = self.api.store.endpoint_rows(&self.merchant_id).await?;
        Ok(html! {
            (panel("Progress", html! {
                p { (state(job)) @if let Some(reason) = &job.reason { " " (text(reason)) } }
                (progress(job))
                dl class="facts" {
                    dt { "Found" } dd { (events(job.matched)) }
                    dt { "Sent again" }
                    dd {
                        (job.done.replayed)
                        @match delivered {
                            Some(delivered) => { ", of which " (delivered) " have arrived" }
                            None => ", too many to count here which have arrived",
                        }
                    }
                    @if job.done.items() > job.done.replayed { dt { "Left out" } dd { (skipped(job.done)) } }
                    @if matches!(job.state, JobState::Running | JobState::Paused) {
                        dt { "Left" }
                        dd { "about " (span(std::time::Duration::from_secs(job.remaining_seconds().into()))) }
                    }
                    dt { "Since" } dd { (time(job.changed_at)) }
                }
            }))
            (self.asked(job, &rows))
        })
    }

    /// What the job was asked to do.
    fn asked(&self, job: &Job, rows: &[EndpointRow]) -> Markup {
        let definition = &job.definition;
        let names: Vec<_> = definition
            .event_names
            .iter()
            .map(|name| name.as_str())
            .collect();
        let states: Vec<_> = definition
            .states
            .iter()
            .map(|state| typed::word(*state))
            .collect();
        panel(
            "What was asked",
            html! {
                dl class="facts" {
                    dt { "Events of" } dd { (id(definition.endpoint_id.as_str())) }
                    dt { "Sent to" } dd { (text(&url_of(rows, job))) }
                    dt { "Which were" } dd { (states.join(", ")) }
                    dt { "Names" } dd { @if names.is_empty() { "all" } @else { (names.join(", ")) } }
                    dt { "From" } dd { @match definition.from { Some(from) => (time(from)), None => "the beginning" } }
                    dt { "Until" } dd { @match definition.to { Some(to) => (time(to)), None => "when it was begun" } }
                    dt { "Rate" } dd { (definition.rate) " a second" }
                    dt { "Begun" } dd { (time(job.created_at)) }
                }
                p { a href={ (self.root) "/recovery" } { "All replays" } }
            },
        )
    }
}

/// `POST …/recovery/{job_id}/pause`.
pub(super) async fn pause(member: Member) -> Answer {
    change(&member, Wish::Pause, "paused a replay").await
}

/// `POST …/recovery/{job_id}/resume`.
pub(super) async fn resume(member: Member) -> Answer {
    change(&member, Wish::Resume, "resumed a replay").await
}

/// `POST …/recovery/{job_id}/cancel`.
pub(super) async fn cancel(member: Member) -> Answer {
    change(&member, Wish::Cancel, "cancelled a replay").await
}

async fn change(member: &Member, wish: Wish, action: &str) -> Answer {
    let merchant_id = &member.merchant.merchant_id;
    let job_id = ReplayJobId::new(member.param("job_id"));
    let here = job_path(&member.root(), &job_id);
    let entry = member.entry(merchant_id, action, job_id.as_str());
    let act = replays::change(&member.api, merchant_id, &job_id, wish);
    match member.written_down(entry, act).await {
        Ok(_) => Ok(see_other(&here)),
        // The page that somebody pressed it on was older than its end.
        Err(error) if error.code == "replay.ended" => Ok(see_other(&format!("{here}?done=ended"))),
        Err(error) => Err(error),
    }
}

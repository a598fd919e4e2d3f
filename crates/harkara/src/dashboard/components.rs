//! What all pages are made of: the frame around them, and a handful of parts.
//!
//! Values in, markup out. A page says what it shows, here is how such things look; `static/harkara.css`
//! has the rest. What somebody else wrote goes through [`text`], which shows what would hide.

use std::time::Duration;

use harkara_core::access::{Permission, Role};
use harkara_core::time::Timestamp;
use maud::{DOCTYPE, Markup, Render, html};

use super::gate::{Member, Place, SignedIn, Staff};
use super::live::OVER;
use super::{ROOT, assets};

/// A part of the dashboard, as the navigation has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Merchants,
    Overview,
    Orders,
    Events,
    Recovery,
    Webhooks,
    Test,
    Catalogue,
    Keys,
    Members,
    Audit,
    System,
    Account,
}

/// A line of the navigation: where it leads below its scope, and for whom.
type Line = (Section, &'static str, &'static str, Permission);

#[rustfmt::skip]
const OF_PLATFORM: &[Line] = &[
    (Section::Merchants, "Merchants", "/merchants", Permission::SeeTraffic),
    (Section::Members, "Members", "/members", Permission::ChangeMembers),
    (Section::Keys, "API keys", "/keys", Permission::ChangeKeys),
    (Section::Audit, "Audit", "/audit", Permission::ReadAudit),
    (Section::System, "System", "/system", Permission::SeeSystem),
];

#[rustfmt::skip]
const OF_MERCHANT: &[Line] = &[
    (Section::Overview, "Overview", "", Permission::SeeTraffic),
    (Section::Orders, "Orders", "/orders", Permission::SeeTraffic),
    (Section::Events, "Events", "/events", Permission::SeeTraffic),
    (Section::Recovery, "Recovery", "/recovery", Permission::SeeTraffic),
    (Section::Webhooks, "Webhooks", "/webhooks", Permission::SeeTraffic),
    (Section::Test, "Test", "/test", Permission::Resend),
    (Section::Catalogue, "Catalogue", "/catalogue", Permission::SeeTraffic),
    (Section::Keys, "API keys", "/keys", Permission::ChangeKeys),
    (Section::Members, "Members", "/members", Permission::ChangeMembers),
    (Section::Audit, "Audit", "/audit", Permission::ReadAudit),
];

/// What is around a page for somebody who is signed in.
pub(super) struct Frame<'a> {
    signed: &'a SignedIn,
    section: Section,
    /// The merchant that the page is about, and where its pages are.
    merchant: Option<(&'a str, String)>,
    role: Option<Role>,
}

impl SignedIn {
    /// Around a page that is about themselves.
    pub(super) fn frame(&self, section: Section) -> Frame<'_> {
        Frame {
            signed: self,
            section,
            merchant: None,
            role: self.platform_role(),
        }
    }
}

impl Staff {
    /// Around a page about the platform.
    pub(super) fn frame(&self, section: Section) -> Frame<'_> {
        self.signed.frame(section)
    }
}

impl Member {
    /// Where this merchant's pages are.
    pub(super) fn root(&self) -> String {
        merchant_root(self.merchant.merchant_id.as_str())
    }

    /// Around a page about this merchant.
    pub(super) fn frame(&self, section: Section) -> Frame<'_> {
        Frame {
            signed: &self.signed,
            section,
            merchant: Some((self.merchant.merchant_id.as_str(), self.root())),
            role: Some(self.role),
        }
    }
}

impl Place {
    /// Where the pages of this place are.
    pub(super) fn root(&self) -> String {
        match self {
            Self::Platform(_) => ROOT.to_owned(),
            Self::Merchant(member) => member.root(),
        }
    }

    /// Around a page about this place.
    pub(super) fn frame(&self, section: Section) -> Frame<'_> {
        match self {
            Self::Platform(staff) => staff.frame(section),
            Self::Merchant(member) => member.frame(section),
        }
    }
}

/// The first page of the platform for whoever has this role there.
pub(super) fn first_of_platform(role: Role) -> String {
    first(OF_PLATFORM, ROOT, role)
}

/// The first page of a merchant for whoever has this role there.
pub(super) fn first_of_merchant(merchant_id: &str, role: Role) -> String {
    first(OF_MERCHANT, &merchant_root(merchant_id), role)
}

fn first(lines: &[Line], root: &str, role: Role) -> String {
    let mut lines = lines.iter();
    let seen = lines.find(|(_, _, _, permission)| role.may(*permission));
    // Every role sees something; a test asks each of them.
    format!("{root}{}", seen.map_or("", |(_, _, path, _)| *path))
}

/// Where a merchant's pages are.
fn merchant_root(merchant_id: &str) -> String {
    format!("{ROOT}/merchants/{merchant_id}")
}

impl Frame<'_> {
    fn lines(&self) -> Vec<(Section, &'static str, String)> {
        let (lines, root) = match &self.merchant {
            Some((_, root)) => (OF_MERCHANT, root.as_str()),
            None => (OF_PLATFORM, ROOT),
        };
        let may = |permission| self.role.is_some_and(|role| role.may(permission));
        lines
            .iter()
            .filter(|(_, _, _, permission)| may(*permission))
            .map(|(section, label, path, _)| (*section, *label, format!("{root}{path}")))
            .collect()
    }
}

/// A whole page, with what is around it if somebody is signed in.
pub(super) fn document(title: &str, frame: Option<&Frame<'_>>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(HTMX);
                title { (title) " · Harkara" }
                link rel="stylesheet" href=(assets::style());
                @for script in assets::scripts() { script src=(script) defer {} }
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                @if let Some(frame) = frame { (header(frame)) }
                main id="main" tabindex="-1" { (body) }
                @if frame.is_some() { (keys()) }
            }
        }
    }
}

/// What the keyboard does, for whoever presses `?`.
fn keys() -> Markup {
    let keys = [
        ("/", "search"),
        ("j, k", "next row, row before"),
        ("r", "to the button that resends"),
        ("?", "this list"),
    ];
    html! {
        div id="keys" popover="auto" {
            h2 { "Keys" }
            dl class="facts" {
                @for (key, does) in keys { dt { kbd { (key) } } dd { (does) } }
            }
        }
    }
}

/// No style of its own, which the policy would refuse, and nothing kept of pages that were left.
const HTMX: &str = "extensions:\"sse,harkara\",includeIndicatorCSS:false,history:false";

fn header(frame: &Frame<'_>) -> Markup {
    let signed = frame.signed;
    html! {
        header class="top" {
            a class="brand" href=(ROOT) { "Harkara" }
            @if let Some((merchant_id, root)) = &frame.merchant {
                a class="scope" href=(root) { (merchant_id) }
            }
            nav aria-label="Sections" {
                @for (section, label, href) in frame.lines() {
                    a href=(href) aria-current=[(section == frame.section).then_some("page")] { (label) }
                }
            }
            div class="who" {
                a href={ (ROOT) "/account" }
                    aria-current=[(frame.section == Section::Account).then_some("page")] {
                    (text(&signed.user.name))
                }
                (form(signed, &format!("{ROOT}/sign-out"), html! {
                    button class="plain" { "Sign out" }
                }))
            }
        }
    }
}

/// A form that changes something, with the token that says it is of this sign-in.
pub(super) fn form(signed: &SignedIn, action: &str, body: Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            input type="hidden" name="form_token" value=(signed.form_token);
            (body)
        }
    }
}

/// A form behind a click, for what is better thought about once more. It opens without scripts.
pub(super) fn ask_first(signed: &SignedIn, label: &str, action: &str, body: Markup) -> Markup {
    html! {
        details class="ask" {
            summary { (label) }
            (form(signed, action, body))
        }
    }
}

/// Whether a live part changes under whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    Whole,
    /// Not while somebody reads further down in it.
    List,
}

/// A part of a page that comes again from `href` whenever it has changed (`live.rs`).
pub(super) fn live_part(kind: Live, href: &str, shown: Markup) -> Markup {
    let kind = match kind {
        Live::Whole => "",
        Live::List => "list",
    };
    html! {
        div data-live=(kind) hx-sse:connect=(href) hx-sse:close=(OVER) hx-swap="innerMorph" hx-target="this" { (shown) }
    }
}

/// A block with a heading.
pub(super) fn panel(title: &str, body: Markup) -> Markup {
    html! {
        section class="panel" {
            h2 { (title) }
            (body)
        }
    }
}

/// The head of a page: what it is, and a sentence about it.
pub(super) fn heading(title: impl Render, lead: Option<&str>) -> Markup {
    html! {
        div class="heading" {
            h1 { (title) }
            @if let Some(lead) = lead { p class="quiet" { (lead) } }
        }
    }
}

/// A table that scrolls by itself where it is too wide.
pub(super) fn table(
    caption: &str,
    columns: &[&str],
    rows: impl IntoIterator<Item = Markup>,
) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption class="unseen" { (caption) }
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody { @for row in rows { (row) } }
            }
        }
    }
}

/// How good or bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Plain,
    Warn,
    Bad,
}

/// A word that stands out.
pub(super) fn badge(tone: Tone, word: &str) -> Markup {
    let class = match tone {
        Tone::Good => "badge good",
        Tone::Plain => "badge",
        Tone::Warn => "badge warn",
        Tone::Bad => "badge bad",
    };
    html! { span class=(class) { (word) } }
}

/// A sentence about what was done or what is wrong.
pub(super) fn notice(tone: Tone, body: impl Render) -> Markup {
    let (class, role) = match tone {
        Tone::Good => ("notice good", "status"),
        Tone::Plain => ("notice", "status"),
        Tone::Warn => ("notice warn", "status"),
        Tone::Bad => ("notice bad", "alert"),
    };
    html! { p class=(class) role=(role) { (body) } }
}

/// Where there is nothing to show yet: why, and what to do.
pub(super) fn empty(title: &str, body: impl Render) -> Markup {
    html! {
        div class="empty" {
            p class="empty-title" { (title) }
            p class="quiet" { (body) }
        }
    }
}

/// A field of a form, with what was typed before and what was wrong with it.
#[derive(Default)]
pub(super) struct Field<'a> {
    pub(super) label: &'a str,
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    /// The `type` of the input; text when it is empty.
    pub(super) kind: &'a str,
    pub(super) hint: &'a str,
    pub(super) error: Option<&'a str>,
    pub(super) autocomplete: Option<&'a str>,
    pub(super) is_required: bool,
}

impl Render for Field<'_> {
    fn render(&self) -> Markup {
        let kind = if self.kind.is_empty() {
            "text"
        } else {
            self.kind
        };
        let about = format!("{}-about", self.name);
        let has_more = self.error.is_some() || !self.hint.is_empty();
        html! {
            div class={ "field" @if self.error.is_some() { " wrong" } } {
                label {
                    span { (self.label) }
                    input name=(self.name) type=(kind) value=(self.value)
                        autocomplete=[self.autocomplete] required[self.is_required]
                        aria-describedby=[has_more.then_some(&about)]
                        aria-invalid=[self.error.map(|_| "true")];
                }
                @if has_more {
                    div id=(about) {
                        @if let Some(error) = self.error { p class="error" { (error) } }
                        @if !self.hint.is_empty() { p class="hint" { (self.hint) } }
                    }
                }
            }
        }
    }
}

/// A choice of one.
pub(super) fn select<'a>(
    label: &str,
    name: &str,
    chosen: &str,
    options: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Markup {
    html! {
        div class="field" {
            label {
                span { (label) }
                select name=(name) {
                    @for (value, shown) in options {
                        option value=(value) selected[value == chosen] { (shown) }
                    }
                }
            }
        }
    }
}

/// A moment: in UTC, and with scripts in the reader's zone with UTC on hover.
pub(super) fn time(at: Timestamp) -> Markup {
    let iso = at.iso_micros();
    let shown = at.iso().replace('T', " ").replace('Z', " UTC");
    html! { time datetime=(iso) title=(iso) { (shown) } }
}

/// How long something is or was, in its two largest units.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{} ms", duration.as_millis()),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// An id, to be read and copied as one piece.
pub(super) fn id(id: &str) -> Markup {
    html! { code class="id" { (text(id)) } }
}

/// What somebody else wrote, as text: what would be invisible, or turn other text around, is named.
pub(super) fn text(text: &str) -> Markup {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, odd)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
        let (before, after) = rest.split_at(at);
        pieces.push((before, Some(odd)));
        rest = &after[odd.len_utf8()..];
    }
    html! {
        @for (before, odd) in pieces {
            (before)
            @if let Some(odd) = odd {
                span class="odd" { "U+" (format!("{:04X}", u32::from(odd))) }
            }
        }
        (rest)
    }
}

/// Whether a character does something to other text instead of being seen. Lines may break and tabs
/// may stand.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_hide_is_named_and_markup_is_text() {
        let table = [
            ("plain ₹ text", "plain ₹ text"),
            ("<b onclick=x>&", "&lt;b onclick=x&gt;&amp;"),
            ("a\u{202e}b", r#"a<span class="odd">U+202E</span>b"#),
            ("\u{1b}[31m", r#"<span class="odd">U+001B</span>[31m"#),
            ("a\nb", "a\nb"),
        ];
        for (written, shown) in table {
            assert_eq!(text(written).into_string(), shown);
        }
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        let table = [
            (Duration::from_millis(42), "42 ms"),
            (Duration::from_secs(59), "59 s"),
            (Duration::from_secs(61), "1 min 1 s"),
            (Duration::from_secs(3_661), "1 h 1 min"),
            (Duration::from_secs(90_000), "1 d 1 h"),
        ];
        for (duration, shown) in table {
            assert_eq!(span(duration), shown);
        }
    }
}

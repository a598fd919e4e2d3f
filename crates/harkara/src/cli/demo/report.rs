//! What the demo shows: a row per arrival, and a line at the end. Only text is made here.
//!
//! `demo.rs` prints the rows while the webhooks arrive. People get a table of at most 80 columns,
//! coloured on a terminal; `--json` gives one object a line.

use std::collections::BTreeSet;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use harkara_core::time::Timestamp;
use harkara_webhook::EventName;
use serde_json::{Value, json};

use crate::receiver::Arrival;

/// The column of ids is this wide; longer ones end in an ellipsis.
const ABOUT_WIDTH: usize = 16;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const QUIET: Style = Style::new().dimmed();

/// An arrival as it is shown.
pub(super) struct Row {
    pub event_id: String,
    pub event_name: String,
    pub about: String,
    pub webhook_version: &'static str,
    pub attempt: u32,
    pub status: Option<u16>,
    /// From the event's birth until the request was here.
    pub after: Duration,
}

/// How it all went.
pub(super) struct Summary {
    /// Kinds of event that arrived, of [`EventName::ALL`].
    pub arrived: BTreeSet<EventName>,
    pub deliveries: usize,
    /// What is not as it should be, in words.
    pub missing: Vec<String>,
    /// Of the deliveries whose first attempt was taken.
    pub times: Vec<Duration>,
}

impl Row {
    /// What there is to show of an arrival at an endpoint of this version.
    pub(super) fn new(arrival: &Arrival, webhook_version: &'static str) -> Self {
        let (event_id, event_name) = match &arrival.event {
            Some(event) => (event.id.clone(), event.event_name.to_string()),
            None => (String::new(), "no event".to_owned()),
        };
        Self {
            after: born(&event_id).map_or(Duration::ZERO, |born| arrival.at.since(born)),
            event_id,
            event_name,
            about: arrival.about().to_owned(),
            webhook_version,
            attempt: arrival.attempt(),
            status: arrival.reply.code(),
        }
    }

    /// The table's head.
    pub(super) fn head() -> String {
        let head = format!(
            "{:<27}  {:<ABOUT_WIDTH$}  {:<10}  {:>3}  {:>6}  {:>8}",
            "event", "about", "version", "try", "answer", "after"
        );
        format!("{QUIET}{head}{QUIET:#}")
    }

    /// A line of the table.
    pub(super) fn line(&self) -> String {
        let (status, colour) = match self.status {
            Some(200) => ("200".to_owned(), GOOD),
            Some(other) => (other.to_string(), BAD),
            None => ("none".to_owned(), BAD),
        };
        format!(
            "{:<27}  {:<ABOUT_WIDTH$}  {:<10}  {:>3}  {colour}{status:>6}{colour:#}  {:>8}",
            self.event_name,
            fit(&self.about, ABOUT_WIDTH),
            self.webhook_version,
            self.attempt,
            human(self.after),
        )
    }

    /// The same for machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "event_id": self.event_id,
            "event_name": self.event_name,
            "about": self.about,
            "webhook_version": self.webhook_version,
            "attempt": self.attempt,
            "status": self.status,
            "after_us": micros(self.after),
        })
    }
}

impl Summary {
    /// Whether everything there is arrived, and is known to have.
    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.arrived.len() == EventName::ALL.len()
    }

    /// The last line, or lines if something is missing.
    pub(super) fn text(&self) -> String {
        let (p50, p99) = (percentile(&self.times, 50), percentile(&self.times, 99));
        let notified = if self.missing.is_empty() {
            "all notified"
        } else {
            "not all notified"
        };
        let mut text = format!(
            "{} kinds of event, {} deliveries, {notified}; time to delivery p50 {}, p99 {}",
            self.arrived.len(),
            self.deliveries,
            human(p50),
            human(p99),
        );
        for line in self.absent().chain(self.missing.iter().cloned()) {
            text.push_str(&format!("\n{BAD}missing{BAD:#}  {line}"));
        }
        text
    }

    /// The same for machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "kinds_of_event": self.arrived.len(),
            "deliveries": self.deliveries,
            "missing": self.absent().chain(self.missing.iter().cloned()).collect::<Vec<_>>(),
            "p50_us": micros(percentile(&self.times, 50)),
            "p99_us": micros(percentile(&self.times, 99)),
        })
    }

    fn absent(&self) -> impl Iterator<Item = String> {
        let absent = EventName::ALL
            .iter()
            .filter(|name| !self.arrived.contains(name));
        absent.map(|name| format!("{name} never arrived"))
    }
}

/// When an event was born, to the millisecond, as its id says in the first 12 of its hex digits.
fn born(event_id: &str) -> Option<Timestamp> {
    let digits = event_id.strip_prefix("evt_V2_")?.get(..12)?;
    Some(Timestamp::from_micros(
        i64::from_str_radix(digits, 16).ok()?.checked_mul(1000)?,
    ))
}

/// The smallest time that at least so many per cent do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn human(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(about: &str, status: Option<u16>, after_us: u64) -> Row {
        Row {
            event_id: "evt_V2_1".to_owned(),
            event_name: "REFUND_MANUAL_REVIEW_NEEDED".to_owned(),
            about: about.to_owned(),
            webhook_version: "2016-10-27",
            attempt: 1,
            status,
            after: Duration::from_micros(after_us),
        }
    }

    #[test]
    fn the_table_fits_80_columns() {
        let table = [
            Row::head(),
            row("refunded", Some(200), 1234).line(),
            row("7DqWc2Mks9qYb2hZJtPq1x", Some(500), 999_900).line(),
            row("", None, 12_345_678).line(),
        ];
        let plain = table.map(|line| anstream::adapter::strip_str(&line).to_string());
        assert!(plain.iter().all(|line| line.chars().count() <= 80));
        insta::assert_snapshot!(plain.join("\n"), @"
        event                        about             version     try  answer     after
        REFUND_MANUAL_REVIEW_NEEDED  refunded          2016-10-27    1     200    1.2 ms
        REFUND_MANUAL_REVIEW_NEEDED  7DqWc2Mks9qYb2h…  2016-10-27    1     500  999.9 ms
        REFUND_MANUAL_REVIEW_NEEDED                    2016-10-27    1    none    12.3 s
        ");
    }

    #[test]
    fn the_last_line_says_what_is_missing() {
        let mut summary = Summary {
            arrived: EventName::ALL.iter().copied().collect(),
            deliveries: 48,
            missing: Vec::new(),
            times: (1..=100).map(Duration::from_millis).collect(),
        };
        assert!(summary.is_complete());
        insta::assert_snapshot!(
            summary.text(),
            @"19 kinds of event, 48 deliveries, all notified; time to delivery p50 50.0 ms, p99 99.0 ms"
        );
        summary.arrived.remove(&EventName::TxnFailed);
        summary
            .missing
            .push("ORDER_FAILED of order/refused is not notified: pending".to_owned());
        assert!(!summary.is_complete());
        insta::assert_snapshot!(anstream::adapter::strip_str(&summary.text()), @"
        18 kinds of event, 48 deliveries, not all notified; time to delivery p50 50.0 ms, p99 99.0 ms
        missing  TXN_FAILED never arrived
        missing  ORDER_FAILED of order/refused is not notified: pending
        ");
    }

    #[test]
    fn an_event_id_tells_its_birth() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let id = format!("evt_V2_{}", harkara_core::id::time_ordered(at, &["a"]));
        assert_eq!(
            born(&id),
            Some(Timestamp::from_micros(1_700_000_000_123_000))
        );
        assert_eq!(born("evt_1"), None);
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = [3, 1, 2].map(Duration::from_millis);
        assert_eq!(percentile(&times, 50), Duration::from_millis(2));
        assert_eq!(percentile(&times, 99), Duration::from_millis(3));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}

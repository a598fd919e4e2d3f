//! What has arrived, told apart by endpoint, id and event name.
//!
//! No network, and time is an argument; `sink.rs` hands every POST in.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::payload;
use crate::stats::{Latency, LatencyMs};

/// What `GET /stats` returns.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// POSTs of this run, failed ones included.
    pub(crate) count: u64,
    /// POSTs answered with 500 because of `--fail-rate`.
    pub(crate) failed: u64,
    /// Different deliveries received and accepted.
    pub(crate) distinct: u64,
    /// Accepted POSTs of a delivery that had been accepted before.
    pub(crate) duplicates: u64,
    /// POSTs without our marks, or of another run.
    pub(crate) foreign: u64,
    pub(crate) connections: u64,
    /// Bytes of the bodies of `count`.
    pub(crate) body_bytes: u64,
    pub(crate) first_arrival_us: Option<u64>,
    /// First acceptance of the newest delivery: later duplicates do not move it.
    pub(crate) last_arrival_us: Option<u64>,
    pub(crate) latency_ms: LatencyMs,
}

/// The count of one run.
#[derive(Default)]
pub(super) struct Tally {
    run: String,
    seen: HashSet<Box<[u8]>>,
    latency: Latency,
    stats: Stats,
}

impl Tally {
    /// A count that begins now and is of events whose id starts with `run`. Stragglers of an earlier
    /// run are foreign to it.
    pub(super) fn of_run(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn connected(&mut self) {
        self.stats.connections += 1;
    }

    /// Counts one POST to an endpoint's path and says whether to accept it.
    pub(super) fn receive(&mut self, path: &str, body: &[u8], fail: bool, now_us: u64) -> bool {
        let marks = payload::marks(body).filter(|marks| marks.id.starts_with(self.run.as_bytes()));
        let Some(marks) = marks else {
            self.stats.foreign += 1;
            return true;
        };
        self.stats.count += 1;
        self.stats.body_bytes += body.len() as u64;
        self.stats.first_arrival_us.get_or_insert(now_us);
        if fail {
            self.stats.failed += 1;
            return false;
        }
        let delivery = [path.as_bytes(), marks.id, marks.event_name].join(&b' ');
        if !self.seen.insert(delivery.into()) {
            self.stats.duplicates += 1;
            return true;
        }
        self.stats.distinct += 1;
        self.stats.last_arrival_us = Some(now_us);
        if let Some(ts_us) = marks.ts_us {
            self.latency.record_us(now_us.saturating_sub(ts_us));
        }
        true
    }

    /// The count as JSON.
    pub(super) fn report(&mut self) -> String {
        self.stats.latency_ms = self.latency.summary();
        serde_json::to_string(&self.stats).expect("stats are plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_an_event_at_an_endpoint() {
        let mut tally = Tally::of_run("r1");
        let created = br#"{"event_name":"TXN_CREATED","order_id":"r1-1"}"#;
        let charged = br#"{"event_name":"TXN_CHARGED","order_id":"r1-1"}"#;
        let stray = br#"{"event_name":"TXN_CREATED","order_id":"r0-1"}"#;
        let arrivals: [(&str, &[u8], bool, &str); 6] = [
            ("/a", created, true, "failed on purpose"),
            ("/a", created, false, "distinct: it had not been accepted"),
            ("/a", charged, false, "distinct: another event"),
            ("/b", created, false, "distinct: another endpoint"),
            ("/b", created, false, "a duplicate"),
            ("/b", stray, false, "of another run"),
        ];
        let mut table = String::new();
        for (now_us, (path, body, fail, what)) in (1..).zip(arrivals) {
            let accepted = tally.receive(path, body, fail, now_us);
            let Stats {
                failed,
                distinct,
                duplicates,
                foreign,
                ..
            } = tally.stats;
            table += &format!(
                "{accepted:<5} {failed} failed, {distinct} distinct, {duplicates} duplicates, \
                 {foreign} foreign: {what}\n"
            );
        }
        insta::assert_snapshot!(table, @r"
        false 1 failed, 0 distinct, 0 duplicates, 0 foreign: failed on purpose
        true  1 failed, 1 distinct, 0 duplicates, 0 foreign: distinct: it had not been accepted
        true  1 failed, 2 distinct, 0 duplicates, 0 foreign: distinct: another event
        true  1 failed, 3 distinct, 0 duplicates, 0 foreign: distinct: another endpoint
        true  1 failed, 3 distinct, 1 duplicates, 0 foreign: a duplicate
        true  1 failed, 3 distinct, 1 duplicates, 1 foreign: of another run
        ");
        assert_eq!(tally.stats.first_arrival_us, Some(1));
        assert_eq!(tally.stats.last_arrival_us, Some(4));
    }
}

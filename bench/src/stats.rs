//! The latency histogram and the rates that all commands report.
//!
//! Pure numbers: no clock, no network.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How long things took, to three significant digits between a microsecond and an hour.
pub(crate) struct Latency(Histogram<u64>);

/// All figures in milliseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct LatencyMs {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
}

impl Default for Latency {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Self(bounds.expect("the bounds are valid"))
    }
}

impl Latency {
    pub(crate) fn record_us(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    pub(crate) fn summary(&self) -> LatencyMs {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        LatencyMs {
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1000.0,
            mean: self.0.mean() / 1000.0,
        }
    }
}

/// 0 when no time has passed.
pub(crate) fn per_second(count: u64, us: u64) -> f64 {
    if us == 0 {
        0.0
    } else {
        count as f64 * 1e6 / us as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_milliseconds() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|us| latency.record_us(us * 10));
        let LatencyMs { p50, p99, max, .. } = latency.summary();
        insta::assert_snapshot!(format!("{p50:.1} {p99:.1} {max:.1}"), @"5.0 9.9 10.0");
    }

    #[test]
    fn a_rate_without_time_is_no_rate() {
        assert_eq!(per_second(500, 250_000), 2000.0);
        assert_eq!(per_second(500, 0), 0.0);
    }
}

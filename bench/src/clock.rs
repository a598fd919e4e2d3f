//! The clocks of the harness, and the one place that reads them.
//!
//! Measuring is what this crate is for, so time is not an argument here as it is in the server.
//! Everything that publishes, receives or waits calls it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock microseconds: publisher and sink are different processes on one machine, so the
/// system's clock is the one that they share.
#[expect(
    clippy::disallowed_methods,
    reason = "when something was sent and arrived is what is measured"
)]
pub(crate) fn now_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.expect("the clock is past 1970").as_micros() as u64
}

/// A stopwatch's reading, for what stays within this process.
#[expect(
    clippy::disallowed_methods,
    reason = "how long something took is what is measured"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Blocks the thread. It wakes more exactly than a timer of the runtime, which rounds up to whole
/// milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "a schedule of publishing is kept by sleeping until its next event"
)]
pub(crate) fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(now()));
}

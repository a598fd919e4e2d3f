//! How long each part of an attempt took: drawn here, and the same in a table for whoever cannot see it.
//!
//! An image of numbers that we measured; nothing of anybody else's is in it.

use maud::{Markup, html};

use super::components::table;
use crate::store::AttemptView;

/// Width and height of a bar's row, in the units of the image.
const WIDTH: u64 = 600;
const ROW: u64 = 22;

/// Where the bars begin, after their names.
const LEFT: u64 = 110;

/// A part of an attempt: its name, and from when to when, in microseconds.
type Part = (&'static str, u64, u64);

/// The parts of an attempt, one after another.
fn parts(attempt: &AttemptView) -> Vec<Part> {
    let evidence = &attempt.attempt.evidence;
    let total = u64::try_from(attempt.attempt.duration_us).unwrap_or(0);
    let named = [
        ("name", evidence.dns_us),
        ("connect", evidence.connect_us),
        ("TLS", evidence.tls_us),
        ("send", evidence.write_us),
        ("first byte", evidence.first_byte_us),
    ];
    let (mut parts, mut at) = (Vec::new(), 0);
    for (name, took) in named {
        if let Some(took) = took {
            parts.push((name, at, at + took));
            at += took;
        }
    }
    if total > at {
        parts.push(("rest", at, total));
    }
    parts
}

/// The image, and its twin.
pub(super) fn waterfall(attempt: &AttemptView) -> Markup {
    let parts = parts(attempt);
    let end = parts.last().map_or(1, |(_, _, end)| *end).max(1);
    let scale = |us: u64| us * (WIDTH - LEFT) / end;
    let height = ROW * u64::try_from(parts.len()).unwrap_or(1);
    html! {
        div class="waterfall" {
            svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
                aria-label="How long each part took; the table beside it has the numbers" {
                @for (row, (name, from, to)) in parts.iter().enumerate() {
                    @let y = ROW * u64::try_from(row).unwrap_or(0);
                    text x="0" y=(y + 15) { (name) }
                    rect x=(LEFT + scale(*from)) y=(y + 4) height="14" rx="3"
                        width=(scale(to - from).max(2)) {}
                }
            }
            (table("How long each part took", &["Part", "From", "Took"],
                parts.iter().map(|(name, from, to)| html! {
                    tr {
                        td { (name) }
                        td class="number" { (millis(*from)) }
                        td class="number" { (millis(to - from)) }
                    }
                })))
        }
    }
}

/// Milliseconds with as many decimals as matter.
fn millis(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use harkara_core::time::Timestamp;

    use super::*;
    use crate::store::{AttemptRow, AttemptVerdict, Evidence};

    fn attempt(evidence: Evidence, duration_us: i64) -> AttemptView {
        AttemptView {
            n: 1,
            attempt: AttemptRow {
                started_at: Timestamp::from_seconds(0),
                duration_us,
                status: Some(200),
                failure: None,
                evidence,
            },
            verdict: AttemptVerdict::Delivered,
            retry_at: None,
            late: false,
        }
    }

    #[test]
    fn parts_follow_one_another_and_the_rest_is_the_rest() {
        let evidence = Evidence {
            dns_us: Some(100),
            tls_us: Some(50),
            ..Evidence::default()
        };
        assert_eq!(
            parts(&attempt(evidence, 400)),
            [("name", 0, 100), ("TLS", 100, 150), ("rest", 150, 400)]
        );
        let nothing = waterfall(&attempt(Evidence::default(), 0)).into_string();
        assert!(nothing.contains("<svg"), "{nothing}");
    }

    #[test]
    fn the_table_has_the_numbers_of_the_image() {
        let evidence = Evidence {
            first_byte_us: Some(12_345),
            ..Evidence::default()
        };
        let drawn = waterfall(&attempt(evidence, 12_345)).into_string();
        assert!(drawn.contains("12.345 ms"), "{drawn}");
        assert!(drawn.contains(r#"width="490""#), "{drawn}");
    }
}

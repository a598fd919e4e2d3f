//! `POST /events/batch`: one event a line in, one answer a line out, in the same order.
//!
//! Lines are stored side by side, so that they share flushes; lines about one subject take turns in
//! the order given. A line that fails leaves the others alone, and sending all of them again stores
//! nothing twice where each line has its own `id`. What a line may say is in `ingest.rs`.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use harkara_core::id::MerchantId;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio::task::JoinSet;

use super::read::{Incoming, read};
use super::{Stored, store};
use crate::api::auth::PlatformCaller;
use crate::api::{Api, body_bytes};
use crate::error::ApiError;

const LINES_MAX: usize = 1_000;
const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Subjects that are being stored at once.
const IN_FLIGHT_MAX: usize = 64;

/// The number of a line, from 1.
type Line = usize;

/// Answers 200 whatever the lines' own answers are.
pub(in crate::api) async fn batch(
    PlatformCaller: PlatformCaller,
    State(api): State<Api>,
    request: Request,
) -> Result<Response, ApiError> {
    let bytes = body_bytes(request, BODY_MAX_BYTES).await?;
    let now = api.clock.now();
    let mut answers: Vec<(Line, Result<Stored, ApiError>)> = Vec::new();
    let mut turns = Turns::default();
    for (line, text) in lines(&bytes)? {
        let limit_bytes = api.config.api.body_limit_bytes;
        let parsed = match text.len() {
            length if length > limit_bytes => Err(ApiError::too_large(limit_bytes)),
            _ => read(&api, text, None, now),
        };
        match parsed {
            Ok(incoming) => turns.add(line, incoming),
            Err(error) => answers.push((line, Err(error))),
        }
    }
    let mut storing = JoinSet::new();
    for turn in turns.0 {
        while storing.len() >= IN_FLIGHT_MAX {
            answers.extend(next(&mut storing).await?);
        }
        storing.spawn(take_turns(api.clone(), turn));
    }
    while !storing.is_empty() {
        answers.extend(next(&mut storing).await?);
    }
    answers.sort_unstable_by_key(|(line, _)| *line);
    let written: String = answers
        .iter()
        .map(|(line, answer)| write(*line, answer))
        .collect();
    Ok((
        [(CONTENT_TYPE, "application/x-ndjson")],
        Body::from(written),
    )
        .into_response())
}

/// The lines that say something, each with its number.
fn lines(bytes: &[u8]) -> Result<Vec<(Line, &[u8])>, ApiError> {
    let numbered = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let lines: Vec<_> = numbered
        .filter(|(_, text)| !text.trim_ascii().is_empty())
        .collect();
    if lines.len() > LINES_MAX {
        let message = format!(
            "a batch has at most {LINES_MAX} lines, and this one {}",
            lines.len()
        );
        return Err(ApiError::invalid("batch.too_long", message));
    }
    Ok(lines)
}

/// The events of a batch by subject, each subject's in the order of their lines.
#[derive(Default)]
struct Turns(
    Vec<Vec<(Line, Incoming)>>,
    HashMap<(MerchantId, String), usize>,
);

impl Turns {
    fn add(&mut self, line: Line, incoming: Incoming) {
        let event = &incoming.event;
        let subject = (event.merchant_id.clone(), event.subject.key());
        let Self(turns, known) = self;
        let at = *known.entry(subject).or_insert_with(|| {
            turns.push(Vec::new());
            turns.len() - 1
        });
        turns[at].push((line, incoming));
    }
}

type Answers = Vec<(Line, Result<Stored, ApiError>)>;

async fn take_turns(api: Api, turn: Vec<(Line, Incoming)>) -> Answers {
    let mut answers = Vec::with_capacity(turn.len());
    for (line, incoming) in turn {
        answers.push((line, store(&api, &incoming).await));
    }
    answers
}

/// A task that panicked fails the whole batch: nobody knows which of its lines are stored.
async fn next(storing: &mut JoinSet<Answers>) -> Result<Answers, ApiError> {
    match storing.join_next().await {
        Some(joined) => joined.map_err(ApiError::internal),
        None => Ok(Vec::new()),
    }
}

fn write(line: Line, answer: &Result<Stored, ApiError>) -> String {
    let written = match answer {
        Ok(stored) => json!({
            "line": line,
            "status": 201,
            "event_id": stored.event_id,
            "sequence": stored.sequence,
            "cursor": stored.cursor,
            "deliveries": stored.deliveries,
            "replayed": stored.replayed,
        }),
        Err(error) => {
            if let Some(cause) = &error.cause {
                tracing::error!(line, %cause, "failed to store a line of a batch");
            }
            let body = error.body(&format!("line {line}"));
            json!({ "line": line, "status": error.status.as_u16(), "error": body })
        }
    };
    format!("{written}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_count_and_say_nothing() {
        let found = lines(b"{}\n\r\n  \n[1]\n").unwrap();
        assert_eq!(found, [(1, &b"{}"[..]), (4, &b"[1]"[..])]);
        assert!(lines(&b"{}\n".repeat(LINES_MAX)).is_ok());
        assert!(lines(&b"{}\n".repeat(LINES_MAX + 1)).is_err());
    }
}

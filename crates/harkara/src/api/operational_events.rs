//! Operational events: what a merchant is told about its endpoints, besides what deliveries show.
//!
//! They come about when attempts are settled; here they are only listed, oldest first, with a cursor
//! to go on from.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::auth::ForMerchant;
use super::events::{cursor, read_cursor, refuse_unknown};
use super::input::Input;
use super::{Api, json_answer};
use crate::error::ApiError;
use crate::store::OperationalEvent;

const PAGE: i64 = 100;
const PAGE_MAX: i64 = 500;

const PARAMETERS: &[&str] = &["after", "limit", "merchant_id"];

/// `GET /operational-events`.
pub(super) async fn list(
    ForMerchant(merchant): ForMerchant,
    State(api): State<Api>,
    input: Input,
) -> Result<Response, ApiError> {
    refuse_unknown(&input, PARAMETERS)?;
    let after = input.text("after").map_or(Ok(0), read_cursor)?;
    let limit = input.integer("limit")?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let merchant_id = &merchant.merchant_id;
    let events = api
        .store
        .operational_events(merchant_id, after, limit)
        .await?;
    let next = events.last().map_or(after, |event| event.position);
    let shown: Vec<Value> = events.iter().map(show).collect();
    Ok(json_answer(&json!({
        "operational_events": shown,
        "cursor": cursor(next),
    })))
}

fn show(event: &OperationalEvent) -> Value {
    json!({
        "cursor": cursor(event.position),
        "kind": event.kind,
        "endpoint_id": event.endpoint_id,
        "message": event.sentence,
        "created_at": event.created_at.iso(),
    })
}

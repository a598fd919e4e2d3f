//! JSON Schemas of the events, for whoever wants their tools to know them. They are no secret.

use axum::response::Response;
use harkara_webhook::{EventName, schema};

use super::json_bytes;
use super::parameters::Path;
use crate::error::ApiError;

/// `GET /schemas/{event_name}`.
pub(super) async fn one(Path(name): Path<String>) -> Result<Response, ApiError> {
    let known: EventName = name.parse().map_err(|_| {
        ApiError::not_found("event.unknown_name", format!("there is no event '{name}'"))
    })?;
    let schema = serde_json::to_string(&schema::event(known)).map_err(ApiError::internal)?;
    Ok(json_bytes(schema))
}

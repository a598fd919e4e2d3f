//! Whether the process lives, can work, and how much it has left to do.
//!
//! For load balancers and people on call. No merchant's data and no secret is ever shown here, so
//! none of it needs a key; what weakens the server's walls is spelled out for the platform alone.

use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use harkara_core::time::Timestamp;
use http::header::AUTHORIZATION;
use http::request::Parts;
use serde_json::json;
use tokio::sync::Mutex;

use super::auth::PlatformCaller;
use super::{Api, json_answer};
use crate::config::days;
use crate::error::ApiError;
use crate::store::{COUNTED, Counts};

/// How old the counts may be: anyone may ask.
const COUNTS_LIFE: Duration = Duration::from_secs(1);

/// The latest counts; whoever asks while they are being taken waits for the same ones.
#[derive(Default)]
pub(super) struct Left(Mutex<Option<(Timestamp, Counts)>>);

impl Left {
    pub(super) async fn counts(&self, api: &Api, now: Timestamp) -> Result<Counts, ApiError> {
        let mut latest = self.0.lock().await;
        if let Some((at, counts)) = *latest
            && (at..at.plus(COUNTS_LIFE)).contains(&now)
        {
            return Ok(counts);
        }
        let counts = api.store.counts(None).await?;
        *latest = Some((now, counts));
        Ok(counts)
    }
}

/// `GET /livez`: the process answers.
pub(super) async fn live() -> &'static str {
    "ok"
}

/// `GET /readyz`: 200 when the store can be read, else 503.
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, ApiError> {
    // Cheap, answered from an index, and cached nowhere.
    api.store
        .next_scheduled()
        .await
        .map_err(ApiError::unavailable)?;
    Ok("ready")
}

/// `GET /health`: for people, and for alarms on what waits. With the platform's key it also says
/// what is not as it is in production.
pub(super) async fn health(State(api): State<Api>, mut parts: Parts) -> Result<Response, ApiError> {
    let now = api.clock.now();
    let counts = api.left(now).await?;
    let mut shown = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "environment": api.config.environment.to_string(),
        "durability": api.store.durability(),
        "clock_ahead_of_database_ms": api.store.clock_ahead_ms(),
        "deliveries": {
            "pending": counts.pending,
            "waiting": counts.waiting,
            "counted_to": COUNTED,
            "oldest_due_age_seconds": counts.oldest_due_at.map_or(0, |at| now.since(at).as_secs()),
        },
        "retention": {
            "bodies_days": days(api.config.retention.bodies),
            "events_days": days(api.config.retention.events),
        },
        "weakened": api.config.is_weakened(),
        "dummy_gateway": api.config.gateway.dummy,
    });
    if parts.headers.contains_key(AUTHORIZATION) {
        PlatformCaller::from_request_parts(&mut parts, &api).await?;
        shown["notes"] = api.config.notes().into();
    }
    Ok(json_answer(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::World;

    const NEW: &str = r#"{"url":"https://shop.example.com/hook","username":"shop"}"#;

    async fn private_network() -> World {
        let setting = ("HARKARA_DESTINATIONS__ALLOW_PRIVATE", "10.1.0.0/16");
        let settings = std::iter::once((setting.0.to_owned(), setting.1.to_owned()));
        World::with(Config::load(None, settings).unwrap()).await
    }

    #[tokio::test]
    async fn whoever_watches_needs_no_key() {
        let world = World::new().await;
        assert_eq!(world.browser("GET /livez", "").await.text, "ok");
        assert_eq!(world.browser("GET /readyz", "").await.status, 200);
        let health = world.browser("GET /health", "").await.json();
        assert_eq!(
            (&health["status"], &health["environment"]),
            (&json!("ok"), &json!("sandbox"))
        );
        let retention = json!({ "bodies_days": 90, "events_days": 400 });
        assert_eq!(health["retention"], retention);
        world.api.store.close().await;
        assert_eq!(world.browser("GET /livez", "").await.status, 200);
    }

    #[tokio::test]
    async fn what_weakens_the_walls_is_told_to_the_platform_alone() {
        let world = private_network().await;
        let anyone = world.browser("GET /health", "").await;
        assert_eq!(anyone.json()["weakened"], true);
        assert!(!anyone.text.contains("10.1."), "{}", anyone.text);
        let platform = world.platform("GET /health", "").await;
        let notes = platform.json()["notes"].to_string();
        assert!(notes.contains("private networks: 10.1.0.0/16"), "{notes}");
        assert_eq!(world.merchant("GET /health", "").await.status, 403);
    }

    #[tokio::test]
    async fn what_is_left_is_counted_once_a_second() {
        let world = World::new().await;
        let pending = async || {
            let health = world.browser("GET /health", "").await.json();
            health["deliveries"]["pending"].clone()
        };
        assert_eq!(pending().await, 0);
        let endpoint = world.merchant("POST /endpoints", NEW).await.json();
        let endpoint_id = endpoint["endpoint_id"].as_str().unwrap();
        let test = format!("POST /endpoints/{endpoint_id}/test");
        assert_eq!(world.merchant(&test, "").await.status, 202);
        assert_eq!(pending().await, 0, "the same second");
        world.api.clock.advance(COUNTS_LIFE);
        assert_eq!(pending().await, 1);
    }
}

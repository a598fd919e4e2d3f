//! Whether the process lives, can work, and how much it has left to do.
//!
//! For load balancers and people on call. No merchant's data and no secret is ever shown here, so
//! none of it needs a key.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::{Api, json_answer};
use crate::config::Config;
use crate::error::ApiError;

/// What a flushed commit survives, and through which setting of the store.
const DURABILITY: &str = "sqlite WAL synchronous=FULL";

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

/// `GET /health`: for people, and for alarms on what waits.
pub(super) async fn health(State(api): State<Api>) -> Result<Response, ApiError> {
    let counts = api
        .store
        .counts(None)
        .await
        .map_err(ApiError::unavailable)?;
    let now = api.clock.now();
    Ok(json_answer(&json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "environment": api.config.environment.to_string(),
        "durability": DURABILITY,
        "deliveries": {
            "pending": counts.pending,
            "waiting": counts.waiting,
            "oldest_due_age_seconds": counts.oldest_due_at.map_or(0, |at| now.since(at).as_secs()),
        },
        "notes": notes(&api.config),
    })))
}

/// What is not as it is in production, said loudly.
fn notes(config: &Config) -> Vec<String> {
    let destinations = &config.destinations;
    let networks: Vec<String> = destinations
        .allow_private
        .iter()
        .map(ToString::to_string)
        .collect();
    let names: Vec<&str> = destinations
        .static_names
        .keys()
        .map(String::as_str)
        .collect();
    let all = [
        (
            destinations.allow_http,
            "INSECURE: endpoints may use plain http, so webhooks can be read on the way".to_owned(),
        ),
        (
            !networks.is_empty(),
            format!(
                "INSECURE: endpoints may lie in private networks: {}",
                networks.join(", ")
            ),
        ),
        (
            !names.is_empty(),
            format!(
                "names with a fixed address that is not checked: {}",
                names.join(", ")
            ),
        ),
        (
            config.gateway.dummy,
            "the DUMMY gateway is on: it calls payments paid that moved no money".to_owned(),
        ),
    ];
    all.into_iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, note)| note)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

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
        world.api.store.close().await;
        assert_eq!(world.browser("GET /livez", "").await.status, 200);
    }

    #[test]
    fn what_production_would_refuse_is_noted() {
        let settings = [
            ("HARKARA_DESTINATIONS__ALLOW_HTTP", "true"),
            (
                "HARKARA_DESTINATIONS__ALLOW_PRIVATE",
                "127.0.0.0/8,fd00::/8",
            ),
            (
                "HARKARA_DESTINATIONS__STATIC_NAMES",
                "shop.example=10.1.0.7",
            ),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, settings.into_iter()).unwrap();
        insta::assert_snapshot!(notes(&config).join("\n"), @r"
        INSECURE: endpoints may use plain http, so webhooks can be read on the way
        INSECURE: endpoints may lie in private networks: 127.0.0.0/8, fd00::/8
        names with a fixed address that is not checked: shop.example
        the DUMMY gateway is on: it calls payments paid that moved no money
        ");
    }

    #[test]
    fn production_has_nothing_to_note() {
        let settings = [("HARKARA_ENVIRONMENT".to_owned(), "production".to_owned())];
        let config = Config::load(None, settings.into_iter()).unwrap();
        assert!(notes(&config).is_empty());
    }
}

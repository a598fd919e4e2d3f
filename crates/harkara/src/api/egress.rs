//! Where webhooks come from: the addresses that a merchant lets through its firewall.
//!
//! The operator names them in the settings; here they are told to anybody, for people and for scripts.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Api, json_answer};
use crate::config::Egress;

/// `GET /egress.json`. An empty list says that the addresses are not fixed.
pub(super) async fn json(State(api): State<Api>) -> Response {
    let show =
        |egress: &Egress| -> Value { json!({ "address": egress.address, "label": egress.label }) };
    let addresses: Vec<Value> = api.config.destinations.egress.iter().map(show).collect();
    json_answer(&json!({
        "environment": api.config.environment.to_string(),
        "addresses": addresses,
    }))
}

/// `GET /egress.txt`: one address a line and nothing else.
pub(super) async fn text(State(api): State<Api>) -> String {
    let egress = api.config.destinations.egress.iter();
    egress
        .map(|egress| format!("{}\n", egress.address))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::testing::World;

    async fn told(environment: &str, egress: &str) -> String {
        let settings = [
            ("HARKARA_ENVIRONMENT", environment),
            ("HARKARA_DESTINATIONS__EGRESS", egress),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, settings.into_iter()).unwrap();
        let world = World::with(config).await;
        let json = world.browser("GET /egress.json", "").await.text;
        let text = world.browser("GET /egress.txt", "").await.text;
        format!("{json}\n{text}")
    }

    #[tokio::test]
    async fn anybody_may_know_where_webhooks_come_from() {
        let told = told("production", "203.0.113.7=mumbai-1, 2001:db8::7").await;
        insta::assert_snapshot!(told, @r#"
        {"addresses":[{"address":"203.0.113.7","label":"mumbai-1"},{"address":"2001:db8::7","label":null}],"environment":"production"}
        203.0.113.7
        2001:db8::7
        "#);
    }

    #[tokio::test]
    async fn addresses_that_are_not_fixed_are_not_told() {
        insta::assert_snapshot!(told("sandbox", "").await, @r#"{"addresses":[],"environment":"sandbox"}"#);
    }
}

//! The demo's stage: a server in a temporary folder, a merchant with endpoints, and their keys.
//!
//! Set up and cleared here, and asked here how everything went. Once the server listens, all of it
//! goes through the HTTP API, as anybody's calls would. `demo.rs` calls it; nothing is printed here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use harkara_webhook::{BasicCredentials, EventName, Receiver};
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::client::Client;
use super::report::{Row, Summary};
use super::story::{OLD_VERSION, RETRIED, Story};
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, DestinationsConfig, GatewayConfig};
use crate::keys::random_password;
use crate::receiver::{Arrival, MerchantServer, Reply};

const SHOP: &str = "shop.merchant.example";
pub(super) const MERCHANT: &str = "ms";
const USERNAME: &str = "harkara";

/// Where an endpoint of the merchant's is, and the webhook version it is at; empty is the latest.
pub(super) struct Spot {
    path: &'static str,
    pub(super) version: &'static str,
}

const LATEST: Spot = Spot {
    path: "/webhooks",
    version: "",
};
pub(super) const OLD: Spot = Spot {
    path: "/old/webhooks",
    version: "2016-10-27",
};

const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// How often to ask whether the last deliveries are settled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Server, merchant, and the keys to speak to the one for the other.
pub(super) struct Stage {
    folder: TempDir,
    pub(super) app: App,
    pub(super) merchant: MerchantServer,
    password: String,
    pub(super) platform_key: String,
    pub(super) shop_key: String,
    pub(super) shop: Client,
}

impl Stage {
    /// Starts everything; the merchant has its first endpoint.
    pub(super) async fn set_up() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let clock = Clock::system();
        let password = random_password().to_string();
        let receiver = Receiver::new(BasicCredentials::new(USERNAME, &password));
        let merchant = MerchantServer::start(SHOP, receiver, clock.clone(), script).await?;
        let app = App::start(config(&folder, &merchant)?, clock).await?;
        let first = app
            .first_start
            .as_ref()
            .context("find the keys of a first start")?;
        let platform_key = first.platform_key.expose().to_owned();
        let platform = Client::new(app.address, &platform_key);
        let made = platform
            .json("/merchants", &json!({ "merchant_id": MERCHANT }))
            .await?;
        let shop_key = text(&made, "api_key")?.to_owned();
        let shop = Client::new(app.address, &shop_key);
        let stage = Self {
            folder,
            app,
            merchant,
            password,
            platform_key,
            shop_key,
            shop,
        };
        stage
            .add_endpoint(&LATEST, &json!({ "ORDER_CREATED": true }))
            .await?;
        Ok(stage)
    }

    /// Stops everything and leaves nothing behind.
    pub(super) async fn clear(self) -> anyhow::Result<()> {
        self.app.stop().await;
        drop(self.merchant);
        self.folder.close().context("remove the temporary folder")
    }

    async fn add_endpoint(&self, spot: &Spot, switches: &Value) -> anyhow::Result<()> {
        let endpoint = json!({
            "url": self.merchant.url(spot.path),
            "username": USERNAME,
            "password": self.password,
            "webhook_version": spot.version,
            "events": switches,
            "ladder": [1, 1, 2],
        });
        self.shop.json("/endpoints", &endpoint).await?;
        Ok(())
    }

    /// Every kind of event, then one more order with an endpoint that knows fewer of them.
    pub(super) async fn tell(&self) -> anyhow::Result<()> {
        let story = Story {
            shop: &self.shop,
            merchant: &self.merchant,
        };
        story.tell().await?;
        self.add_endpoint(&OLD, &json!({})).await?;
        story.paid(OLD_VERSION).await
    }

    /// How it went, once the last answers are settled or that takes too long.
    pub(super) async fn summary(&self) -> anyhow::Result<Summary> {
        let deadline = Instant::now() + SETTLE_PATIENCE;
        loop {
            let summary = self.look().await?;
            if summary.missing.is_empty() || Instant::now() > deadline {
                return Ok(summary);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the platform knows of the deliveries, and what the merchant saw of them.
    async fn look(&self) -> anyhow::Result<Summary> {
        let (mut deliveries, mut missing) = (0, Vec::new());
        let events = self.shop.get("/events?limit=500").await?;
        for event in list(&events, "events") {
            let path = format!("/events/{}/deliveries", text(event, "event_id")?);
            let answer = self.shop.get(&path).await?;
            let of_event = list(&answer, "deliveries");
            let states: Vec<&str> = of_event.filter_map(|each| each["state"].as_str()).collect();
            deliveries += states.iter().filter(|state| **state == "delivered").count();
            if event["notified"] != true {
                let (name, subject) = (text(event, "event_name")?, text(event, "subject")?);
                let states = states.join(", ");
                missing.push(format!("{name} of {subject} is not notified: {states}"));
            }
        }
        // Looked at last, so that every delivery counted above is among them.
        let arrivals = self.merchant.arrivals();
        let came = |name: &EventName| arrivals.iter().any(|arrival| arrival.is(*name));
        let at_once =
            |arrival: &&Arrival| arrival.attempt() == 1 && arrival.reply.code() == Some(200);
        let times = arrivals
            .iter()
            .filter(at_once)
            .map(|arrival| row(arrival).after);
        Ok(Summary {
            arrived: EventName::ALL.iter().copied().filter(came).collect(),
            deliveries,
            missing,
            times: times.collect(),
        })
    }

    /// The id of the order's event of this name.
    pub(super) async fn event(&self, name: EventName, order_id: &str) -> anyhow::Result<String> {
        let found = self
            .shop
            .get(&format!("/events?event_name={name}&order_id={order_id}"))
            .await?;
        let event_id = text(&found["events"][0], "event_id");
        Ok(event_id
            .with_context(|| format!("find {name} of {order_id}"))?
            .to_owned())
    }
}

/// What the merchant's server does other than answer 200: it fails the first two attempts of one
/// event.
fn script(arrival: &Arrival) -> Option<Reply> {
    let fails = arrival.is(EventName::OrderSucceeded)
        && arrival.about() == RETRIED
        && arrival.attempt() <= 2;
    fails.then(|| {
        Reply::status(StatusCode::INTERNAL_SERVER_ERROR).body("the shop's database is away")
    })
}

/// An arrival with the version of the endpoint that it came to.
pub(super) fn row(arrival: &Arrival) -> Row {
    let version = if arrival.path == OLD.path {
        OLD.version
    } else {
        "latest"
    };
    Row::new(arrival, version)
}

/// A sandbox in the folder that knows where the merchant is, and trusts its certificate.
fn config(folder: &TempDir, merchant: &MerchantServer) -> anyhow::Result<Config> {
    let ca_file = folder.path().join("merchant-ca.pem");
    std::fs::write(&ca_file, merchant.ca_pem()).context("write the merchant's CA")?;
    let defaults = Config::default();
    Ok(Config {
        data_dir: folder.path().join("data"),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        shutdown: Duration::from_secs(5),
        gateway: GatewayConfig {
            dummy_pending: Duration::from_secs(1),
            ..defaults.gateway
        },
        destinations: DestinationsConfig {
            static_names: BTreeMap::from([(SHOP.to_owned(), Ipv4Addr::LOCALHOST.into())]),
            allow_private: vec!["127.0.0.0/8".parse()?],
            ca_file: Some(ca_file),
            ..defaults.destinations
        },
        ..defaults
    })
}

/// The text under a key that has to have one.
pub(super) fn text<'a>(object: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    object[key]
        .as_str()
        .with_context(|| format!("find {key} in {object}"))
}

/// What the list under a key holds.
pub(super) fn list<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    object[key].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_kind_of_event_arrives_and_is_known_to_have() {
        let stage = Stage::set_up().await.unwrap();
        stage.tell().await.unwrap();
        let summary = stage.summary().await.unwrap();
        assert!(summary.is_complete(), "{}", summary.text());
        // The old version's endpoint brings two events that the other has brought already.
        assert_eq!(stage.merchant.repeats(), 2);
        stage.clear().await.unwrap();
    }
}

//! The pictures of `docs/screenshots`: the main pages of a made-up shop on a made-up morning.
//!
//! `cargo xtask screenshots` draws them anew. The clock is the story's own, so two runs differ in ids and
//! ports alone.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harkara::clock::Clock;
use harkara::receiver::{Arrival, Reply};
use harkara_core::time::Timestamp;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Stage;
use super::driver::{Browser, Look, Scripts};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/screenshots");

/// More of a page than this is not drawn.
const DESK_HEIGHT: f64 = 1040.0;
const PHONE_HEIGHT: f64 = 1500.0;

/// A payment of the morning: order, customer, amount, method, and how it ends.
type Payment = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const MORNING: &[Payment] = &[
    ("bh-2041", "asha.menon",   "640",      "NB_HDFC",  "CHARGED"),
    ("bh-2042", "kabir.sethi",  "1280",     "NB_ICICI", "CHARGED"),
    ("bh-2043", "meera.iyer",   "349.50",   "NB_SBI",   "AUTHENTICATION_FAILED"),
    ("bh-2044", "meera.iyer",   "349.50",   "NB_HDFC",  "CHARGED"),
    ("bh-2045", "rohan.das",    "2150",     "NB_AXIS",  "CHARGED"),
    ("bh-2046", "leela.nair",   "18499",    "NB_HDFC",  "CHARGED"),
    ("bh-2047", "farhan.ali",   "799",      "NB_KOTAK", "AUTHORIZATION_FAILED"),
    ("bh-2048", "tara.gupta",   "1425.75",  "NB_SBI",   "CHARGED"),
    ("bh-2049", "dev.kulkarni", "560",      "NB_HDFC",  "CHARGED"),
    ("bh-2050", "nisha.rao",    "124900",   "NB_ICICI", "CHARGED"),
    ("bh-2051", "arjun.bose",   "980",      "NB_AXIS",  "PENDING"),
];

/// From this order on, the books' own server is down.
const DOWN_FROM: &str = "bh-2049";

/// Lies between two payments: longer than the first retries wait.
const BETWEEN: Duration = Duration::from_mins(7);

impl Stage {
    /// The shop's server and, for the books, another one that goes down.
    async fn brewhouse(clock: &Clock) -> Self {
        let is_down = |arrival: &Arrival| arrival.path == "/books" && arrival.about() >= DOWN_FROM;
        let down = || {
            Reply::status(StatusCode::BAD_GATEWAY)
                .header("server", "nginx")
                .header("content-type", "application/json")
                .body(r#"{"error":"upstream connect error","upstream":"books:8080"}"#)
        };
        // The receiver's clock is another one, and its answers say the time.
        let date = "Tue, 24 Nov 2026 07:12:39 GMT";
        let script = move |arrival: &Arrival| {
            let reply = match is_down(arrival) {
                true => down(),
                false => Reply::status(StatusCode::OK).header("server", "nginx"),
            };
            Some(reply.header("date", date))
        };
        let stage = Self::of("brewhouse", clock.clone(), Scripts::On, script).await;
        for (path, version) in [("/books", "2020-10-31"), ("/payments", "")] {
            let endpoint = json!({
                "url": stage.receiver.url(path), "username": "shop", "password": "pass",
                "webhook_version": version, "signing": true,
            })
            .to_string();
            let made = stage.shop.json(Method::POST, "/endpoints", &endpoint);
            made.await.ok();
            clock.advance(BETWEEN);
        }
        stage
    }

    /// Waits until all of an order has come to the shop's server. The books' may be spared.
    async fn arrived(&self, order_id: &str) {
        let payments = self.endpoint("/payments").await;
        let is_on_its_way = |it: &&Value| {
            it["endpoint_id"] == payments && (it["state"] == "pending" || it["state"] == "waiting")
        };
        for _ in 0..500 {
            let events = self
                .shop
                .get(&format!("/events?order_id={order_id}"))
                .await
                .ok();
            let mut left = 0;
            for event in events["events"].as_array().unwrap() {
                let path = format!("/events/{}/deliveries", event["event_id"].as_str().unwrap());
                let deliveries = self.shop.get(&path).await.ok();
                let deliveries = deliveries["deliveries"].as_array().unwrap().iter();
                left += deliveries.filter(is_on_its_way).count();
            }
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not all of {order_id} arrived");
    }

    async fn refund(&self, clock: &Clock) {
        let refund = [("unique_request_id", "rf-118"), ("amount", "349.50")];
        self.shop
            .post("/orders/bh-2044/refunds", &refund)
            .await
            .ok();
        clock.advance(Duration::from_secs(8));
        self.arrived("bh-2044").await;
    }

    /// Pays as the shop's server does, and lets the time pass.
    async fn happens(&self, clock: &Clock, payment: &Payment) {
        let (order_id, customer, amount, bank, end) = *payment;
        let email = format!("{customer}@mail.example");
        let order = [
            ("order_id", order_id),
            ("amount", amount),
            ("customer_id", customer),
            ("customer_email", &email),
            ("description", "Beans and filters"),
        ];
        self.shop.post("/orders", &order).await.ok();
        clock.advance(Duration::from_secs(41));
        let txn = [
            ("order_id", order_id),
            ("payment_method_type", "NB"),
            ("payment_method", bank),
            ("dummy_outcome", end),
            ("format", "json"),
        ];
        self.shop.post("/txns", &txn).await.ok();
        clock.advance(Duration::from_secs(3));
        let becomes = if end == "PENDING" { "PENDING_VBV" } else { end };
        self.shop.order_becomes(order_id, becomes).await;
        self.arrived(order_id).await;
        clock.advance(BETWEEN);
    }
}

impl Stage {
    async fn event(&self, order_id: &str, name: &str) -> String {
        let events = self
            .shop
            .get(&format!("/events?order_id={order_id}"))
            .await
            .ok();
        let events = events["events"].as_array().unwrap();
        let event = events
            .iter()
            .find(|event| event["event_name"] == name)
            .unwrap();
        format!("/events/{}", event["event_id"].as_str().unwrap())
    }

    async fn endpoint(&self, path: &str) -> String {
        let endpoints = self.shop.get("/endpoints").await.ok();
        let endpoints = endpoints["endpoints"].as_array().unwrap();
        let url = self.receiver.url(path);
        let endpoint = endpoints
            .iter()
            .find(|endpoint| endpoint["url"] == url)
            .unwrap();
        endpoint["endpoint_id"].as_str().unwrap().to_owned()
    }
}

/// Draws what a browser shows, down to some height.
async fn draw(browser: &Browser, name: &str, look: Look) {
    browser.wear(look).await;
    let (suffix, most) = match (look.is_phone(), look.scheme) {
        (true, _) => ("-phone", PHONE_HEIGHT),
        (false, "dark") => ("-dark", DESK_HEIGHT),
        (false, _) => ("", DESK_HEIGHT),
    };
    // Nothing has the focus, and the page is as high as what is in it.
    let height = "document.activeElement.blur(); scrollTo(0, 0);
        return document.documentElement.getBoundingClientRect().height";
    let height = browser.run(height).await.as_f64().unwrap().ceil();
    let clip = json!({
        "x": 0, "y": 0, "width": look.width, "height": height.min(most), "scale": 1
    });
    let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
    let shot = browser.devtools("Page.captureScreenshot", shot).await;
    let png = BASE64_STANDARD
        .decode(shot["data"].as_str().unwrap())
        .unwrap();
    std::fs::write(Path::new(FOLDER).join(format!("{name}{suffix}.png")), png).unwrap();
}

#[tokio::test]
#[ignore = "draws docs/screenshots; `cargo xtask screenshots` runs it"]
async fn the_main_pages_are_drawn() {
    let clock = Clock::manual(Timestamp::parse_iso("2026-11-24T05:48:11Z").unwrap());
    let stage = Stage::brewhouse(&clock).await;
    for payment in MORNING {
        stage.happens(&clock, payment).await;
        if payment.0 == "bh-2046" {
            stage.refund(&clock).await;
        }
    }
    // Somebody tries the last large one again.
    let path = stage.event("bh-2050", "ORDER_SUCCEEDED").await;
    let resend = format!("{path}/resend");
    let resent = stage.shop.json(Method::POST, &resend, "{}").await;
    resent.ok();
    stage.arrived("bh-2050").await;
    clock.advance(Duration::from_secs(97));
    stage.enter().await;
    let browser = &stage.browser;
    std::fs::create_dir_all(FOLDER).unwrap();
    let endpoint = format!("/webhooks/{}", stage.endpoint("/books").await);
    let pages = [
        ("overview", "", "light dark"),
        ("orders", "/orders", "light"),
        ("order", "/orders/bh-2050", "light"),
        ("event", &path, "light dark"),
        ("endpoint", &endpoint, "light"),
    ];
    for (name, path, schemes) in pages {
        stage.go(path).await;
        for scheme in schemes.split(' ') {
            draw(
                browser,
                name,
                Look::at(if scheme == "dark" { "dark" } else { "light" }, 1280),
            )
            .await;
        }
        draw(browser, name, Look::at("light", 390)).await;
    }
}

//! The dashboard as people meet it: real pages in a real browser, with scripts and without.
//!
//! `driver.rs` has the browser, `journeys.rs` what people come for, `keyboard.rs` those who use no mouse.
//! `walk.rs` leads past all pages, for `axe.rs`, which asks whether everybody can use them, and for
//! `hostile.rs`, which has written on them what attackers would. `pictures.rs` draws some for the documents.
//! They need Chromium, which `cargo xtask test` installs; a plain `cargo test` lists them as ignored.

mod axe;
mod driver;
mod hostile;
mod journeys;
mod keyboard;
mod pictures;
mod walk;

use harkara::clock::Clock;
use harkara::receiver::{Arrival, MerchantServer, Reply};
use serde_json::json;

use self::driver::{Browser, Scripts};
use crate::app::{Merchant, TestApp, receiver};

const NAME: &str = "Asha";
const PASSWORD: &str = "a long walk by the sea";

/// A server, a merchant on it whose own server answers as scripted, and its owner in a browser.
struct Stage {
    app: TestApp,
    shop: Merchant,
    receiver: MerchantServer,
    browser: Browser,
}

impl Stage {
    /// The owner has not been here yet.
    async fn new(
        scripts: Scripts,
        script: impl Fn(&Arrival) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::of("ms", Clock::system(), scripts, script).await
    }

    async fn of(
        merchant_id: &str,
        clock: Clock,
        scripts: Scripts,
        script: impl Fn(&Arrival) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let receiver = receiver(script).await;
        let app = TestApp::start_calling_at(clock, &receiver).await;
        let shop = app.merchant(merchant_id, json!({})).await;
        let browser = Browser::open(scripts).await;
        Self {
            app,
            shop,
            receiver,
            browser,
        }
    }

    /// The owner has come by the link of the first start.
    async fn entered(
        scripts: Scripts,
        script: impl Fn(&Arrival) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let stage = Self::new(scripts, script).await;
        stage.enter().await;
        stage
    }

    async fn enter(&self) {
        let link = self.app.app.owner_link.as_ref();
        self.browser
            .go(link.expect("nobody has signed in yet"))
            .await;
        self.browser.fill("Your name", NAME).await;
        self.browser.fill("Password", PASSWORD).await;
        self.browser.press("Enter").await;
        self.browser.sees("Sign out").await;
    }

    /// The whole address of a page of the merchant's.
    fn at(&self, path: &str) -> String {
        let (server, merchant_id) = (&self.app.app.public_url, &self.shop.merchant_id);
        format!("{server}/dashboard/merchants/{merchant_id}{path}")
    }

    async fn go(&self, path: &str) {
        self.browser.go(&self.at(path)).await;
    }

    /// Pays an order at once, as the shop's own server does.
    async fn pay(&self, order_id: &str, amount: &str, more: &[(&str, &str)]) {
        let mut fields = vec![("order_id", order_id), ("amount", amount)];
        fields.extend(more);
        self.shop.post("/orders", &fields).await.ok();
        let fields = [
            ("order_id", order_id),
            ("payment_method_type", "NB"),
            ("payment_method", "NB_DUMMY"),
            ("format", "json"),
        ];
        self.shop.post("/txns", &fields).await.ok();
        self.shop.order_becomes(order_id, "CHARGED").await;
    }
}

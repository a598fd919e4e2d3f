//! What happens in the demo: small stories of payments that, together, cause every kind of event.
//!
//! A merchant's backend does the acting, over the public API alone, and waits for its webhooks
//! before it goes on. The DUMMY gateway plays the bank: its amounts and forced outcomes decide.

use std::time::Duration;

use anyhow::Context as _;
use harkara_webhook::EventName;

use super::client::Client;
use crate::receiver::{Arrival, MerchantServer};

/// The order whose `ORDER_SUCCEEDED` the merchant fails to take twice.
pub(super) const RETRIED: &str = "retried";
/// The order that is paid when the merchant has an endpoint at an old webhook version too.
pub(super) const OLD_VERSION: &str = "old-version";

/// Amounts that the DUMMY gateway pays at once, refuses, and pays after a while.
const PAID: &str = "300";
const REFUSED: &str = "600";
const PENDING: &str = "750";

/// Longer than the whole demo: what does not come is named at its end.
const PATIENCE: Duration = Duration::from_secs(600);

/// The merchant's backend and the server where its webhooks arrive.
pub(super) struct Story<'a> {
    pub(super) shop: &'a Client,
    pub(super) merchant: &'a MerchantServer,
}

impl Story<'_> {
    /// Every kind of event. Those that take their time go on beside the others.
    pub(super) async fn tell(&self) -> anyhow::Result<()> {
        let quick = async {
            self.refunds().await?;
            self.refused_payment().await?;
            self.pre_authorisation().await?;
            self.mandate().await?;
            self.refused_mandate().await
        };
        tokio::try_join!(
            quick,
            self.paid_twice("paid-twice", "SUCCESS", EventName::AutoRefundSucceeded),
            self.paid_twice("paid-twice-stuck", "FAILURE", EventName::AutoRefundFailed),
            self.paid(RETRIED),
        )?;
        Ok(())
    }

    /// An order that is paid at once.
    pub(super) async fn paid(&self, order_id: &str) -> anyhow::Result<()> {
        self.order(order_id, PAID, &[]).await?;
        self.pay(order_id).await?;
        self.hears(EventName::OrderSucceeded, order_id).await
    }

    /// One refund that succeeds, one that fails, and one that nobody knows the end of.
    async fn refunds(&self) -> anyhow::Result<()> {
        self.paid("refunds").await?;
        for (refund_id, outcome, event) in [
            ("refund-1", "SUCCESS", EventName::OrderRefunded),
            ("refund-2", "FAILURE", EventName::OrderRefundFailed),
            (
                "refund-3",
                "MANUAL_REVIEW",
                EventName::RefundManualReviewNeeded,
            ),
        ] {
            let fields = [
                ("unique_request_id", refund_id),
                ("amount", "100"),
                ("dummy_outcome", outcome),
            ];
            self.shop.form("/orders/refunds/refunds", &fields).await?;
            self.hears(event, "refunds").await?;
        }
        Ok(())
    }

    async fn refused_payment(&self) -> anyhow::Result<()> {
        self.order("refused", REFUSED, &[]).await?;
        self.pay("refused").await?;
        self.hears(EventName::OrderFailed, "refused").await
    }

    /// Money is reserved first and captured later.
    async fn pre_authorisation(&self) -> anyhow::Result<()> {
        let order_id = "reserved";
        self.order(order_id, PAID, &[("metadata.txns.auto_capture", "false")])
            .await?;
        let txn_uuid = self.pay(order_id).await?;
        self.hears(EventName::OrderAuthorized, order_id).await?;
        self.shop
            .form(&format!("/v2/txns/{txn_uuid}/capture"), &[])
            .await?;
        self.hears(EventName::OrderSucceeded, order_id).await
    }

    /// A customer pays twice before either payment is decided; the later one is given back.
    async fn paid_twice(
        &self,
        order_id: &str,
        outcome: &str,
        end: EventName,
    ) -> anyhow::Result<()> {
        self.order(
            order_id,
            PENDING,
            &[("metadata.dummy_auto_refund", outcome)],
        )
        .await?;
        self.pay(order_id).await?;
        self.pay(order_id).await?;
        self.hears(end, order_id).await
    }

    /// A mandate from its registration to its end, with notices of two debits in between.
    async fn mandate(&self) -> anyhow::Result<()> {
        let mandate_id = self.register("mandate", PAID).await?;
        self.hears(EventName::MandateActivated, &mandate_id).await?;
        let path = format!("/mandates/{mandate_id}");
        for (notice, outcome, event) in [
            ("notice-1", "SUCCESS", EventName::NotificationSucceeded),
            ("notice-2", "FAILURE", EventName::NotificationFailed),
        ] {
            let fields = [
                ("command", "pre_debit_notify"),
                ("object_reference_id", notice),
                ("description", "Your subscription, due tomorrow"),
                ("source_info.amount", "100.0"),
                ("source_info.txn_date", "1893456000"),
                ("dummy_outcome", outcome),
            ];
            self.shop.form(&path, &fields).await?;
            self.hears(event, notice).await?;
        }
        self.shop.form(&path, &[("command", "revoke")]).await?;
        self.hears(EventName::MandateRevoked, &mandate_id).await
    }

    async fn refused_mandate(&self) -> anyhow::Result<()> {
        let mandate_id = self.register("refused-mandate", REFUSED).await?;
        self.hears(EventName::MandateFailed, &mandate_id).await
    }

    /// Pays an order that registers a mandate, and returns the mandate's id.
    async fn register(&self, order_id: &str, amount: &str) -> anyhow::Result<String> {
        let customer_id = format!("customer-of-{order_id}");
        let fields = [
            ("customer_id", customer_id.as_str()),
            ("options.create_mandate", "REQUIRED"),
            ("mandate.max_amount", "5000"),
            ("mandate.frequency", "MONTHLY"),
        ];
        self.order(order_id, amount, &fields).await?;
        self.pay(order_id).await?;
        let mandates = self
            .shop
            .get(&format!("/customers/{customer_id}/mandates"))
            .await?;
        let mandate_id = mandates["list"][0]["mandate_id"].as_str();
        Ok(mandate_id
            .context("find the mandate that was just registered")?
            .to_owned())
    }

    async fn order(
        &self,
        order_id: &str,
        amount: &str,
        more: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut fields = vec![("order_id", order_id), ("amount", amount)];
        fields.extend(more);
        self.shop.form("/orders", &fields).await?;
        Ok(())
    }

    /// Starts a payment by card and returns its `txn_uuid`.
    async fn pay(&self, order_id: &str) -> anyhow::Result<String> {
        let fields = [
            ("order_id", order_id),
            ("payment_method_type", "CARD"),
            ("card_number", "4242424242424242"),
            ("card_exp_month", "11"),
            ("card_exp_year", "2030"),
            ("name_on_card", "A. Customer"),
            ("format", "json"),
        ];
        let txn = self.shop.form("/txns", &fields).await?;
        Ok(txn["txn_uuid"]
            .as_str()
            .context("find the payment's txn_uuid")?
            .to_owned())
    }

    /// Waits until the merchant has taken the webhook.
    async fn hears(&self, name: EventName, about: &str) -> anyhow::Result<()> {
        let taken = |arrival: &Arrival| {
            arrival.is(name) && arrival.about() == about && arrival.reply.code() == Some(200)
        };
        self.merchant
            .until(|arrivals| arrivals.iter().any(taken), PATIENCE)
            .await
            .with_context(|| format!("wait for {name} of {about}"))?;
        Ok(())
    }
}

//! Made-up contents for tests: one for each event name, as the rules would render it, and the flows
//! that several of them make.
//!
//! A sample is told through the same commands as a real payment, so that it has the shape of the
//! real thing, the merchant's settings included. Pure; `endpoints/trial.rs` stores and sends it, the
//! catalogue shows it.

use harkara_core::dummy;
use harkara_core::id::{MandateId, NotificationRef, OrderId, RefundId, digest, hex};
use harkara_core::json::Json;
use harkara_core::mandate::{self, Mandate, MandateCommand, MandateTerms};
use harkara_core::merchant::Merchant;
use harkara_core::money::{Amount, Currency};
use harkara_core::notification::{self, NewNotification, NotificationCommand, NotificationOutcome};
use harkara_core::order::{self, Known, NewOrder, Order, OrderCommand, OrderDetails};
use harkara_core::refund::{NewRefund, RefundOutcome};
use harkara_core::render::{self, Rendering};
use harkara_core::time::Timestamp;
use harkara_core::txn::{Gateway, NewTxn, PaymentWay};
use harkara_webhook::{EventName, MandateStatus, NotificationStatus, OrderStatus, RefundStatus};
use serde::{Deserialize, Serialize};

/// The order that a sample is about which stands alone.
pub(crate) const ORDER_ID: &str = "harkara-test";

/// A story that takes several events to tell, all about one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flow {
    Payment,
    Failure,
    Preauth,
    Refund,
    RefundFailed,
    AutoRefund,
    Mandate,
    MandateRevoked,
    NotificationFailed,
}

impl Flow {
    pub(crate) const ALL: [Self; 9] = [
        Self::Payment,
        Self::Failure,
        Self::Preauth,
        Self::Refund,
        Self::RefundFailed,
        Self::AutoRefund,
        Self::Mandate,
        Self::MandateRevoked,
        Self::NotificationFailed,
    ];

    /// As it is asked for.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Failure => "failure",
            Self::Preauth => "preauth",
            Self::Refund => "refund",
            Self::RefundFailed => "refund-failed",
            Self::AutoRefund => "auto-refund",
            Self::Mandate => "mandate",
            Self::MandateRevoked => "mandate-revoked",
            Self::NotificationFailed => "notification-failed",
        }
    }

    /// What happens, in the order in which it does.
    pub(crate) fn events(self) -> &'static [EventName] {
        use EventName as E;
        match self {
            Self::Payment => &[
                E::OrderCreated,
                E::TxnCreated,
                E::TxnCharged,
                E::OrderSucceeded,
            ],
            Self::Failure => &[E::OrderCreated, E::TxnCreated, E::TxnFailed, E::OrderFailed],
            Self::Preauth => &[
                E::TxnCreated,
                E::OrderAuthorized,
                E::TxnCharged,
                E::OrderSucceeded,
            ],
            Self::Refund => &[
                E::TxnCreated,
                E::OrderSucceeded,
                E::RefundInitiated,
                E::OrderRefunded,
            ],
            Self::RefundFailed => &[
                E::TxnCreated,
                E::OrderSucceeded,
                E::RefundInitiated,
                E::OrderRefundFailed,
            ],
            Self::AutoRefund => &[E::TxnCreated, E::TxnCharged, E::AutoRefundSucceeded],
            Self::Mandate => &[E::MandateCreated, E::MandateActivated],
            Self::MandateRevoked => &[E::MandateCreated, E::MandateActivated, E::MandateRevoked],
            Self::NotificationFailed => &[
                E::MandateCreated,
                E::MandateActivated,
                E::NotificationFailed,
            ],
        }
    }
}

const TOLD: &str = "the commands of a sample follow the rules";

/// An order and its mandate while a sample is being told.
struct Story<'a> {
    merchant: &'a Merchant,
    order_id: &'a str,
    now: Timestamp,
    order: Option<Order>,
    mandate: Option<Mandate>,
}

/// The JSON under the one key of `content` of such an event, about an order of this id.
pub(crate) fn content(
    name: EventName,
    (merchant, order_id): (&Merchant, &str),
    rendering: Rendering<'_>,
    now: Timestamp,
) -> Vec<u8> {
    use EventName as E;
    let mut story = Story {
        merchant,
        order_id,
        now,
        order: None,
        mandate: None,
    };
    match name {
        E::OrderCreated => story.create(),
        E::TxnCreated => story.start(),
        E::OrderSucceeded | E::TxnCharged => story.pay(OrderStatus::Charged),
        E::OrderFailed | E::TxnFailed => story.pay(OrderStatus::AuthorizationFailed),
        E::OrderAuthorized => story.pay(OrderStatus::Authorized),
        E::RefundInitiated => story.refund(RefundStatus::Pending),
        E::OrderRefunded => story.refund(RefundStatus::Success),
        E::OrderRefundFailed => story.refund(RefundStatus::Failure),
        E::RefundManualReviewNeeded => story.refund(RefundStatus::ManualReview),
        E::AutoRefundSucceeded => story.auto_refund(RefundStatus::Success),
        E::AutoRefundFailed => story.auto_refund(RefundStatus::Failure),
        E::MandateCreated => return story.mandate(MandateStatus::Created, rendering),
        E::MandateActivated => return story.mandate(MandateStatus::Active, rendering),
        E::MandateFailed => return story.mandate(MandateStatus::Failure, rendering),
        E::MandateRevoked => return story.mandate(MandateStatus::Revoked, rendering),
        E::NotificationSucceeded => {
            return story.notification(NotificationStatus::Success, rendering);
        }
        E::NotificationFailed => {
            return story.notification(NotificationStatus::Failure, rendering);
        }
    }
    let order = story.order.expect("every story begins with an order");
    match (name, order.txns.last()) {
        (E::TxnCharged | E::TxnFailed, Some(txn)) => render::txn(&order, &txn.txn_id, rendering),
        _ => render::order(&order, None, rendering),
    }
}

impl Story<'_> {
    fn tell(&mut self, command: &OrderCommand) {
        let known = Known {
            merchant: self.merchant,
            order: self.order.as_ref(),
            mandate: self.mandate.as_ref(),
        };
        let decision = order::decide(known, command, self.now).expect(TOLD);
        self.order = Some(decision.order);
        self.mandate = decision.mandate.or(self.mandate.take());
    }

    fn create(&mut self) {
        self.create_with(None);
    }

    fn create_with(&mut self, mandate: Option<MandateTerms>) {
        let details = OrderDetails {
            amount: Amount::from_minor(100),
            currency: Currency::INR,
            customer_id: Some("harkara-test-customer".to_owned()),
            customer_email: None,
            customer_phone: None,
            return_url: None,
            product_id: None,
            description: Some("A test of this endpoint".to_owned()),
            udf: Default::default(),
            extra: Vec::new(),
            metadata: None,
            gateway_id: None,
            mandate,
            auto_capture: true,
        };
        let new = NewOrder {
            id: format!("ordeh_{}", &hex(&digest(&[self.order_id]))[..32]),
            order_id: OrderId::new(self.order_id),
            details,
        };
        self.tell(&OrderCommand::Create(Box::new(new)));
    }

    fn start(&mut self) {
        if self.order.is_none() {
            self.create();
        }
        let way = PaymentWay {
            gateway: Gateway::dummy(),
            payment_method_type: "UPI".to_owned(),
            payment_method: "UPI".to_owned(),
            card: None,
            payer_vpa: Some("success@upi".to_owned()),
            redirect: true,
            auto_capture: true,
            metadata: None,
            forced: None,
        };
        self.tell(&OrderCommand::StartTxn(Box::new(NewTxn {
            way,
            mandate_id: None,
            key: None,
        })));
    }

    fn pay(&mut self, status: OrderStatus) {
        self.start();
        let txn = self
            .order
            .as_ref()
            .and_then(|order| order.txns.last())
            .expect("just started");
        let outcome = dummy::txn_outcome(txn, status);
        self.tell(&OrderCommand::TxnOutcome(Box::new(outcome)));
    }

    fn refund(&mut self, status: RefundStatus) {
        self.pay(OrderStatus::Charged);
        self.tell(&OrderCommand::Refund(NewRefund {
            refund_id: RefundId::new(format!("{}-refund", self.order_id)),
            amount: None,
            txn_id: None,
            refund_type: "STANDARD".to_owned(),
            forced: None,
        }));
        self.settle_refund(status);
    }

    fn auto_refund(&mut self, status: RefundStatus) {
        self.pay(OrderStatus::Charged);
        let txn = self
            .order
            .as_ref()
            .and_then(|order| order.txns.last())
            .expect("just paid");
        let txn_uuid = txn.txn_uuid.clone();
        self.tell(&OrderCommand::AutoRefund { txn_uuid });
        self.settle_refund(status);
    }

    fn settle_refund(&mut self, status: RefundStatus) {
        let order = self
            .order
            .as_ref()
            .expect("every story begins with an order");
        let refund = order.refunds.last().expect("just started");
        let failed = status == RefundStatus::Failure;
        self.tell(&OrderCommand::RefundOutcome(RefundOutcome {
            refund_id: refund.refund_id.clone(),
            status,
            gateway_refund_id: None,
            reference: None,
            error_code: failed.then(|| "JP_REFUND".to_owned()),
            error_message: failed.then(|| "Refund declined by the bank".to_owned()),
        }));
    }

    /// A mandate whose registration went as far as `status`.
    fn register(&mut self, status: MandateStatus) -> Mandate {
        self.create_with(Some(MandateTerms {
            max_amount: Amount::from_minor(10_000),
            frequency: "MONTHLY".to_owned(),
            amount_rule: "VARIABLE".to_owned(),
            rule_type: None,
            rule_value: None,
            start_date: None,
            end_date: None,
            revokable_by_customer: true,
            block_fund: false,
        }));
        self.start();
        let mandate = self.mandate.take().expect("the transaction registers one");
        let steps: &[MandateStatus] = match status {
            MandateStatus::Created => &[],
            MandateStatus::Active => &[MandateStatus::Active],
            MandateStatus::Failure => &[MandateStatus::Failure],
            MandateStatus::Paused => &[MandateStatus::Active, MandateStatus::Paused],
            MandateStatus::Revoked => &[MandateStatus::Active, MandateStatus::Revoked],
            MandateStatus::Expired => &[MandateStatus::Active, MandateStatus::Expired],
        };
        steps.iter().fold(mandate, |mandate, step| {
            let command = MandateCommand::Outcome(*step);
            mandate::decide(Some(&mandate), command, self.now)
                .expect(TOLD)
                .mandate
        })
    }

    fn mandate(&mut self, status: MandateStatus, rendering: Rendering<'_>) -> Vec<u8> {
        render::mandate(&self.register(status), rendering)
    }

    fn notification(&mut self, status: NotificationStatus, rendering: Rendering<'_>) -> Vec<u8> {
        let mandate = self.register(MandateStatus::Active);
        let debit = format!(
            r#"{{"amount":"1","txn_date":"{}"}}"#,
            self.now.epoch_seconds()
        );
        let request = NotificationCommand::Request(NewNotification {
            reference: NotificationRef::new(format!("{}-notification", self.order_id)),
            mandate_id: MandateId::new(mandate.mandate_id.as_str()),
            description: "A test of this endpoint".to_owned(),
            source_info: Json::parse(debit).expect("it is written as JSON"),
            provider_name: "DUMMY".to_owned(),
            forced: None,
        });
        let asked = notification::decide(None, Some(&mandate), &request, self.now)
            .expect(TOLD)
            .notification;
        let failed = status == NotificationStatus::Failure;
        let outcome = NotificationCommand::Outcome(NotificationOutcome {
            status,
            response_code: failed.then(|| "JP_NOTIFY_DECLINED".to_owned()),
            response_message: Some(if failed { "Refused" } else { "Delivered" }.to_owned()),
        });
        let told = notification::decide(Some(&asked), Some(&mandate), &outcome, self.now);
        render::notification(&told.expect(TOLD).notification, rendering)
    }
}

#[cfg(test)]
mod tests {
    use harkara_core::id::MerchantId;
    use harkara_webhook::Event;
    use harkara_webhook::catalog::content_kind;
    use harkara_webhook::event::envelope;
    use harkara_webhook::{Schema, schema};

    use super::*;

    /// The sample of an event, and the body that it is sent in.
    fn sent(name: EventName) -> (Vec<u8>, Vec<u8>) {
        let merchant = Merchant {
            merchant_id: MerchantId::new("ms"),
            settings: Default::default(),
        };
        let rendering = Rendering {
            settings: &merchant.settings,
            public_url: "https://p.example",
        };
        let now = Timestamp::from_seconds(1_700_000_000);
        let content = content(name, (&merchant, ORDER_ID), rendering, now);
        let body = envelope("evt_1", &now.iso(), name, content_kind(name), &content);
        (content, body)
    }

    /// What of a value its schema does not say, by path.
    fn unsaid(schema: &Schema, value: &serde_json::Value, path: &str) -> Vec<String> {
        use serde_json::Value;
        let kind = match value {
            Value::Null => return Vec::new(),
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() && schema.kind() == "integer" => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if schema.kind() == "any" {
            return Vec::new();
        }
        // The one text that a value may be stands for its type.
        let constant = format!("\"{}\"", value.as_str().unwrap_or_default());
        if schema.kind() != kind && schema.kind() != constant {
            return vec![format!("{path} is {kind} and not {}", schema.kind())];
        }
        match value {
            Value::Object(members) => {
                let of = |(key, value): (&String, &Value)| {
                    let path = format!("{path}.{key}");
                    let mut fields = schema.fields().iter();
                    match fields.find(|(name, _)| name == key) {
                        Some((_, schema)) => unsaid(schema, value, &path),
                        None => vec![format!("{path} is not in it")],
                    }
                };
                members.iter().flat_map(of).collect()
            }
            Value::Array(items) => {
                let schema = schema.items().expect("a list is of something");
                let of = |item| unsaid(schema, item, &format!("{path}[]"));
                items.iter().flat_map(of).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_sample_is_as_its_schema_says() {
        let mut wrong = Vec::new();
        for name in EventName::ALL {
            let (_, body) = sent(*name);
            let body = serde_json::from_slice(&body).unwrap();
            wrong.extend(unsaid(&schema::event(*name), &body, name.as_str()));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn flows_are_called_what_they_are_asked_for_by() {
        for flow in Flow::ALL {
            assert_eq!(serde_json::to_value(flow).unwrap(), flow.as_str());
        }
    }

    #[test]
    fn every_event_has_a_sample_whose_status_fits() {
        let row = |name: &EventName| {
            let (content, body) = sent(*name);
            let event = Event::parse(&body).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&content).unwrap();
            let refund = json["refunds"][0]["status"].as_str().unwrap_or_default();
            let line = format!(
                "{} {} {refund}",
                event.event_name,
                json["status"].as_str().unwrap()
            );
            format!("{}\n", line.trim_end())
        };
        let table: String = EventName::ALL.iter().map(row).collect();
        insta::assert_snapshot!(table, @r"
        ORDER_SUCCEEDED CHARGED
        ORDER_REFUNDED CHARGED SUCCESS
        ORDER_FAILED AUTHORIZATION_FAILED
        ORDER_REFUND_FAILED CHARGED FAILURE
        TXN_CREATED PENDING_VBV
        REFUND_MANUAL_REVIEW_NEEDED CHARGED MANUAL_REVIEW
        REFUND_INITIATED CHARGED PENDING
        AUTO_REFUND_SUCCEEDED AUTO_REFUNDED SUCCESS
        AUTO_REFUND_FAILED AUTO_REFUNDED FAILURE
        MANDATE_CREATED CREATED
        MANDATE_ACTIVATED ACTIVE
        MANDATE_FAILED FAILURE
        MANDATE_REVOKED REVOKED
        NOTIFICATION_FAILED FAILURE
        NOTIFICATION_SUCCEEDED SUCCESS
        ORDER_AUTHORIZED AUTHORIZED
        TXN_CHARGED CHARGED
        TXN_FAILED AUTHORIZATION_FAILED
        ORDER_CREATED NEW
        ");
    }
}

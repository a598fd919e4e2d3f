//! The payment state machine as a specification: scripts of commands in, events and states out.

use std::fmt::Write;
use std::time::Duration;

use harkara_webhook::{Amount, EventName, OrderStatus, RefundStatus};
use proptest::prelude::*;

use super::*;
use crate::derive;
use crate::id::{OrderId, RefundId};
use crate::merchant::Settings;
use crate::render::{self, Rendering};
use crate::txn::{Gateway, GatewayFields, PaymentWay, TxnError};

/// A merchant with one order, told things one after the other.
struct World {
    merchant: Merchant,
    order: Option<Order>,
    mandate: Option<Mandate>,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        let merchant_id = MerchantId::new("ms");
        Self {
            merchant: Merchant {
                merchant_id,
                settings: Settings::default(),
            },
            order: None,
            mandate: None,
            now: Timestamp::from_seconds(1_691_650_840),
        }
    }

    /// Carries a command out, with what follows at once, and names the events.
    fn tell(&mut self, command: &OrderCommand) -> Result<Vec<EventName>, Refusal> {
        let mut events = Vec::new();
        let mut next = Some(command.clone());
        while let Some(command) = next {
            let known = Known {
                merchant: &self.merchant,
                order: self.order.as_ref(),
                mandate: self.mandate.as_ref(),
            };
            let decision = decide(known, &command, self.now)?;
            let again = self.order.as_ref().map_or(0, |order| order.version);
            assert_eq!(decision.order.version, again + i64::from(decision.changed));
            events.extend(decision.transitions.iter().flat_map(derive::names));
            self.order = Some(decision.order);
            self.mandate = decision.mandate.or(self.mandate.take());
            next = decision.follow_up;
        }
        Ok(events)
    }

    fn txn_uuid(&self, n: &str) -> TxnUuid {
        let n: usize = n.parse().unwrap();
        self.order.as_ref().unwrap().txns[n - 1].txn_uuid.clone()
    }

    /// One step of a script, such as `charged 1` or `refund r1 5`.
    fn step(&mut self, step: &str) -> Result<Vec<EventName>, Refusal> {
        let words: Vec<&str> = step.split_whitespace().collect();
        let command = match words[..] {
            ["create", amount, ref options @ ..] => create(amount, options),
            ["pay"] => start(true),
            ["pay", "later"] => start(false),
            ["wait", minutes] => {
                self.now = self
                    .now
                    .plus(Duration::from_secs(minutes.parse::<u64>().unwrap() * 60));
                return Ok(Vec::new());
            }
            ["capture", n] => OrderCommand::Capture {
                txn_uuid: self.txn_uuid(n),
                amount: None,
            },
            ["void", n] => OrderCommand::Void {
                txn_uuid: self.txn_uuid(n),
            },
            ["refund", id, ref amount @ ..] => OrderCommand::Refund(NewRefund {
                refund_id: RefundId::new(id),
                amount: amount.first().map(|amount| Amount::parse(amount).unwrap()),
                txn_id: None,
                refund_type: "STANDARD".to_owned(),
                forced: None,
            }),
            ["auto", status] => {
                let refunds = &self.order.as_ref().unwrap().refunds;
                let refund_id = refunds.last().unwrap().refund_id.clone();
                refund_outcome(refund_id, status)
            }
            [id, status] if id.starts_with('r') => refund_outcome(RefundId::new(id), status),
            [status, n] => OrderCommand::TxnOutcome(Box::new(TxnOutcome {
                txn_uuid: self.txn_uuid(n),
                status: status.to_uppercase().parse().unwrap(),
                error: TxnError::default(),
                fields: GatewayFields::default(),
                gateway_reference_id: None,
            })),
            _ => panic!("no such step: {step}"),
        };
        self.tell(&command)
    }
}

fn create(amount: &str, options: &[&str]) -> OrderCommand {
    let registers = options.contains(&"mandate");
    let metadata = options
        .contains(&"give-back")
        .then(|| Json::parse(r#"{"auto_refund_post_success":"True"}"#).unwrap());
    OrderCommand::Create(Box::new(NewOrder {
        id: "ordeh_1".to_owned(),
        order_id: OrderId::new("1"),
        details: OrderDetails {
            amount: Amount::parse(amount).unwrap(),
            currency: Currency::INR,
            customer_id: registers.then(|| "cst_1".to_owned()),
            customer_email: None,
            customer_phone: None,
            return_url: None,
            product_id: None,
            description: None,
            udf: Default::default(),
            extra: Vec::new(),
            metadata,
            gateway_id: None,
            mandate: registers.then(|| MandateTerms {
                max_amount: Amount::parse("1000").unwrap(),
                frequency: "MONTHLY".to_owned(),
                amount_rule: "VARIABLE".to_owned(),
                rule_type: None,
                rule_value: None,
                start_date: None,
                end_date: None,
                revokable_by_customer: true,
                block_fund: false,
            }),
            auto_capture: true,
        },
    }))
}

fn start(auto_capture: bool) -> OrderCommand {
    OrderCommand::StartTxn(Box::new(NewTxn {
        way: PaymentWay {
            gateway: Gateway::dummy(),
            payment_method_type: "UPI".to_owned(),
            payment_method: "UPI".to_owned(),
            card: None,
            payer_vpa: None,
            redirect: true,
            auto_capture,
            metadata: None,
            forced: None,
        },
        mandate_id: None,
    }))
}

fn refund_outcome(refund_id: RefundId, status: &str) -> OrderCommand {
    OrderCommand::RefundOutcome(RefundOutcome {
        refund_id,
        status: status.to_uppercase().parse().unwrap(),
        gateway_refund_id: None,
        reference: None,
        error_code: None,
        error_message: None,
    })
}

/// Runs a script and prints what each step led to.
fn play(script: &str) -> String {
    let mut world = World::new();
    let mut page = String::new();
    for step in script.split(';').map(str::trim) {
        let result = match world.step(step) {
            Ok(names) if names.is_empty() => "-".to_owned(),
            Ok(names) => names
                .iter()
                .map(|name| name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            Err(refusal) => format!("refused: {}", refusal.code()),
        };
        let order = world.order.as_ref();
        let status = order.map_or("", |order| order.status().as_str());
        let back = order.map_or(Amount::ZERO, Order::amount_refunded);
        let whole = order.is_some_and(Order::is_refunded);
        let back = format!("{back}{}", if whole { " all" } else { "" });
        writeln!(page, "{step:<24} {status:<21} back {back:<7} {result}").unwrap();
    }
    page
}

#[test]
fn a_payment_succeeds_and_goes_back_in_parts() {
    let script = "create 8; pay; charged 1; charged 1; refund r1 5; r1 success; refund r2 4; \
                  refund r2 3; r2 manual_review; refund r3; r2 failure; refund r3; r3 success";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    charged 1                CHARGED               back 0       -
    refund r1 5              CHARGED               back 5       REFUND_INITIATED
    r1 success               CHARGED               back 5       ORDER_REFUNDED
    refund r2 4              CHARGED               back 5       refused: invalid.amount.exceeded
    refund r2 3              CHARGED               back 8 all   REFUND_INITIATED
    r2 manual_review         CHARGED               back 8 all   REFUND_MANUAL_REVIEW_NEEDED
    refund r3                CHARGED               back 8 all   refused: invalid.amount.exceeded
    r2 failure               CHARGED               back 5       ORDER_REFUND_FAILED
    refund r3                CHARGED               back 8 all   REFUND_INITIATED
    r3 success               CHARGED               back 8 all   ORDER_REFUNDED
    ");
}

#[test]
fn a_failed_payment_can_be_tried_again() {
    let script = "create 8; pay; authorization_failed 1; pay; authentication_failed 2; pay; \
                  charged 3; authorization_failed 3; pay";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    authorization_failed 1   AUTHORIZATION_FAILED  back 0       TXN_FAILED, ORDER_FAILED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    authentication_failed 2  AUTHENTICATION_FAILED back 0       TXN_FAILED, ORDER_FAILED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    charged 3                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    authorization_failed 3   CHARGED               back 0       -
    pay                      CHARGED               back 0       refused: invalid.order.already_successful
    ");
}

#[test]
fn a_failure_beside_a_live_or_charged_transaction_is_the_transactions_own() {
    let script = "create 8; pay; pay; juspay_declined 1; charged 2; pay";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    juspay_declined 1        PENDING_VBV           back 0       TXN_FAILED
    charged 2                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    pay                      CHARGED               back 0       refused: invalid.order.already_successful
    ");
}

#[test]
fn a_second_charge_goes_back_by_itself_and_the_order_stays_charged() {
    let script = "create 8; pay; pay; charged 2; charged 1; charged 1; auto success; refund r1";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    charged 2                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    charged 1                CHARGED               back 0       -
    charged 1                CHARGED               back 0       -
    auto success             CHARGED               back 0       AUTO_REFUND_SUCCEEDED
    refund r1                CHARGED               back 8 all   REFUND_INITIATED
    ");
}

#[test]
fn a_success_after_the_threshold_goes_back_by_itself() {
    let script = "create 8; pay; authorization_failed 1; wait 9; charged 1";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    authorization_failed 1   AUTHORIZATION_FAILED  back 0       TXN_FAILED, ORDER_FAILED
    wait 9                   AUTHORIZATION_FAILED  back 0       -
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    ");
    let script =
        "create 8; pay; authorization_failed 1; wait 11; charged 1; auto success; refund r1";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    authorization_failed 1   AUTHORIZATION_FAILED  back 0       TXN_FAILED, ORDER_FAILED
    wait 11                  AUTHORIZATION_FAILED  back 0       -
    charged 1                AUTO_REFUNDED         back 8 all   -
    auto success             AUTO_REFUNDED         back 8 all   AUTO_REFUND_SUCCEEDED
    refund r1                AUTO_REFUNDED         back 8 all   refused: invalid.order.not_successful
    ");
    insta::assert_snapshot!(play("create 8; pay; wait 11; charged 1; auto failure"), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    wait 11                  PENDING_VBV           back 0       -
    charged 1                AUTO_REFUNDED         back 8 all   -
    auto failure             AUTO_REFUNDED         back 0       AUTO_REFUND_FAILED
    ");
}

#[test]
fn a_pre_authorised_payment_is_captured_or_voided() {
    let script = "create 8; pay later; authorized 1; capture 1; capture 1; void 1";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay later                PENDING_VBV           back 0       TXN_CREATED
    authorized 1             AUTHORIZED            back 0       ORDER_AUTHORIZED
    capture 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    capture 1                CHARGED               back 0       -
    void 1                   CHARGED               back 0       refused: invalid.txn.not_authorized
    ");
    let script =
        "create 8; pay later; authorized 1; void 1; void 1; voided 1; capture 1; charged 1";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay later                PENDING_VBV           back 0       TXN_CREATED
    authorized 1             AUTHORIZED            back 0       ORDER_AUTHORIZED
    void 1                   VOID_INITIATED        back 0       -
    void 1                   VOID_INITIATED        back 0       -
    voided 1                 VOIDED                back 0       -
    capture 1                VOIDED                back 0       refused: invalid.txn.not_authorized
    charged 1                VOIDED                back 0       -
    ");
    insta::assert_snapshot!(play("create 8; pay; capture 1"), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    capture 1                PENDING_VBV           back 0       refused: invalid.txn.not_authorized
    ");
}

#[test]
fn paying_an_order_registers_its_mandate() {
    insta::assert_snapshot!(play("create 1 mandate; pay; charged 1"), @r"
    create 1 mandate         NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
    ");
    let script = "create 1 mandate; pay; authentication_failed 1; pay; charged 2";
    insta::assert_snapshot!(play(script), @r"
    create 1 mandate         NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    authentication_failed 1  AUTHENTICATION_FAILED back 0       TXN_FAILED, ORDER_FAILED, MANDATE_FAILED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    charged 2                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
    ");
    let script = "create 1 mandate give-back; pay; charged 1; auto success";
    insta::assert_snapshot!(play(script), @r"
    create 1 mandate give-back NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    charged 1                AUTO_REFUNDED         back 1 all   TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
    auto success             AUTO_REFUNDED         back 1 all   AUTO_REFUND_SUCCEEDED
    ");
}

#[test]
fn creating_an_order_twice_is_once_unless_it_differs() {
    insta::assert_snapshot!(play("pay; create 8; create 8; create 9; refund r1"), @r"
    pay                                            back 0       refused: order.not_found
    create 8                 NEW                   back 0       ORDER_CREATED
    create 8                 NEW                   back 0       -
    create 9                 NEW                   back 0       refused: duplicate.order_id
    refund r1                NEW                   back 0       refused: invalid.order.not_successful
    ");
}

/// One random step of an order's life.
fn any_step() -> impl Strategy<Value = String> {
    let statuses = OrderStatus::ALL
        .iter()
        .map(|status| status.as_str().to_owned());
    let refunds = RefundStatus::ALL
        .iter()
        .map(|status| status.as_str().to_owned());
    prop_oneof![
        Just("pay".to_owned()),
        Just("pay later".to_owned()),
        (0..20u8).prop_map(|minutes| format!("wait {minutes}")),
        (prop::sample::select(statuses.collect::<Vec<_>>()), 1..4u8)
            .prop_map(|(status, n)| format!("{status} {n}")),
        (1..4u8).prop_map(|n| format!("charged {n}")),
        (1..4u8).prop_map(|n| format!("capture {n}")),
        (1..4u8).prop_map(|n| format!("void {n}")),
        (1..5u8, 1..10u8).prop_map(|(id, amount)| format!("refund r{id} {amount}")),
        (1..5u8, prop::sample::select(refunds.collect::<Vec<_>>()))
            .prop_map(|(id, status)| format!("r{id} {status}")),
    ]
}

/// Render, then parse, is the identity: a merchant who reads an order has all of it.
fn reads_as_it_was_written(world: &World) {
    let order = world.order.as_ref().unwrap();
    for trim_webhook_response in [false, true] {
        let settings = Settings {
            trim_webhook_response,
            ..Settings::default()
        };
        let rendering = Rendering {
            settings: &settings,
            public_url: "https://pay.example",
        };
        let written = render::order(order, world.mandate.as_ref(), rendering);
        let read: harkara_webhook::content::Order = serde_json::from_slice(&written).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), written);
        assert!(read.extra.is_empty(), "{:?}", read.extra);
        assert_eq!(read.status(), Some(order.status()));
    }
}

fn is_terminal(status: OrderStatus) -> bool {
    matches!(
        status,
        OrderStatus::Charged | OrderStatus::AutoRefunded | OrderStatus::Voided
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Refunds never exceed what was charged, terminal states have no exit, and a command repeated
    /// changes nothing, whatever the history.
    #[test]
    fn no_history_breaks_the_books(steps in prop::collection::vec(any_step(), 1..40)) {
        let mut world = World::new();
        world.step("create 8").unwrap();
        for step in &steps {
            let order = world.order.clone().unwrap();
            let names_a_txn = step.split_whitespace().last().and_then(|n| n.parse::<usize>().ok());
            let is_txn_step = !step.starts_with(['r', 'w']);
            if is_txn_step && names_a_txn.is_some_and(|n| n > order.txns.len()) {
                continue;
            }
            let first = world.step(step);
            let after = world.order.clone().unwrap();
            for (before, after) in order.txns.iter().zip(&after.txns) {
                if is_terminal(before.status) {
                    prop_assert_eq!(before.status, after.status, "{}", step);
                }
            }
            reads_as_it_was_written(&world);
            for txn in &after.txns {
                prop_assert!(after.refunded_of(txn) <= txn.amount);
            }
            if is_terminal(order.status()) && order.status() == OrderStatus::Charged {
                prop_assert_eq!(after.status(), OrderStatus::Charged);
            }
            if !step.starts_with("pay") && !step.starts_with("wait") && first.is_ok() {
                let again = world.step(step).unwrap_or_default();
                prop_assert_eq!(again, Vec::new(), "{} twice", step);
            }
        }
    }
}

#[test]
fn a_stored_order_keeps_its_metadata_byte_for_byte() {
    let mut world = World::new();
    world.step("create 8 give-back").unwrap();
    world.step("pay").unwrap();
    let mut order = world.order.unwrap();
    let metadata = Json::parse(r#"{ "b":1.0, "a":[1e3] }"#).unwrap();
    order.details.metadata = Some(metadata.clone());
    order.txns[0].way.metadata = Some(metadata);
    let stored = serde_json::to_string(&order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&stored).unwrap(), order);
}

/// What this version stores, an older one stored too: such documents must keep loading, whole.
#[test]
fn stored_documents_keep_loading() {
    fn keeps<T: serde::de::DeserializeOwned + Serialize>(document: &str) -> T {
        let read: T = serde_json::from_str(document).unwrap();
        assert_eq!(
            serde_json::to_string_pretty(&read).unwrap(),
            document.trim_end()
        );
        read
    }
    let order: Order = keeps(include_str!("../../golden/order.json"));
    assert_eq!(order.status(), OrderStatus::Charged);
    let mandate: Mandate = keeps(include_str!("../../golden/mandate.json"));
    assert_eq!(mandate.status, harkara_webhook::MandateStatus::Active);
    let notification: crate::notification::Notification =
        keeps(include_str!("../../golden/notification.json"));
    assert_eq!(
        notification.status,
        harkara_webhook::NotificationStatus::Success
    );
}

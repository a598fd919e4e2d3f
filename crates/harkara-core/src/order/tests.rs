//! The payment state machine as a specification: scripts of commands in, events and states out.

use std::fmt::Write;
use std::time::Duration;

use harkara_webhook::{Amount, EventName, MandateStatus, OrderStatus, RefundStatus};
use proptest::prelude::*;

use super::*;
use crate::derive;
use crate::id::{MandateId, OrderId, RefundId, TxnId};
use crate::merchant::Settings;
use crate::refund::RefundKind;
use crate::render::{self, Rendering};
use crate::txn::{Gateway, GatewayFields, PaymentWay, TxnError};

/// A merchant with one order, told things one after the other.
struct World {
    merchant: Merchant,
    order: Option<Order>,
    mandates: Vec<Mandate>,
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
            mandates: Vec::new(),
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
                mandate: self.mandate(self.concerned(&command)),
            };
            let mut decision = decide(known, &command, self.now)?;
            let loaded = self.order.as_ref().map_or(0, |order| order.version);
            assert_eq!(decision.order.version, loaded, "the write path counts");
            decision.order.version += i64::from(decision.changed);
            events.extend(decision.transitions.iter().flat_map(derive::names));
            self.order = Some(decision.order);
            if let Some(changed) = decision.mandate {
                self.mandates
                    .retain(|known| known.mandate_id != changed.mandate_id);
                self.mandates.push(changed);
            }
            next = decision.follow_up;
        }
        Ok(events)
    }

    /// The mandate that a command's transaction registers or is paid by.
    fn concerned<'a>(&'a self, command: &'a OrderCommand) -> Option<&'a MandateId> {
        let txn_uuid = match command {
            OrderCommand::TxnOutcome(outcome) => &outcome.txn_uuid,
            OrderCommand::Capture { txn_uuid, .. }
            | OrderCommand::Void { txn_uuid }
            | OrderCommand::AutoRefund { txn_uuid } => txn_uuid,
            OrderCommand::StartTxn(new) => return new.mandate_id.as_ref(),
            OrderCommand::Create(_)
            | OrderCommand::Amend(_)
            | OrderCommand::Refund(_)
            | OrderCommand::RefundOutcome(_) => return None,
        };
        self.order.as_ref()?.txn(txn_uuid)?.mandate_id.as_ref()
    }

    fn mandate(&self, mandate_id: Option<&MandateId>) -> Option<&Mandate> {
        self.mandates
            .iter()
            .find(|mandate| Some(&mandate.mandate_id) == mandate_id)
    }

    /// The transaction of this number, or one that nobody knows.
    fn txn_uuid(&self, n: &str) -> TxnUuid {
        let n: usize = n.parse().unwrap();
        let order = self.order.as_ref();
        let txn = order.and_then(|order| order.txns.iter().find(|txn| txn.n == n));
        txn.map_or(TxnUuid::new("moz"), |txn| txn.txn_uuid.clone())
    }

    /// One step of a script, such as `charged 1` or `refund r1 5`.
    fn step(&mut self, step: &str) -> Result<Vec<EventName>, Refusal> {
        let words: Vec<&str> = step.split_whitespace().collect();
        let command = match words[..] {
            ["create", amount, ref options @ ..] => create(amount, options),
            ["pay"] => start(true, None),
            ["pay", "later"] => start(false, None),
            ["pay", "as", key] => start(true, Some(key)),
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
            ["amend", amount] => OrderCommand::Amend(Box::new(Amendment {
                amount: Some(Amount::parse(amount).unwrap()),
                ..Amendment::default()
            })),
            ["refund", id, "of", n] => refund(id, None, Some(TxnId::new(format!("ms-1-{n}")))),
            ["refund", id, amount] => refund(id, Some(Amount::parse(amount).unwrap()), None),
            ["refund", id] => refund(id, None, None),
            ["auto", status] => {
                let refunds = &self.order.as_ref().unwrap().refunds;
                let auto = refunds
                    .iter()
                    .rfind(|refund| refund.kind == RefundKind::Auto);
                let id = auto.map_or(RefundId::new("AR"), |refund| refund.refund_id.clone());
                refund_outcome(id, status)
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

fn start(auto_capture: bool, key: Option<&str>) -> OrderCommand {
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
        key: key.map(str::to_owned),
    }))
}

fn refund(id: &str, amount: Option<Amount>, txn_id: Option<TxnId>) -> OrderCommand {
    OrderCommand::Refund(NewRefund {
        refund_id: RefundId::new(id),
        amount,
        txn_id,
        refund_type: "STANDARD".to_owned(),
        forced: None,
    })
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
fn the_amount_stands_once_a_payment_was_tried() {
    let script = "create 600; amend 700; amend 600; pay; authorization_failed 1; amend 10000; \
                  amend 600; charged 1";
    insta::assert_snapshot!(play(script), @r"
    create 600               NEW                   back 0       ORDER_CREATED
    amend 700                NEW                   back 0       -
    amend 600                NEW                   back 0       -
    pay                      PENDING_VBV           back 0       TXN_CREATED
    authorization_failed 1   AUTHORIZATION_FAILED  back 0       TXN_FAILED, ORDER_FAILED
    amend 10000              AUTHORIZATION_FAILED  back 0       refused: invalid.order.amount_locked
    amend 600                AUTHORIZATION_FAILED  back 0       -
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    ");
}

#[test]
fn what_an_auto_refund_failed_to_give_back_can_be_asked_for() {
    let script = "create 8; pay; wait 11; charged 1; refund r1; auto manual_review; refund r1; \
                  auto failure; refund r1 9; refund r1 5; refund r2; r1 success; r2 failure; \
                  auto success; refund r3; r3 success; refund r4";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    wait 11                  PENDING_VBV           back 0       -
    charged 1                AUTO_REFUNDED         back 8 all   -
    refund r1                AUTO_REFUNDED         back 8 all   refused: invalid.order.not_successful
    auto manual_review       AUTO_REFUNDED         back 8 all   REFUND_MANUAL_REVIEW_NEEDED
    refund r1                AUTO_REFUNDED         back 8 all   refused: invalid.order.not_successful
    auto failure             AUTO_REFUNDED         back 0       AUTO_REFUND_FAILED
    refund r1 9              AUTO_REFUNDED         back 0       refused: invalid.amount.exceeded
    refund r1 5              AUTO_REFUNDED         back 5       REFUND_INITIATED
    refund r2                AUTO_REFUNDED         back 8 all   REFUND_INITIATED
    r1 success               AUTO_REFUNDED         back 8 all   ORDER_REFUNDED
    r2 failure               AUTO_REFUNDED         back 5       ORDER_REFUND_FAILED
    auto success             AUTO_REFUNDED         back 5       -
    refund r3                AUTO_REFUNDED         back 8 all   REFUND_INITIATED
    r3 success               AUTO_REFUNDED         back 8 all   ORDER_REFUNDED
    refund r4                AUTO_REFUNDED         back 8 all   refused: invalid.order.not_successful
    ");
    let script = "create 8; pay; pay; charged 1; charged 2; refund r1 of 2; auto failure; \
                  refund r1 of 2; r1 success; refund r2 of 2; refund r2";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    charged 2                CHARGED               back 0       -
    refund r1 of 2           CHARGED               back 0       refused: invalid.order.not_successful
    auto failure             CHARGED               back 0       AUTO_REFUND_FAILED
    refund r1 of 2           CHARGED               back 0       REFUND_INITIATED
    r1 success               CHARGED               back 0       ORDER_REFUNDED
    refund r2 of 2           CHARGED               back 0       refused: invalid.order.not_successful
    refund r2                CHARGED               back 8 all   REFUND_INITIATED
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
fn a_start_that_is_repeated_with_its_key_is_one_transaction() {
    let script = "create 8; pay as k1; pay as k1; pay as k2; charged 1; pay as k2; pay as k3";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay as k1                PENDING_VBV           back 0       TXN_CREATED
    pay as k1                PENDING_VBV           back 0       -
    pay as k2                PENDING_VBV           back 0       TXN_CREATED
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    pay as k2                CHARGED               back 0       -
    pay as k3                CHARGED               back 0       refused: invalid.order.already_successful
    ");
    let mut world = World::new();
    for step in ["create 8", "pay", "pay as k1", "pay"] {
        world.step(step).unwrap();
    }
    let order = world.order.unwrap();
    assert_eq!(order.txn_with_key("k1").map(|txn| txn.n), Some(2));
    assert_eq!(order.txn_with_key("k2"), None);
}

/// Such an order was stored before amounts were locked by a try that had failed.
#[test]
fn a_payment_of_another_amount_than_the_orders_goes_back() {
    for registers in ["", "mandate"] {
        let mut world = World::new();
        for step in [&format!("create 600 {registers}"), "pay"] {
            world.step(step).unwrap();
        }
        let details = &mut world.order.as_mut().unwrap().details;
        details.amount = Amount::parse("10000").unwrap();
        world.step("charged 1").unwrap();
        let order = world.order.as_ref().unwrap();
        assert_eq!(order.status(), OrderStatus::AutoRefunded);
        assert_eq!(order.amount_refunded(), Amount::parse("600").unwrap());
        assert!(order.is_refunded());
        assert_eq!(world.step("pay").unwrap()[0], EventName::TxnCreated);
    }
}

#[test]
fn an_order_has_bounds() {
    let mut world = World::new();
    world.step("create 8").unwrap();
    for _ in 0..50 {
        world.step("pay").unwrap();
    }
    assert_eq!(world.step("pay"), Err(Refusal::TooManyTxns));

    let mut field = |name: String, text: &str| {
        world.tell(&OrderCommand::Amend(Box::new(Amendment {
            extra: vec![(name, text.to_owned())],
            ..Amendment::default()
        })))
    };
    for n in 0..50 {
        field(format!("billing_address_{n}"), "a").unwrap();
    }
    assert_eq!(field("one_more".into(), "a"), Err(Refusal::TooManyFields));
    field("billing_address_7".into(), "b").unwrap();
    assert_eq!(world.order.unwrap().details.extra[7].1, "b");
}

#[test]
fn a_debit_stays_within_what_the_customer_agreed_to() {
    let mut registered = World::new();
    for step in ["create 1 mandate", "pay", "charged 1"] {
        registered.step(step).unwrap();
    }
    let mandate = &registered.mandates[0];
    let (amount, now) = (|text| Amount::parse(text).unwrap(), registered.now);
    let debit = |change: &dyn Fn(&mut OrderDetails, &mut Mandate)| {
        let mut world = World::new();
        world.step("create 1000").unwrap();
        let mut mandate = mandate.clone();
        change(&mut world.order.as_mut().unwrap().details, &mut mandate);
        let OrderCommand::StartTxn(mut new) = start(true, None) else {
            unreachable!("start() starts a transaction")
        };
        new.mandate_id = Some(mandate.mandate_id.clone());
        world.mandates.push(mandate);
        match world.tell(&OrderCommand::StartTxn(new)) {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => format!("{}: {refusal}", refusal.code()),
        }
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut OrderDetails, &mut Mandate));
    let second = Duration::from_secs(1);
    let cases: &[Case<'_>] = &[
        ("as agreed", &|_, _| {}),
        ("more", &|order, _| order.amount = amount("1000.01")),
        ("dollars", &|order, _| {
            order.currency = Currency::parse("USD").unwrap();
        }),
        ("same customer", &|order, _| {
            order.customer_id = Some("cst_1".to_owned());
        }),
        ("other customer", &|order, _| {
            order.customer_id = Some("cst_2".to_owned());
        }),
        ("first moment", &|_, mandate| {
            mandate.terms.start_date = Some(now);
        }),
        ("too early", &|_, mandate| {
            mandate.terms.start_date = Some(now.plus(second));
        }),
        ("last moment", &|_, mandate| {
            mandate.terms.end_date = Some(now);
        }),
        ("too late", &|_, mandate| {
            mandate.terms.end_date = Some(Timestamp::from_seconds(now.as_seconds() - 1));
        }),
        ("paused", &|_, mandate| {
            mandate.status = MandateStatus::Paused
        }),
    ];
    let mut table = String::new();
    for (what, change) in cases {
        writeln!(table, "{what:<16} {}", debit(*change)).unwrap();
    }
    insta::assert_snapshot!(table, @r"
    as agreed        ok
    more             invalid.mandate.amount: the mandate allows at most 1000 at a time
    dollars          invalid.mandate.currency: the mandate is for payments in INR, and the order is in another currency
    same customer    ok
    other customer   invalid.mandate.customer_id: the mandate was given by another customer than the order's
    first moment     ok
    too early        invalid.mandate.start_date: the mandate allows no debit before 2023-08-10T07:00:41Z
    last moment      ok
    too late         invalid.mandate.end_date: the mandate allows no debit after 2023-08-10T07:00:39Z
    paused           invalid.mandate.status: the mandate is PAUSED, so it cannot be charged
    ");
}

#[test]
fn a_second_authorisation_of_a_paid_order_can_only_be_voided() {
    let script = "create 8; pay later; pay later; authorized 1; authorized 2; capture 1; \
                  capture 2; capture 1; void 2; voided 2";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay later                PENDING_VBV           back 0       TXN_CREATED
    pay later                PENDING_VBV           back 0       TXN_CREATED
    authorized 1             AUTHORIZED            back 0       ORDER_AUTHORIZED
    authorized 2             AUTHORIZED            back 0       ORDER_AUTHORIZED
    capture 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED
    capture 2                CHARGED               back 0       refused: invalid.order.already_successful
    capture 1                CHARGED               back 0       -
    void 2                   CHARGED               back 0       -
    voided 2                 CHARGED               back 0       -
    ");
}

#[test]
fn a_registration_that_is_not_kept_leaves_no_mandate_behind() {
    let script = "create 1 mandate; pay; pay; charged 1; charged 2; auto success";
    insta::assert_snapshot!(play(script), @r"
    create 1 mandate         NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
    charged 2                CHARGED               back 0       MANDATE_FAILED
    auto success             CHARGED               back 0       AUTO_REFUND_SUCCEEDED
    ");
    let script = "create 1 mandate give-back; pay; pay; charged 1; auto success; charged 2; pay";
    insta::assert_snapshot!(play(script), @r"
    create 1 mandate give-back NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    charged 1                AUTO_REFUNDED         back 1 all   TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
    auto success             AUTO_REFUNDED         back 1 all   AUTO_REFUND_SUCCEEDED
    charged 2                AUTO_REFUNDED         back 1 all   MANDATE_FAILED
    pay                      AUTO_REFUNDED         back 1 all   refused: invalid.order.already_successful
    ");
    let script = "create 1 mandate; pay later; authorized 1; void 1; voided 1; pay; charged 2";
    insta::assert_snapshot!(play(script), @r"
    create 1 mandate         NEW                   back 0       ORDER_CREATED
    pay later                PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    authorized 1             AUTHORIZED            back 0       ORDER_AUTHORIZED
    void 1                   VOID_INITIATED        back 0       -
    voided 1                 VOIDED                back 0       MANDATE_FAILED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    charged 2                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
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
        (1..10u8).prop_map(|amount| format!("amend {amount}")),
        (1..5u8, 1..10u8).prop_map(|(id, amount)| format!("refund r{id} {amount}")),
        (1..5u8, 1..4u8).prop_map(|(id, n)| format!("refund r{id} of {n}")),
        prop::sample::select(vec!["auto success", "auto failure"]).prop_map(str::to_owned),
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
        let shown = order.leading_txn().and_then(|txn| txn.mandate_id.as_ref());
        let written = render::order(order, world.mandate(shown), rendering);
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

/// What holds of an order and its mandates after every step of whatever history.
fn check_the_books(world: &World, step: &str) -> Result<(), TestCaseError> {
    let order = world.order.as_ref().unwrap();
    let with = |status| order.txns.iter().filter(move |txn| txn.status == status);
    prop_assert!(
        with(OrderStatus::Charged).count() <= 1,
        "{} charges twice",
        step
    );
    for txn in with(OrderStatus::Charged) {
        prop_assert_eq!(order.leading_txn(), Some(txn));
        prop_assert_eq!(txn.amount, order.details.amount);
    }
    for txn in &order.txns {
        let took = matches!(txn.status, OrderStatus::Charged | OrderStatus::AutoRefunded);
        let taken = if took { txn.amount } else { Amount::ZERO };
        prop_assert!(
            order.refunded_of(txn) <= taken,
            "{} gives back too much",
            step
        );
        let mandate = world.mandate(txn.mandate_id.as_ref());
        let waits = mandate.is_some_and(|mandate| mandate.status == MandateStatus::Created);
        prop_assert!(
            !waits || txn.is_live(),
            "after {} a mandate waits for ever",
            step
        );
    }
    let active = |mandate: &&Mandate| mandate.status == MandateStatus::Active;
    prop_assert!(
        world.mandates.iter().filter(active).count() <= 1,
        "{} registers twice",
        step
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Terminal states have no exit, an order succeeds once and for all, a command repeated changes
    /// nothing, and the books are sound, whatever the history.
    #[test]
    fn no_history_breaks_the_books(
        created in prop::sample::select(vec![
            "create 8",
            "create 8 mandate",
            "create 8 mandate give-back",
        ]),
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut world = World::new();
        world.step(created).unwrap();
        let mut successes = 0;
        for step in &steps {
            let order = world.order.clone().unwrap();
            let first = world.step(step);
            let after = world.order.clone().unwrap();
            check_the_books(&world, step)?;
            reads_as_it_was_written(&world);
            for (before, after) in order.txns.iter().zip(&after.txns) {
                let goes_back = before.status == OrderStatus::Charged && created.ends_with("give-back");
                if is_terminal(before.status) && !goes_back {
                    prop_assert_eq!(before.status, after.status, "{}", step);
                }
            }
            if !step.starts_with("pay") && !step.starts_with("wait") && first.is_ok() {
                let again = world.step(step).unwrap_or_default();
                prop_assert_eq!(again, Vec::new(), "{} twice", step);
            }
            let names = first.unwrap_or_default();
            successes += names.iter().filter(|name| **name == EventName::OrderSucceeded).count();
            prop_assert!(successes <= 1, "{} succeeds again", step);
            let paid = matches!(after.status(), OrderStatus::Charged | OrderStatus::AutoRefunded);
            prop_assert!(paid || successes == 0, "{} takes the success back", step);
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
    assert_eq!(mandate.status, MandateStatus::Active);
    let notification: crate::notification::Notification =
        keeps(include_str!("../../golden/notification.json"));
    assert_eq!(
        notification.status,
        harkara_webhook::NotificationStatus::Success
    );
}

#[test]
fn an_order_that_ended_before_does_not_fail_as_well() {
    let script = "create 8; pay later; authorized 1; void 1; voided 1; pay; authorization_failed 2";
    insta::assert_snapshot!(play(script), @r"
    create 8                 NEW                   back 0       ORDER_CREATED
    pay later                PENDING_VBV           back 0       TXN_CREATED
    authorized 1             AUTHORIZED            back 0       ORDER_AUTHORIZED
    void 1                   VOID_INITIATED        back 0       -
    voided 1                 VOIDED                back 0       -
    pay                      PENDING_VBV           back 0       TXN_CREATED
    authorization_failed 2   VOIDED                back 0       TXN_FAILED
    ");
}

#[test]
fn a_registration_that_succeeds_late_activates_its_mandate_after_all() {
    let script = "create 1 mandate; pay; authentication_failed 1; wait 20; charged 1";
    insta::assert_snapshot!(play(script), @r"
    create 1 mandate         NEW                   back 0       ORDER_CREATED
    pay                      PENDING_VBV           back 0       TXN_CREATED, MANDATE_CREATED
    authentication_failed 1  AUTHENTICATION_FAILED back 0       TXN_FAILED, ORDER_FAILED, MANDATE_FAILED
    wait 20                  AUTHENTICATION_FAILED back 0       -
    charged 1                CHARGED               back 0       TXN_CHARGED, ORDER_SUCCEEDED, MANDATE_ACTIVATED
    ");
}

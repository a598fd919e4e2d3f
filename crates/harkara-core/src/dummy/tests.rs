//! What the sandbox makes of a payment, a refund and a notice, as tables.

use super::*;
use crate::id::{MandateId, MerchantId, NotificationRef, OrderId, TxnUuid};
use crate::json::Json;
use crate::money::{Amount, Currency};
use crate::order::OrderDetails;
use crate::time::Timestamp;
use crate::txn::{Gateway, PaymentWay};

const PENDING: Duration = Duration::from_secs(5);

/// A transaction of `amount`, changed as the row says.
fn order(amount: &str, change: impl FnOnce(&mut Txn)) -> Order {
    let amount = Amount::parse(amount).unwrap();
    let mut txn = Txn {
        txn_id: TxnId::new("ms-1-1"),
        txn_uuid: TxnUuid::new("moz1"),
        key: None,
        n: 1,
        amount,
        status: OrderStatus::PendingVbv,
        kind: TxnKind::Payment,
        mandate_id: None,
        created_at: Timestamp::default(),
        way: PaymentWay {
            gateway: Gateway::dummy(),
            payment_method_type: "UPI".to_owned(),
            payment_method: "UPI".to_owned(),
            card: None,
            payer_vpa: None,
            redirect: true,
            auto_capture: true,
            metadata: None,
            forced: None,
        },
        error: None,
        reply: None,
        gateway_reference_id: None,
    };
    change(&mut txn);
    Order {
        merchant_id: MerchantId::new("ms"),
        order_id: OrderId::new("1"),
        id: "ordeh_1".to_owned(),
        version: 1,
        fingerprint: String::new(),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        details: OrderDetails {
            amount,
            currency: Currency::INR,
            customer_id: None,
            customer_email: None,
            customer_phone: None,
            return_url: None,
            product_id: None,
            description: None,
            udf: Default::default(),
            extra: Vec::new(),
            metadata: None,
            gateway_id: None,
            mandate: None,
            auto_capture: true,
        },
        txns: vec![txn],
        refunds: Vec::new(),
    }
}

/// What will be answered, and when, to a transaction that was started.
fn answer(order: &Order) -> String {
    let started = Transition::TxnInitiated(TxnId::new("ms-1-1"));
    match answer_order(&started, order, PENDING) {
        None => "silence".to_owned(),
        Some((after, Command::Order(_, OrderCommand::TxnOutcome(outcome)))) => {
            let code = &outcome.error.code;
            let code = if code.is_empty() {
                String::new()
            } else {
                format!(" {code}")
            };
            format!("{}{code} after {} s", outcome.status, after.as_secs())
        }
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_amount_decides_a_payment() {
    let rows = ["1", "499.99", "500", "600", "699.99", "700", "5000"];
    let table = rows.map(|amount| format!("{amount:<8} {}\n", answer(&order(amount, |_| {}))));
    insta::assert_snapshot!(table.concat(), @r"
    1        CHARGED after 0 s
    499.99   CHARGED after 0 s
    500      AUTHORIZATION_FAILED 03 after 0 s
    600      AUTHORIZATION_FAILED 03 after 0 s
    699.99   AUTHORIZATION_FAILED 03 after 0 s
    700      CHARGED after 5 s
    5000     CHARGED after 5 s
    ");
}

#[test]
fn a_vpa_wins_over_the_amount_and_a_forced_outcome_over_all() {
    let with = |amount: &str, vpa: Option<&str>, forced: Option<&str>| {
        answer(&order(amount, |txn| {
            txn.way.payer_vpa = vpa.map(str::to_owned);
            txn.way.forced = forced.map(str::to_owned);
        }))
    };
    let rows = [
        ("600", Some("success@upi"), None),
        ("1", Some("failure@upi"), None),
        ("1", Some("somebody@upi"), None),
        ("600", Some("failure@upi"), Some("CHARGED")),
        ("1", Some("success@upi"), Some("AUTHENTICATION_FAILED")),
        ("1", None, Some("JUSPAY_DECLINED")),
        ("1", None, Some("PENDING")),
    ];
    let table = rows.map(|(amount, vpa, forced)| {
        let (said, vpa, forced) = (
            with(amount, vpa, forced),
            vpa.unwrap_or("-"),
            forced.unwrap_or("-"),
        );
        format!("{amount:<4} {vpa:<13} {forced:<22} {said}\n")
    });
    insta::assert_snapshot!(table.concat(), @r"
    600  success@upi   -                      CHARGED after 0 s
    1    failure@upi   -                      AUTHORIZATION_FAILED 03 after 0 s
    1    somebody@upi  -                      CHARGED after 0 s
    600  failure@upi   CHARGED                CHARGED after 0 s
    1    success@upi   AUTHENTICATION_FAILED  AUTHENTICATION_FAILED JP_AUTH after 0 s
    1    -             JUSPAY_DECLINED        JUSPAY_DECLINED JP_852 after 0 s
    1    -             PENDING                silence
    ");
}

#[test]
fn a_mandates_debit_succeeds_for_four_amounts() {
    let rows = ["10", "20", "30", "40", "10.5", "50", "700"];
    let table = rows.map(|amount| {
        let debit = order(amount, |txn| {
            txn.kind = TxnKind::MandatePayment;
            // The VPA that the mandate was registered with says nothing of its debits.
            txn.way.payer_vpa = Some("success@upi".to_owned());
        });
        format!("{amount:<5} {}\n", answer(&debit))
    });
    insta::assert_snapshot!(table.concat(), @r"
    10    CHARGED after 0 s
    20    CHARGED after 0 s
    30    CHARGED after 0 s
    40    CHARGED after 0 s
    10.5  AUTHORIZATION_FAILED 03 after 0 s
    50    AUTHORIZATION_FAILED 03 after 0 s
    700   AUTHORIZATION_FAILED 03 after 0 s
    ");
}

#[test]
fn what_is_to_be_captured_is_authorised_and_other_gateways_speak_for_themselves() {
    assert_eq!(
        answer(&order("1", |txn| txn.way.auto_capture = false)),
        "AUTHORIZED after 0 s"
    );
    let other = Gateway {
        id: 19,
        name: "PAYTM_V2".to_owned(),
    };
    assert_eq!(
        answer(&order("1", |txn| txn.way.gateway = other)),
        "silence"
    );
}

#[test]
fn a_scheduled_answer_is_not_played_once_something_was_decided() {
    let pending = order("800", |_| {});
    let started = Transition::TxnInitiated(TxnId::new("ms-1-1"));
    let (_, command) = answer_order(&started, &pending, PENDING).unwrap();
    assert!(still_plays(&command, Some(&pending)));
    for decided in [
        OrderStatus::AuthenticationFailed,
        OrderStatus::Charged,
        OrderStatus::Voided,
    ] {
        let order = order("800", |txn| txn.status = decided);
        assert!(!still_plays(&command, Some(&order)), "{decided}");
    }
}

#[test]
fn a_notice_succeeds_unless_told_otherwise() {
    let notice = |forced: Option<&str>| {
        let notification = Notification {
            merchant_id: MerchantId::new("ms"),
            reference: NotificationRef::new("n"),
            id: "1".to_owned(),
            version: 1,
            status: NotificationStatus::Pending,
            mandate_id: MandateId::new("m"),
            description: String::new(),
            source_info: Json::parse("{}").unwrap(),
            provider_name: String::new(),
            response_code: None,
            response_message: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            forced: forced.map(str::to_owned),
        };
        match answer_notification(&notification) {
            Some((_, Command::Notification(_, NotificationCommand::Outcome(outcome)))) => {
                outcome.status.as_str()
            }
            Some(other) => panic!("{other:?}"),
            None => "silence",
        }
    };
    let told = [None, Some("SUCCESS"), Some("FAILURE"), Some("PENDING")].map(notice);
    assert_eq!(told, ["SUCCESS", "SUCCESS", "FAILURE", "silence"]);
}

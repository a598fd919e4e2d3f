//! The samples of the public page, as printed and with their masks filled in.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::*;
use crate::amount::Amount;
use crate::event::Event;
use crate::field::Field;
use crate::status::OrderStatus;

macro_rules! golden {
    ($folder:literal) => {
        golden!(
            $folder,
            "order_succeeded",
            "order_failed",
            "order_refunded",
            "txn_created",
            "notification_succeeded",
            "mandate_created",
            "order_succeeded_mandate"
        )
    };
    ($folder:literal, $($name:literal),*) => {
        [$(($name, include_str!(concat!("../../golden/", $folder, $name, ".json")))),*]
    };
}

const PRINTED: [(&str, &str); 7] = golden!("docs/");
const FILLED: [(&str, &str); 7] = golden!("");

fn receive(body: &str) -> Event {
    Event::parse(body.as_bytes()).unwrap()
}

fn order(name: &str, samples: &[(&str, &str)]) -> Order {
    let (_, body) = samples.iter().find(|(sample, _)| *sample == name).unwrap();
    receive(body).order().unwrap().clone()
}

/// Sees that a body is received and that its content is written as the same JSON.
fn round_trip(body: &Value) -> Event {
    let event = receive(&body.to_string());
    assert_eq!(
        serde_json::to_value(&event.content).unwrap(),
        body["content"]
    );
    event
}

#[test]
fn the_printed_samples_are_received_without_complaint() {
    let table: String = PRINTED
        .map(|(sample, body)| {
            let event = round_trip(&serde_json::from_str(body).unwrap());
            let kind = serde_json::to_value(&event.content).unwrap();
            let key = kind
                .as_object()
                .and_then(|content| content.keys().next())
                .unwrap();
            let status = kind[key]["status"].as_str().unwrap();
            format!("{sample:<23} {:<22} {key:<12} {status}\n", event.event_name)
        })
        .concat();
    insta::assert_snapshot!(table, @r"
    order_succeeded         ORDER_SUCCEEDED        order        CHARGED
    order_failed            ORDER_FAILED           order        AUTHORIZATION_FAILED
    order_refunded          ORDER_REFUNDED         order        CHARGED
    txn_created             TXN_CREATED            order        PENDING_VBV
    notification_succeeded  NOTIFICATION_SUCCEEDED notification SUCCESS
    mandate_created         MANDATE_CREATED        mandate      CREATED
    order_succeeded_mandate ORDER_SUCCEEDED        order        CHARGED
    ");
}

#[test]
fn a_masked_value_hides_itself_and_nothing_else() {
    let order = order("order_refunded", &PRINTED);
    assert!(order.is_charged());
    assert_eq!(order.order_id(), Some("sample_ord_403"));
    assert_eq!(order.status_id, Field::Value(21));
    assert_eq!(order.amount.value(), Some(&Amount::from_minor(800)));
    assert_eq!(order.maximum_eligible_refund_amount.value(), None);
    assert!(matches!(order.card, Field::Other { value: None, .. }));
    assert_eq!(order.gateway_reference_id, Field::Null);
    assert_eq!(order.mandate, Field::Absent);

    let refund = order.refund("erf_b0c764a743c4221b").unwrap();
    assert!(refund.is_success());
    assert!(!refund.is_automatic());
    assert_eq!(refund.id, Field::Null);
    assert_eq!(refund.amount, Amount::from_minor(500).into());
}

#[test]
fn the_filled_samples_are_typed_throughout() {
    for (sample, body) in FILLED {
        let event = round_trip(&serde_json::from_str(body).unwrap());
        let shown = format!("{:?}", event.content);
        assert!(
            !shown.contains("Other {"),
            "{sample} has a value of another type: {shown}"
        );
        assert!(
            !shown.contains("extra: {\""),
            "{sample} has a key without a field: {shown}"
        );
    }
}

#[test]
fn a_mandate_has_its_status_under_another_key_inside_an_order() {
    let order = order("order_succeeded_mandate", &FILLED);
    let mandate = order.mandate.value().unwrap();
    assert_eq!(mandate.status().unwrap().as_str(), "ACTIVE");
    assert_eq!(mandate.max_amount, Amount::from_minor(100_000).into());
    assert_eq!(mandate.rule_value, Field::Value(30));

    let (_, body) = FILLED[5];
    let event = receive(body);
    let mandate = event.mandate().unwrap();
    assert_eq!(mandate.mandate_id(), Some("c1ZJDKT3YXUhxubgKhkom8"));
    assert!(!mandate.is_active());
}

#[test]
fn free_json_is_kept_byte_for_byte() {
    let content = concat!(
        r#"{"order_id":"o-1","metadata":{ "b" : 1.50,"a":[ 1e2 ],"#,
        "\n\t",
        r#""b":"\u0041" },"udf1":"","parcel":{"z":1,"a":null}}"#,
    );
    let order: Order = serde_json::from_str(content).unwrap();
    let written = serde_json::to_string(&order).unwrap();
    let metadata = |text: &str| text[text.find(r#""metadata""#).unwrap()..].to_owned();
    let (read, written) = (metadata(content), metadata(&written));
    let end = read.find(r#","udf1""#).unwrap();
    assert_eq!(read[..end], written[..end]);
    assert_eq!(order.extra["parcel"], json!({"z": 1, "a": null}));
}

#[test]
fn numbers_in_quotes_are_understood_and_left_in_quotes() {
    let body = json!({
        "id": "evt_1",
        "event_name": "ORDER_FAILED",
        "content": {"order": {
            "status_id": "26", "refunded": "true", "amount": "1551", "effective_amount": 8.0,
            "refunds": [{"amount": "5.50", "sent_to_gateway": "false"}],
        }},
    });
    let event = round_trip(&body);
    let order = event.order().unwrap();
    assert_eq!(order.status_id.value(), Some(&26));
    assert_eq!(order.refunded.value(), Some(&true));
    assert_eq!(order.amount.value(), Some(&Amount::from_minor(155_100)));
    assert_eq!(
        order.effective_amount.value(),
        Some(&Amount::from_minor(800))
    );
    assert_eq!(
        order.refunds()[0].amount.value(),
        Some(&Amount::from_minor(550))
    );
    assert_eq!(order.refunds()[0].sent_to_gateway.value(), Some(&false));
}

#[test]
fn a_status_from_the_future_is_text_without_a_type() {
    let order: Order = serde_json::from_value(json!({"status": "TO_BE_CHARGED"})).unwrap();
    assert_eq!(order.status.value().unwrap(), "TO_BE_CHARGED");
    assert_eq!(order.status(), None);
    let order: Order = serde_json::from_value(json!({"status": "VOIDED"})).unwrap();
    assert_eq!(order.status(), Some(OrderStatus::Voided));
}

#[test]
fn dropping_nulls_leaves_free_json_alone() {
    let mut order: Order = serde_json::from_str(
        r#"{"bank_pg":null,"udf1":"","metadata":{"a":null},"parcel":null,
            "payment_gateway_response":{"rrn":null,"resp_code":"00"},
            "refunds":[{"id":null,"amount":5}]}"#,
    )
    .unwrap();
    order.drop_nulls();
    insta::assert_snapshot!(serde_json::to_string(&order).unwrap(), @r#"{"payment_gateway_response":{"resp_code":"00"},"refunds":[{"amount":5}],"metadata":{"a":null},"udf1":""}"#);
}

#[test]
fn nothing_is_written_for_an_empty_content() {
    assert_eq!(serde_json::to_string(&Order::default()).unwrap(), "{}");
    let refunds = |refunds: Vec<Refund>| Order {
        refunds: refunds.into_iter().collect(),
        ..Order::default()
    };
    assert_eq!(refunds(vec![]).refunds, Field::Absent);
    assert_eq!(refunds(vec![Refund::default()]).refunds().len(), 1);
}

/// What may happen to one value of a sample on its way here.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    Dropped,
    Nulled,
    Masked,
    Stringified,
    Joined,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        Just(Mutation::Dropped),
        Just(Mutation::Nulled),
        Just(Mutation::Masked),
        Just(Mutation::Stringified),
        Just(Mutation::Joined),
    ]
}

/// The JSON pointers of everything inside a value, not of the value itself.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, child)| (key.replace('~', "~0"), child))
            .collect(),
        Value::Array(array) => array
            .iter()
            .enumerate()
            .map(|(index, child)| (index.to_string(), child))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    };
    let below = |(key, child): (String, &Value)| {
        let deeper = pointers(child)
            .into_iter()
            .map(|pointer| format!("/{key}{pointer}"));
        std::iter::once(format!("/{key}"))
            .chain(deeper)
            .collect::<Vec<_>>()
    };
    children.into_iter().flat_map(below).collect()
}

fn mutate(content: &mut Value, pointer: &str, mutation: Mutation) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let target = content.pointer_mut(pointer).unwrap();
    match mutation {
        Mutation::Nulled => *target = Value::Null,
        Mutation::Masked => *target = "FILTERED".into(),
        Mutation::Stringified if !target.is_string() => *target = target.to_string().into(),
        Mutation::Stringified => *target = json!(26.5),
        Mutation::Joined => *target = json!([{"new": {"key": target.take()}}]),
        Mutation::Dropped => match content.pointer_mut(parent).unwrap() {
            Value::Object(object) => {
                object.remove(key);
            }
            Value::Array(array) => {
                array.remove(key.parse().unwrap());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                unreachable!("only objects and arrays have something inside")
            }
        },
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_again(
        sample in 0..FILLED.len(),
        mutations in proptest::collection::vec((any::<Index>(), mutation()), 0..12),
    ) {
        let mut body: Value = serde_json::from_str(FILLED[sample].1).unwrap();
        let content = body["content"].as_object_mut().unwrap().values_mut().next().unwrap();
        for (at, mutation) in mutations {
            let pointers = pointers(content);
            if !pointers.is_empty() {
                mutate(content, &pointers[at.index(pointers.len())], mutation);
            }
        }
        let event = round_trip(&body);
        prop_assert!(!matches!(event.content, crate::event::Content::Other(_)));
    }

    #[test]
    fn a_damaged_sample_is_refused_or_received_but_never_a_panic(
        sample in 0..FILLED.len(),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = FILLED[sample].1.as_bytes().to_vec();
        for (at, byte) in damage {
            *at.get_mut(&mut body) = byte;
        }
        if let Ok(event) = Event::parse(&body) {
            serde_json::to_string(&event.content).unwrap();
        }
    }
}

//! The page's seven samples, each produced by API calls alone.
//!
//! Every key of a sample has to be there with its type, and with its value where the page fixes it;
//! further keys only where the reference's field matrix has them.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::app::{Merchant, TestApp};

/// Values that differ from run to run or from host to host: only their type is compared.
const FREE: &[&str] = &[
    "id",
    "date_created",
    "content.order.id",
    "content.order.txn_uuid",
    "content.order.date_created",
    "content.order.metadata.payment_links.",
    "content.order.payment_links.",
    "content.order.payment_gateway_response.created",
    "content.order.txn_detail.created",
    "content.order.txn_detail.txn_uuid",
    "content.order.txn_detail.source_object_id",
    "content.order.refunds.0.created",
    "content.order.refunds.0.ref",
    "content.order.mandate.mandate_id",
    "content.order.mandate.mandate_token",
    "content.mandate.mandate_id",
    "content.mandate.last_updated",
    "content.notification.id",
    "content.notification.date_created",
    "content.notification.last_updated",
    "content.notification.mandate.mandate_id",
];

/// Keys that the field matrix has beyond some of the samples.
const MATRIX: &[&str] = &[
    "content.order.bank_pg",
    "content.order.effective_amount",
    "content.order.gateway_reference_id",
    "content.order.maximum_eligible_refund_amount",
    "content.order.offers",
    "content.order.payment_gateway_response.epg_txn_id",
    "content.order.payment_gateway_response.resp_code",
    "content.order.payment_gateway_response.resp_message",
    "content.order.payment_gateway_response.rrn",
    "content.order.payment_gateway_response.txn_id",
    "content.order.payment_links.iframe",
    "content.order.payment_links.mobile",
    "content.order.rewards_breakup",
    "content.order.txn_detail.surcharge_amount",
    "content.order.txn_detail.tax_amount",
];

fn golden(file: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harkara-webhook/golden");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_free(path: &str) -> bool {
    FREE.iter()
        .any(|free| path == *free || (free.ends_with('.') && path.starts_with(free)))
}

/// Compares what was produced with a sample as printed and with its masks filled; lists what is off.
fn differences(path: &str, printed: &Value, filled: &Value, made: &Value, off: &mut Vec<String>) {
    let masked = printed != filled;
    match (filled, made) {
        (Value::Object(_), Value::Object(made)) if masked && !printed.is_object() => {
            // A mask stands for the whole object, so the page fixes none of its keys.
            let empty = made.is_empty();
            if empty {
                off.push(format!("{path} is empty"));
            }
        }
        (Value::Object(filled), Value::Object(made)) => {
            for (key, value) in filled {
                let inner = format!("{path}{}{key}", if path.is_empty() { "" } else { "." });
                match made.get(key) {
                    None => off.push(format!("{inner} is missing")),
                    Some(made) => differences(&inner, &printed[key], value, made, off),
                }
            }
            for key in made.keys().filter(|key| !filled.contains_key(*key)) {
                let inner = format!("{path}{}{key}", if path.is_empty() { "" } else { "." });
                if !MATRIX.contains(&inner.as_str()) {
                    off.push(format!("{inner} is in no sample: {}", made[key]));
                }
            }
        }
        (Value::Array(filled), Value::Array(made)) => {
            if filled.len() != made.len() {
                off.push(format!(
                    "{path} has {} items, not {}",
                    made.len(),
                    filled.len()
                ));
            }
            for (n, (value, made)) in filled.iter().zip(made).enumerate() {
                differences(&format!("{path}.{n}"), &printed[n], value, made, off);
            }
        }
        (filled, made) if kind(filled) != kind(made) => {
            off.push(format!(
                "{path} is {made}, not a {} such as {filled}",
                kind(filled)
            ));
        }
        (filled, made) if filled != made && !masked && !is_free(path) => {
            off.push(format!("{path} is {made}, not {filled}"));
        }
        _ => {}
    }
}

fn check(sample: &str, made: &Value) {
    let (printed, filled) = (
        golden(&format!("docs/{sample}.json")),
        golden(&format!("{sample}.json")),
    );
    let mut off = Vec::new();
    differences("", &printed, &filled, made, &mut off);
    assert!(off.is_empty(), "{sample}:\n{}\nin {made:#}", off.join("\n"));
}

/// The session of the page's shop, with the amounts and udf fields of one sample.
async fn session(shop: &Merchant, order_id: &str, amount: &str, sample: &str) {
    let filled = golden(&format!("{sample}.json"));
    let order = &filled["content"]["order"];
    let mut body = json!({
        "order_id": order_id,
        "amount": amount,
        "customer_id": order["customer_id"],
        "customer_email": order["customer_email"],
        "customer_phone": order["customer_phone"],
        "payment_page_client_id": order["metadata"]["payment_page_client_id"],
        "action": "paymentPage",
        "return_url": "https://shop.merchant.com",
        "metadata": { "merchant_payload": order["metadata"]["merchant_payload"] },
    });
    for n in 1..=10 {
        body[format!("udf{n}")] = order[format!("udf{n}")].clone();
    }
    shop.json(Method::POST, "/session", &body.to_string())
        .await
        .ok();
}

/// Pays by card and leaves the outcome to the gateway's report; gives the `txn_uuid`.
async fn pay(shop: &Merchant, order_id: &str) -> String {
    let fields = [
        ("order_id", order_id),
        ("merchant_id", "ms"),
        ("payment_method_type", "CARD"),
        ("payment_method", "VISA"),
        ("card_number", "4111111111111111"),
        ("card_exp_month", "05"),
        ("card_exp_year", "2030"),
        ("name_on_card", "Name"),
        ("card_security_code", "111"),
        ("metadata.payment_channel", "WEB"),
        ("metadata.microapp", "hyperpay"),
        ("dummy_outcome", "PENDING"),
        ("redirect_after_payment", "true"),
        ("format", "json"),
    ];
    let answer = shop.post("/txns", &fields).await.ok();
    assert_eq!(answer["status"], "PENDING_VBV");
    answer["txn_uuid"].as_str().unwrap().to_owned()
}

/// What the gateway of a sample said, as an adapter reports it.
fn report(sample: &str) -> Value {
    let filled = golden(&format!("{sample}.json"));
    let order = &filled["content"]["order"];
    let mut response = order["payment_gateway_response"].clone();
    response.as_object_mut().unwrap().remove("created");
    json!({
        "status": order["txn_detail"]["status"],
        "error_code": order["txn_detail"]["error_code"],
        "error_message": order["txn_detail"]["error_message"],
        "payment_gateway_response": response,
    })
}

#[tokio::test]
async fn order_succeeded_with_nulls_left_out_has_exactly_the_samples_keys() {
    let app = TestApp::start().await;
    let shop = app
        .merchant("ms", json!({ "trim_webhook_response": true }))
        .await;
    session(&shop, "sample_ord_200", "1", "order_succeeded").await;
    let txn_uuid = pay(&shop, "sample_ord_200").await;
    shop.outcome(&format!("txns/{txn_uuid}"), report("order_succeeded"))
        .await;
    let made = shop.event("ORDER_SUCCEEDED").await;
    check("order_succeeded", &made);

    let keys = |value: &Value| {
        let mut paths = Vec::new();
        collect_keys("", value, &mut paths);
        paths
    };
    assert_eq!(keys(&made), keys(&golden("order_succeeded.json")));
}

/// Every key's path, card details aside, which the page masks as a whole.
fn collect_keys(path: &str, value: &Value, paths: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (key, value) in object {
            let path = format!("{path}.{key}");
            if key != "card" {
                collect_keys(&path, value, paths);
            }
            paths.push(path);
        }
        paths.sort();
    }
}

#[tokio::test]
async fn txn_created() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    session(&shop, "sample_ord_200", "1", "txn_created").await;
    pay(&shop, "sample_ord_200").await;
    check("txn_created", &shop.event("TXN_CREATED").await);
}

#[tokio::test]
async fn order_failed() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    session(&shop, "sample_ord_502", "8", "order_failed").await;
    let txn_uuid = pay(&shop, "sample_ord_502").await;
    shop.outcome(&format!("txns/{txn_uuid}"), report("order_failed"))
        .await;
    check("order_failed", &shop.event("ORDER_FAILED").await);
}

#[tokio::test]
async fn order_refunded() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    session(&shop, "sample_ord_403", "8", "order_refunded").await;
    let txn_uuid = pay(&shop, "sample_ord_403").await;
    shop.outcome(&format!("txns/{txn_uuid}"), report("order_refunded"))
        .await;
    let fields = [
        ("unique_request_id", "erf_b0c764a743c4221b"),
        ("amount", "5"),
    ];
    shop.post("/orders/sample_ord_403/refunds", &fields)
        .await
        .ok();
    check("order_refunded", &shop.event("ORDER_REFUNDED").await);
}

#[tokio::test]
async fn mandate_created() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order_id", "ord_1692176519ms"),
        ("amount", "1"),
        ("customer_id", "cst_1"),
        ("options.create_mandate", "REQUIRED"),
        ("mandate.max_amount", "100"),
        ("mandate.frequency", "ASPRESENTED"),
        ("mandate.amount_rule", "VARIABLE"),
        ("mandate.start_date", "1692169687"),
        ("mandate.end_date", "1789934557"),
    ];
    shop.post("/orders", &fields).await.ok();
    pay(&shop, "ord_1692176519ms").await;
    check("mandate_created", &shop.event("MANDATE_CREATED").await);
}

#[tokio::test]
async fn order_succeeded_of_a_mandate() {
    let app = TestApp::start().await;
    let shop = app.merchant("juspay", json!({})).await;
    let order_id = "234823498237423894273498";
    let fields = [
        ("order_id", order_id),
        ("amount", "1"),
        ("customer_id", "cst_lz7zmpemoo5okv"),
        ("customer_email", "customer@gmail.com"),
        ("customer_phone", "9999999999"),
        ("return_url", "https://api.juspay.in"),
        ("gateway_id", "19"),
        ("metadata.PAYTM_V2:gateway_reference_id", "upimandate"),
        ("options.create_mandate", "REQUIRED"),
        ("mandate.max_amount", "1000"),
        ("mandate.frequency", "MONTHLY"),
        ("mandate.amount_rule", "VARIABLE"),
        ("mandate.rule_type", "AFTER"),
        ("mandate.rule_value", "30"),
        ("mandate.start_date", "1598745600"),
        ("mandate.end_date", "1606521610"),
    ];
    shop.post("/orders", &fields).await.ok();
    let fields = [
        ("order_id", order_id),
        ("merchant_id", "juspay"),
        ("payment_method_type", "UPI"),
        ("payment_method", "UPI"),
        ("upi_vpa", "9999999999@paytm"),
        ("gateway", "PAYTM_V2"),
        ("format", "json"),
    ];
    let answer = shop.post("/txns", &fields).await.ok();
    let txn_uuid = answer["txn_uuid"].as_str().unwrap();
    shop.outcome(
        &format!("txns/{txn_uuid}"),
        report("order_succeeded_mandate"),
    )
    .await;
    check(
        "order_succeeded_mandate",
        &shop.event("ORDER_SUCCEEDED").await,
    );
    let activated = shop.event("MANDATE_ACTIVATED").await;
    assert_eq!(activated["content"]["mandate"]["status"], "ACTIVE");
}

#[tokio::test]
async fn notification_succeeded() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order_id", "ord_1"),
        ("amount", "1"),
        ("customer_id", "cst_1"),
        ("options.create_mandate", "REQUIRED"),
        ("mandate.max_amount", "100"),
    ];
    shop.post("/orders", &fields).await.ok();
    let txn_uuid = pay(&shop, "ord_1").await;
    shop.outcome(&format!("txns/{txn_uuid}"), json!({ "status": "CHARGED" }))
        .await;
    let activated = shop.event("MANDATE_ACTIVATED").await;
    let mandate_id = activated["content"]["mandate"]["mandate_id"]
        .as_str()
        .unwrap();
    let fields = [
        ("command", "pre_debit_notify"),
        ("object_reference_id", "sCh7ihFFGLJKayCW"),
        ("description", "Your monthly plan"),
        ("source_info", r#"{"amount":"1.0","txn_date":"1691818137"}"#),
    ];
    shop.post(&format!("/mandates/{mandate_id}"), &fields)
        .await
        .ok();
    check(
        "notification_succeeded",
        &shop.event("NOTIFICATION_SUCCEEDED").await,
    );
}

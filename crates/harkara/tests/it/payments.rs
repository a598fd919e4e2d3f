//! Orders, transactions and refunds over HTTP, as the public SDKs ask for them: forms with dotted
//! names, and the answers that their own tests look for.

use std::time::Duration;

use harkara::receiver::{Arrival, Reply as Answer};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{Merchant, TestApp, keys, receiver};

const VERSION: (&str, &str) = ("version", "2023-06-30");
const TOKEN: (&str, &str) = ("options.get_client_auth_token", "true");
const LINKS: [&str; 3] = ["web", "mobile", "iframe"];

async fn order(shop: &Merchant, order_id: &str, amount: &str) {
    let fields = [("order_id", order_id), ("amount", amount)];
    shop.post("/orders", &fields).await.ok();
}

/// Pays an order by net banking, which the DUMMY gateway answers as it is told.
async fn pay(shop: &Merchant, order_id: &str, outcome: &str) -> Value {
    let fields = [
        ("order_id", order_id),
        ("merchant_id", "ms"),
        ("payment_method_type", "NB"),
        ("payment_method", "NB_AXIS"),
        ("dummy_outcome", outcome),
        ("format", "json"),
    ];
    shop.post("/txns", &fields).await.ok()
}

async fn paid(shop: &Merchant, order_id: &str, amount: &str) -> Value {
    order(shop, order_id, amount).await;
    pay(shop, order_id, "CHARGED").await;
    shop.order_becomes(order_id, "CHARGED").await
}

#[tokio::test]
async fn a_created_order_is_answered_as_each_client_expects() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    type Row<'a> = (
        &'a str,
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a [(&'a str, &'a str)],
    );
    let rows: [Row<'_>; 6] = [
        ("a", "/order/create", &[], &[]),
        ("b", "/order/create", &[], &[VERSION]),
        ("c", "/order/create", &[TOKEN], &[VERSION]),
        ("d", "/orders", &[], &[VERSION]),
        ("e", "/orders", &[], &[]),
        ("f", "/orders", &[TOKEN], &[VERSION]),
    ];
    let mut page = String::new();
    for (order_id, path, more, headers) in rows {
        let mut fields = vec![("order_id", order_id), ("amount", "1")];
        fields.extend(more);
        let answer = shop.post_with(path, &fields, headers).await.ok();
        for link in LINKS {
            let link = answer["payment_links"][link].as_str().unwrap();
            assert!(link.contains(answer["id"].as_str().unwrap()), "{link}");
        }
        assert_eq!(answer["order_id"], order_id);
        let asked: Vec<&str> = more.iter().chain(headers).map(|(name, _)| *name).collect();
        page += &format!(
            "{path:<14} {:<38} {} {} {}\n",
            asked.join(" "),
            answer["status"],
            answer["status_id"],
            keys(&answer["juspay"]),
        );
        // Whatever its creation was answered with, the status call says NEW.
        let status = shop.get(&format!("/orders/{order_id}")).await.ok();
        assert_eq!(
            (&status["status"], &status["status_id"]),
            (&json!("NEW"), &json!(10))
        );
    }
    insta::assert_snapshot!(page, @r#"
    /order/create                                         "CREATED" 1 
    /order/create  version                                "CREATED" 1 
    /order/create  options.get_client_auth_token version  "CREATED" 1 client_auth_token client_auth_token_expiry
    /orders        version                                "CREATED" 1 
    /orders                                               "NEW" 10 
    /orders        options.get_client_auth_token version  "NEW" 10 client_auth_token client_auth_token_expiry
    "#);
}

#[tokio::test]
async fn the_small_answer_is_small() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [("order_id", "a"), ("amount", "1")];
    let answer = shop.post("/order/create", &fields).await.ok();
    insta::assert_snapshot!(keys(&answer), @r"id order_id payment_links{iframe mobile web} status status_id");
}

#[tokio::test]
async fn an_order_is_found_in_every_way_of_asking() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    order(&shop, "Ord-1", "1").await;
    let found = shop.get("/orders/Ord-1").await;
    assert_eq!(found.ok()["order_id"], "Ord-1");
    for path in [
        "/orders/ord-1",
        "/orders/ORD-1?order_id=ORD-1",
        "/order/status?order_id=Ord-1",
        "/order/status?orderId=ORD-1",
    ] {
        assert_eq!(shop.get(path).await.body, found.body, "{path}");
    }
    let again = [("order_id", "oRD-1"), ("amount", "1")];
    let again = shop.post("/orders", &again).await.ok();
    assert_eq!(
        again["order_id"], "Ord-1",
        "the same order, in other letters"
    );
    assert_eq!(shop.get("/order/list").await.ok()["total"], 1);
}

#[tokio::test]
async fn the_header_with_the_merchants_name_may_be_empty() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mut page = String::new();
    for named in ["", "ms", "other"] {
        let fields = [("order_id", "a"), ("amount", "1")];
        let headers = [("x-merchantid", named), ("x-routing-id", "cst_1")];
        let answer = shop.post_with("/orders", &fields, &headers).await;
        page += &format!("{named:?}: {}\n", answer.status);
    }
    insta::assert_snapshot!(page, @r#"
    "": 200 OK
    "ms": 200 OK
    "other": 401 Unauthorized
    "#);
}

#[tokio::test]
async fn amount_address_and_udf_fields_may_change() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order_id", "a"),
        ("amount", "1"),
        ("udf1", "one"),
        ("udf2", "two"),
    ];
    shop.post("/orders", &fields).await.ok();
    let changes = [
        ("amount", "12.50"),
        ("udf2", ""),
        ("udf3", "three"),
        ("billing_address_city", "Pune"),
        ("shipping_address_city", "Goa"),
    ];
    let answer = shop.post("/orders/A", &changes).await;
    let amended = answer.ok();
    let shown: Vec<String> = ["amount", "udf1", "udf2", "udf3", "status"]
        .map(|key| format!("{key} {}", amended[key]))
        .into();
    insta::assert_snapshot!(shown.join(", "), @r#"amount 12.5, udf1 "one", udf2 "", udf3 "three", status "NEW""#);
    assert_eq!(shop.get("/orders/a").await.body, answer.body);

    pay(&shop, "a", "PENDING").await;
    let late = shop.post("/orders/a", &[("amount", "13")]).await;
    insta::assert_snapshot!(late.refusal(), @r"400 invalid.order.amount_locked: the order's amount cannot change any more: a transaction was started on it");
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    for order_id in ["a", "b", "c"] {
        order(&shop, order_id, "1").await;
    }
    paid(&shop, "d", "1").await;
    let mut page = String::new();
    for query in [
        "",
        "?count=2",
        "?count=2&offset=2",
        "?status=CHARGED",
        "?count=2&status=NEW",
    ] {
        page += &format!("{query:<20} {}\n", listed(&shop, query).await);
    }
    insta::assert_snapshot!(page, @r#"
                         ["d", "c", "b", "a"] count 4 offset 0 total 4
    ?count=2             ["d", "c"] count 2 offset 0 total 4
    ?count=2&offset=2    ["b", "a"] count 2 offset 2 total 4
    ?status=CHARGED      ["d"] count 1 offset 0 total 1
    ?count=2&status=NEW  ["c", "b"] count 2 offset 0 total 3
    "#);
}

async fn listed(shop: &Merchant, query: &str) -> String {
    let answer = shop.get(&format!("/order/list{query}")).await.ok();
    let orders = answer["list"].as_array().unwrap().iter();
    let ids: Vec<&str> = orders
        .map(|order| order["order_id"].as_str().unwrap())
        .collect();
    format!(
        "{ids:?} count {} offset {} total {}",
        answer["count"], answer["offset"], answer["total"]
    )
}

#[tokio::test]
async fn a_list_tells_which_orders_the_shop_was_told_of() {
    let refuses_b = |arrival: &Arrival| {
        (arrival.about() == "b").then(|| Answer::status(StatusCode::BAD_GATEWAY))
    };
    let receiver = receiver(refuses_b).await;
    let app = TestApp::start_calling(&receiver).await;
    let shop = app.merchant("ms", json!({})).await;
    shop.listen(&receiver).await;
    for order_id in ["a", "b"] {
        paid(&shop, order_id, "1").await;
    }
    // What the shop answered is known a moment later.
    let known = async { while listed(&shop, "?notified=true").await.starts_with("[]") {} };
    tokio::time::timeout(Duration::from_secs(20), known)
        .await
        .unwrap();
    let mut page = String::new();
    for query in ["?notified=true", "?notified=false"] {
        page += &format!("{query:<15} {}\n", listed(&shop, query).await);
    }
    insta::assert_snapshot!(page, @r#"
    ?notified=true  ["a"] count 1 offset 0 total 1
    ?notified=false ["b"] count 1 offset 0 total 1
    "#);
}

#[tokio::test]
async fn a_session_is_an_order_with_what_a_payment_page_needs() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let body = json!({
        "order_id": "a",
        "amount": "10.0",
        "customer_id": "cst_1",
        "customer_email": "a@example.com",
        "customer_phone": "9999999999",
        "payment_page_client_id": "client",
        "action": "paymentPage",
        "return_url": "https://shop.example.com/done",
    });
    let answer = shop
        .json(Method::POST, "/session", &body.to_string())
        .await
        .ok();
    insta::assert_snapshot!(keys(&answer).replace("} ", "}\n"), @r"
    id order_expiry order_id payment_links{expiry web}
    sdk_payload{expiry payload{action amount clientAuthToken clientAuthTokenExpiry clientId currency customerEmail customerId customerPhone environment merchantId orderId returnUrl}
    requestId service}
    status
    ");
    assert_eq!(
        (&answer["status"], &answer["order_id"]),
        (&json!("NEW"), &json!("a"))
    );
    let payload = &answer["sdk_payload"]["payload"];
    assert_eq!(
        (&payload["amount"], &payload["environment"]),
        (&json!("10"), &json!("sandbox"))
    );
    let order = shop.get("/orders/a").await.ok();
    assert_eq!(
        (&order["amount"], &order["id"]),
        (&json!(10), &answer["id"])
    );
}

#[tokio::test]
async fn a_payment_is_authorised_and_captured() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order_id", "a"),
        ("amount", "10"),
        ("metadata.txns.auto_capture", "false"),
    ];
    shop.post("/orders", &fields).await.ok();
    let txn = pay(&shop, "a", "CHARGED").await;
    let held = shop.order_becomes("a", "AUTHORIZED").await;
    assert_eq!(held["status_id"], 25);
    let path = format!("/v2/txns/{}/capture", txn["txn_uuid"].as_str().unwrap());
    let answer = shop.post(&path, &[("amount", "10")]).await;
    let captured = answer.ok();
    assert_eq!(captured["txn_id"], txn["txn_id"]);
    insta::assert_snapshot!(brief(&captured), @r#"order_id status status_id txn_amount txn_id txn_uuid: 10 "CHARGED" 21"#);
    assert_eq!(shop.get("/orders/a").await.ok()["status"], "CHARGED");
    let again = shop.post(&path, &[]).await;
    assert_eq!(again.body, answer.body);
}

#[tokio::test]
async fn a_payment_is_authorised_and_voided() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order_id", "a"),
        ("amount", "10"),
        ("auto_capture", "false"),
    ];
    shop.post("/orders", &fields).await.ok();
    let txn = pay(&shop, "a", "AUTHORIZED").await;
    shop.order_becomes("a", "AUTHORIZED").await;
    let path = format!("/v2/txns/{}/void", txn["txn_uuid"].as_str().unwrap());
    let voided = shop.post(&path, &[]).await.ok();
    insta::assert_snapshot!(brief(&voided), @r#"order_id status status_id txn_amount txn_id txn_uuid: 10 "VOID_INITIATED" 32"#);
    let order = shop.order_becomes("a", "VOIDED").await;
    assert_eq!(order["status_id"], 31);
}

fn brief(answer: &Value) -> String {
    let shown = ["txn_amount", "status", "status_id"].map(|key| answer[key].to_string());
    format!("{}: {}", keys(answer), shown.join(" "))
}

#[tokio::test]
async fn an_order_is_refunded_on_each_of_the_paths() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    paid(&shop, "a", "10").await;
    let mut page = String::new();
    for (path, fields) in [
        (
            "/orders/A/refunds",
            [("unique_request_id", "r1"), ("amount", "1")],
        ),
        (
            "/orders/a/refunds",
            [("unique_request_id", "r1"), ("amount", "1.00")],
        ),
        (
            "/order/refund?order_id=a",
            [("unique_request_id", "r2"), ("amount", "2")],
        ),
    ] {
        let order = shop.post(path, &fields).await.ok();
        let refunds = order["refunds"].as_array().unwrap().len();
        page += &format!(
            "{path:<26} {} back in {refunds}\n",
            order["amount_refunded"]
        );
    }
    insta::assert_snapshot!(page, @r"
    /orders/A/refunds          1 back in 1
    /orders/a/refunds          1 back in 1
    /order/refund?order_id=a   3 back in 2
    ");

    let fields = [
        ("txn_id", "ms-a-1"),
        ("unique_request_id", "r3"),
        ("refund_type", "INSTANT"),
        ("dummy_outcome", "PENDING"),
    ];
    let flat = shop.post("/refunds", &fields).await.ok();
    insta::assert_snapshot!(keys(&flat), @r"amount authorization_id created epg_txn_id error_message gateway initiated_by order_id reference_id refund_arn refund_source refund_type response_code sent_to_gateway status txn_id unique_request_id");
    let shown = [
        "unique_request_id",
        "order_id",
        "txn_id",
        "status",
        "amount",
        "refund_type",
    ];
    insta::assert_snapshot!(shown.map(|key| flat[key].to_string()).join(" "), @r#""r3" "a" "ms-a-1" "PENDING" 7 "INSTANT""#);
    let order = shop.get("/orders/a").await.ok();
    assert_eq!(
        order["refunded"], true,
        "the last one took all that was left"
    );
}

#[tokio::test]
async fn one_call_creates_an_order_and_pays_it() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let fields = [
        ("order.order_id", "a"),
        ("order.amount", "10"),
        ("order.customer_id", "cst_1"),
        ("order.metadata.channel", "app"),
        ("merchant_id", "ms"),
        ("payment_method_type", "CARD"),
        ("payment_method", "VISA"),
        ("card_number", "4242 4242 4242 4242"),
        ("card_exp_month", "05"),
        ("card_exp_year", "2030"),
        ("card_security_code", "111"),
        ("redirect_after_payment", "true"),
        ("format", "json"),
    ];
    let answer = shop.post("/txns", &fields).await.ok();
    insta::assert_snapshot!(keys(&answer), @r"order_id payment{authentication{method url}} status txn_id txn_uuid");
    assert_eq!(
        (&answer["txn_id"], &answer["status"]),
        (&json!("ms-a-1"), &json!("PENDING_VBV"))
    );
    let order = shop.order_becomes("a", "CHARGED").await;
    assert_eq!(order["card"]["last_four_digits"], "4242");
    assert_eq!(order["customer_id"], "cst_1");
}

#[tokio::test]
async fn a_saved_card_pays_by_its_token() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mut cards = Vec::new();
    for (order_id, token) in [("a", "tok_1"), ("b", "tok_1"), ("c", "tok_2")] {
        order(&shop, order_id, "10").await;
        let fields = [
            ("order_id", order_id),
            ("payment_method_type", "CARD"),
            ("card_token", token),
            ("card_security_code", "111"),
            ("format", "json"),
        ];
        shop.post("/txns", &fields).await.ok();
        let order = shop.get(&format!("/orders/{order_id}")).await;
        assert!(!String::from_utf8_lossy(&order.body).contains("tok_"));
        assert_eq!(order.ok()["payment_method"], "CARD");
        cards.push(order.ok()["card"].clone());
    }
    assert_eq!(cards[0], cards[1], "the same token is the same card");
    assert_ne!(cards[1]["card_reference"], cards[2]["card_reference"]);
    let known: Vec<&String> = cards[0]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| *value != "")
        .map(|(key, _)| key)
        .collect();
    insta::assert_snapshot!(format!("{known:?}"), @r#"["card_fingerprint", "card_reference", "saved_to_locker", "using_saved_card", "using_token"]"#);
}

//! The life of a mandate over HTTP: registered, listed, told of, debited, paused, revoked, expired.

use serde_json::{Value, json};

use crate::app::{Merchant, Reply, TestApp, keys};

const TERMS: [(&str, &str); 5] = [
    ("options.create_mandate", "REQUIRED"),
    ("mandate.max_amount", "100"),
    ("mandate.frequency", "MONTHLY"),
    ("mandate.amount_rule", "VARIABLE"),
    ("mandate.start_date", "1691818137"),
];

/// Registers a mandate by a UPI payment; gives its id once it is active.
async fn registered(shop: &Merchant, order_id: &str) -> String {
    let mut fields = vec![
        ("order_id", order_id),
        ("amount", "1"),
        ("customer_id", "cst_1"),
    ];
    fields.extend(TERMS);
    shop.post("/orders", &fields).await.ok();
    let fields = [
        ("order_id", order_id),
        ("payment_method_type", "UPI"),
        ("payment_method", "UPI"),
        ("upi_vpa", "payer@bank"),
        ("format", "json"),
    ];
    shop.post("/txns", &fields).await.ok();
    let order = shop.order_becomes(order_id, "CHARGED").await;
    assert_eq!(order["mandate"]["mandate_status"], "ACTIVE");
    order["mandate"]["mandate_id"].as_str().unwrap().to_owned()
}

/// The debit of the reference: an order and a mandate, and nothing of how it is paid.
async fn debit(shop: &Merchant, mandate_id: &str, order_id: &str, amount: &str) -> Reply {
    let fields = [
        ("order.order_id", order_id),
        ("order.amount", amount),
        ("order.customer_id", "cst_1"),
        ("mandate_id", mandate_id),
        ("mandate.notification_id", "notice1"),
        ("mandate.execution_date", "1691818137"),
        ("merchant_id", "ms"),
        ("format", "json"),
    ];
    shop.post("/txns", &fields).await
}

async fn tell(shop: &Merchant, mandate_id: &str, command: &str) -> Reply {
    let path = format!("/mandates/{mandate_id}");
    shop.post(&path, &[("command", command)]).await
}

async fn status(shop: &Merchant, mandate_id: &str) -> Value {
    tell(shop, mandate_id, "check_status").await.ok()["status"].clone()
}

#[tokio::test]
async fn a_debit_of_10_succeeds_and_one_of_50_fails() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mandate_id = registered(&shop, "first").await;
    let mut page = String::new();
    for (order_id, amount, ends) in [("a", "10", "CHARGED"), ("b", "50", "AUTHORIZATION_FAILED")] {
        let answer = debit(&shop, &mandate_id, order_id, amount).await.ok();
        let order = shop.order_becomes(order_id, ends).await;
        page += &format!("{amount}: {} {}\n", keys(&answer), answer["status"]);
        for key in [
            "status",
            "payment_method_type",
            "payment_method",
            "payer_vpa",
        ] {
            page += &format!("    {key} {}\n", order[key]);
        }
        for key in ["txn_id", "source_object", "txn_object_type"] {
            page += &format!("    {key} {}\n", order["txn_detail"][key]);
        }
    }
    insta::assert_snapshot!(page, @r#"
    10: order_id status txn_id txn_uuid "PENDING_VBV"
        status "CHARGED"
        payment_method_type "UPI"
        payment_method "UPI"
        payer_vpa "payer@bank"
        txn_id "ms-a-1"
        source_object "MANDATE"
        txn_object_type "EMANDATE_PAYMENT"
    50: order_id status txn_id txn_uuid "PENDING_VBV"
        status "AUTHORIZATION_FAILED"
        payment_method_type "UPI"
        payment_method "UPI"
        payer_vpa "payer@bank"
        txn_id "ms-b-1"
        source_object "MANDATE"
        txn_object_type "EMANDATE_PAYMENT"
    "#);
}

#[tokio::test]
async fn a_mandate_by_card_is_debited_without_a_card() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    // One call, with the terms beside the order's fields.
    let mut fields = vec![
        ("order.order_id", "first"),
        ("order.amount", "1"),
        ("order.customer_id", "cst_1"),
        ("payment_method_type", "CARD"),
        ("card_number", "4111111111111111"),
        ("format", "json"),
    ];
    fields.extend(TERMS);
    shop.post("/txns", &fields).await.ok();
    let order = shop.order_becomes("first", "CHARGED").await;
    assert_eq!(order["mandate"]["max_amount"], 100);
    let mandate_id = order["mandate"]["mandate_id"].as_str().unwrap();
    debit(&shop, mandate_id, "a", "10").await.ok();
    let order = shop.order_becomes("a", "CHARGED").await;
    let shown = ["payment_method_type", "payment_method", "card"];
    insta::assert_snapshot!(shown.map(|key| order[key].to_string()).join(" "), @r#""CARD" "VISA" null"#);
}

#[tokio::test]
async fn a_mandate_is_debited_by_the_gateway_that_knows_it() {
    let app = TestApp::start_with(|config, _| config.gateway.dummy = false).await;
    let shop = app.merchant("ms", json!({})).await;
    let mut fields = vec![
        ("order.order_id", "first"),
        ("order.amount", "1"),
        ("order.customer_id", "cst_1"),
        ("payment_method_type", "UPI"),
        ("gateway_id", "19"),
        ("gateway", "PAYTM_V2"),
        ("format", "json"),
    ];
    fields.extend(TERMS);
    let txn = shop.post("/txns", &fields).await.ok();
    let path = format!("txns/{}", txn["txn_uuid"].as_str().unwrap());
    shop.outcome(&path, json!({ "status": "CHARGED" })).await;
    let order = shop.get("/orders/first").await.ok();
    let mandate_id = order["mandate"]["mandate_id"].as_str().unwrap();
    debit(&shop, mandate_id, "a", "50").await.ok();
    let order = shop.get("/orders/a").await.ok();
    let detail = &order["txn_detail"];
    assert_eq!(
        (&detail["gateway_id"], &detail["gateway"]),
        (&json!(19), &json!("PAYTM_V2"))
    );
}

#[tokio::test]
async fn debits_that_the_customer_did_not_agree_to_leave_nothing() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mandate_id = registered(&shop, "first").await;
    let mut page = String::new();
    page += &format!(
        "101: {}\n",
        debit(&shop, &mandate_id, "a", "101").await.refusal()
    );
    page += &format!(
        "unknown: {}\n",
        debit(&shop, "unknown", "b", "10").await.refusal()
    );
    tell(&shop, &mandate_id, "pause").await.ok();
    page += &format!(
        "paused: {}\n",
        debit(&shop, &mandate_id, "c", "10").await.refusal()
    );
    insta::assert_snapshot!(page, @r"
    101: 400 invalid.mandate.amount: the mandate allows at most 100 at a time
    unknown: 404 mandate.not_found: there is no such mandate
    paused: 400 invalid.mandate.status: the mandate is PAUSED, so it cannot be charged
    ");
    assert_eq!(shop.get("/order/list").await.ok()["total"], 1);
}

#[tokio::test]
async fn terms_that_no_mandate_can_have_are_refused() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mut page = String::new();
    for (amount, start, end) in [
        ("0", "1691818137", "1791818137"),
        ("1", "1691818137", "1691818137"),
        ("1", "1691818137", "1591818137"),
        ("1", "", "1591818137"),
    ] {
        let fields = [
            ("order_id", "a"),
            ("amount", "1"),
            ("customer_id", "cst_1"),
            ("options.create_mandate", "REQUIRED"),
            ("mandate.max_amount", amount),
            ("mandate.start_date", start),
            ("mandate.end_date", end),
        ];
        page += &format!("{}\n", shop.post("/orders", &fields).await.refusal());
    }
    insta::assert_snapshot!(page, @r"
    400 invalid_request: mandate.max_amount: must be more than 0
    400 invalid_request: mandate.end_date: must be after the mandate's start
    400 invalid_request: mandate.end_date: must be after the mandate's start
    400 invalid_request: mandate.end_date: must be after the mandate's start
    ");
}

#[tokio::test]
async fn a_repeated_order_shows_its_mandate_still() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    registered(&shop, "first").await;
    let mut fields = vec![
        ("order_id", "first"),
        ("amount", "1"),
        ("customer_id", "cst_1"),
    ];
    fields.extend(TERMS);
    let again = shop.post("/orders", &fields).await;
    assert_eq!(again.ok()["mandate"]["mandate_status"], "ACTIVE");
    assert_eq!(again.body, shop.get("/orders/first").await.body);
}

#[tokio::test]
async fn a_customers_mandates_are_listed() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let empty = shop.get("/customers/cst_1/mandates").await;
    insta::assert_snapshot!(String::from_utf8_lossy(&empty.body), @r#"{"object":"list","list":[],"total":0,"count":0,"offset":0}"#);
    let ids = [registered(&shop, "a").await, registered(&shop, "b").await];
    let listed = shop.get("/customers/cst_1/mandates").await.ok();
    insta::assert_snapshot!(
        ["object", "total", "count", "offset"].map(|key| listed[key].to_string()).join(" "),
        @r#""list" 2 2 0"#
    );
    let list = listed["list"].as_array().unwrap();
    for mandate_id in &ids {
        assert!(
            list.iter()
                .any(|mandate| mandate["mandate_id"] == **mandate_id)
        );
    }
    // Each is what its own status says.
    let one = tell(
        &shop,
        list[0]["mandate_id"].as_str().unwrap(),
        "check_status",
    )
    .await;
    assert_eq!(one.ok(), list[0]);
}

#[tokio::test]
async fn a_mandate_is_paused_resumed_and_revoked() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mandate_id = registered(&shop, "first").await;
    let mut page = String::new();
    for command in [
        "check_status",
        "pause",
        "resume",
        "revoke",
        "revoke",
        "resume",
    ] {
        let answer = tell(&shop, &mandate_id, command).await;
        page += &match answer.status.is_success() {
            true => format!("{command}: {}\n", answer.ok()["response_message"]),
            false => format!("{command}: {}\n", answer.refusal()),
        };
        page += &format!("    {}\n", status(&shop, &mandate_id).await);
    }
    let revoked = tell(&shop, &mandate_id, "revoke").await.ok();
    page += &keys(&revoked);
    insta::assert_snapshot!(page, @r#"
    check_status: null
        "ACTIVE"
    pause: "Mandate paused"
        "PAUSED"
    resume: "Mandate resumed"
        "ACTIVE"
    revoke: null
        "REVOKED"
    revoke: null
        "REVOKED"
    resume: 400 invalid.mandate.status: the mandate is REVOKED, so it cannot be resumed
        "REVOKED"
    mandate_id mandate_status
    "#);
    let told = shop.event("MANDATE_REVOKED").await;
    assert_eq!(told["content"]["mandate"]["mandate_id"], *mandate_id);
}

#[tokio::test]
async fn a_mandate_expires_when_its_gateway_says_so() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mandate_id = registered(&shop, "first").await;
    let path = format!("mandates/{mandate_id}");
    for changed in [true, false] {
        let told = shop.outcome(&path, json!({ "status": "EXPIRED" })).await;
        assert_eq!(
            (&told["changed"], &told["status"]),
            (&json!(changed), &json!("EXPIRED"))
        );
    }
    assert_eq!(status(&shop, &mandate_id).await, "EXPIRED");
    insta::assert_snapshot!(debit(&shop, &mandate_id, "a", "10").await.refusal(), @r"400 invalid.mandate.status: the mandate is EXPIRED, so it cannot be charged");
}

#[tokio::test]
async fn a_debit_that_was_not_made_yet_is_called_off() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mandate_id = registered(&shop, "first").await;
    let fields = [
        ("order.order_id", "a"),
        ("order.amount", "10"),
        ("mandate_id", &mandate_id),
        ("dummy_outcome", "PENDING"),
        ("format", "json"),
    ];
    shop.post("/txns", &fields).await.ok();
    debit(&shop, &mandate_id, "b", "10").await.ok();
    shop.order_becomes("b", "CHARGED").await;
    let mut page = String::new();
    for order_id in ["a", "a", "b", "first", "unknown"] {
        let fields = [
            ("command", "cancel_recurring_transaction"),
            ("order_id", order_id),
        ];
        let answer = shop.post(&format!("/mandates/{mandate_id}"), &fields).await;
        page += &match answer.status.is_success() {
            true => {
                let answer = answer.ok();
                format!(
                    "{order_id}: {} {}\n",
                    answer["txn_status"], answer["response_message"]
                )
            }
            false => format!("{order_id}: {}\n", answer.refusal()),
        };
    }
    insta::assert_snapshot!(page, @r#"
    a: "JUSPAY_DECLINED" "The debit was cancelled"
    a: "JUSPAY_DECLINED" "The debit was cancelled"
    b: "CHARGED" "The debit was made already and cannot be cancelled"
    first: 404 txn.not_found: there is no such transaction
    unknown: 404 order.not_found: there is no such order
    "#);
    let order = shop.get("/orders/a").await.ok();
    assert_eq!(order["status"], "JUSPAY_DECLINED");
}

#[tokio::test]
async fn a_customer_is_told_of_a_debit_and_the_shop_of_the_telling() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mandate_id = registered(&shop, "first").await;
    let mut page = String::new();
    for (reference, outcome, event) in [
        ("notice1", "SUCCESS", "NOTIFICATION_SUCCEEDED"),
        ("notice2", "FAILURE", "NOTIFICATION_FAILED"),
    ] {
        let fields = [
            ("command", "pre_debit_notify"),
            ("object_reference_id", reference),
            ("description", "Your monthly plan"),
            ("source_info", r#"{"amount":"1.0","txn_date":"1691818137"}"#),
            ("dummy_outcome", outcome),
        ];
        let asked = shop
            .post(&format!("/mandates/{mandate_id}"), &fields)
            .await
            .ok();
        shop.event(event).await;
        let read = shop.get(&format!("/notifications/{reference}")).await.ok();
        assert_eq!(
            (&read["id"], &read["mandate"]["mandate_id"]),
            (&asked["id"], &json!(mandate_id))
        );
        for date in ["date_created", "last_updated"] {
            let seconds: i64 = read[date].as_str().unwrap().parse().unwrap();
            assert!(seconds > 1_700_000_000, "{date} is {seconds}");
        }
        page += &format!("{}\n{}\n", asked["status"], keys(&read));
        for key in ["status", "description", "source_info", "response_code"] {
            page += &format!("    {key} {}\n", read[key]);
        }
    }
    insta::assert_snapshot!(page, @r#"
    "PENDING"
    date_created description id last_updated mandate{mandate_id} notification_type object object_reference_id provider_name provider_response source_info{amount txn_date} source_object status
        status "SUCCESS"
        description "Your monthly plan"
        source_info {"amount":"1.0","txn_date":"1691818137"}
        response_code null
    "PENDING"
    date_created description id last_updated mandate{mandate_id} notification_type object object_reference_id provider_name response_code response_message source_info{amount txn_date} source_object status
        status "FAILURE"
        description "Your monthly plan"
        source_info {"amount":"1.0","txn_date":"1691818137"}
        response_code "JP_NOTIFY_DECLINED"
    "#);
    let unknown = shop.get("/notifications/notice3").await;
    insta::assert_snapshot!(unknown.refusal(), @r"404 notification.not_found: there is no such notification");
}

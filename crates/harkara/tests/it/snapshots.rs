//! What a webhook says of an order is what the status API says at that moment, byte for byte,
//! through a whole life with several tries, two mandates and refunds.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::app::{Merchant, TestApp};

/// Members of a JSON object with the bytes in which they stand there.
type Members<'a> = std::collections::BTreeMap<String, &'a serde_json::value::RawValue>;

/// The bytes of `content.order` in the newest event that has one, and that event's name.
async fn newest_order(shop: &Merchant) -> (String, Bytes) {
    let feed = shop.get("/events?bodies=true&limit=100").await;
    let feed: Members<'_> = serde_json::from_slice(&feed.body).unwrap();
    let events: Vec<Members<'_>> = serde_json::from_str(feed["events"].get()).unwrap();
    let with_order = events.iter().rev().find_map(|event| {
        let body: Members<'_> = serde_json::from_str(event["body"].get()).unwrap();
        let content: Members<'_> = serde_json::from_str(body["content"].get()).unwrap();
        let order = content.get("order")?.get().to_owned();
        Some((body["event_name"].get().to_owned(), Bytes::from(order)))
    });
    with_order.unwrap()
}

#[tokio::test]
async fn every_event_shows_the_order_as_the_status_api_does() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let order = [
        ("order_id", "1"),
        ("amount", "8"),
        ("customer_id", "cst_1"),
        ("options.create_mandate", "REQUIRED"),
        ("mandate.max_amount", "100"),
    ];
    shop.post("/orders", &order).await.ok();
    let mut page = String::new();
    note(&shop, "create", &mut page).await;

    let mut txns = Vec::new();
    for n in 1..=3 {
        txns.push(pay(&shop, n, &mut page).await);
    }
    // The last try fails first, and the order fails with an older one: it shows the last one still,
    // and that one's mandate.
    let failures = [
        (3, "AUTHORIZATION_FAILED"),
        (1, "JUSPAY_DECLINED"),
        (2, "AUTHENTICATION_FAILED"),
    ];
    for (n, status) in failures {
        shop.outcome(
            &format!("txns/{}", txns[n - 1]),
            json!({ "status": status }),
        )
        .await;
        note(&shop, &format!("{status} {n}"), &mut page).await;
    }
    let paid = pay(&shop, 4, &mut page).await;
    shop.outcome(&format!("txns/{paid}"), json!({ "status": "CHARGED" }))
        .await;
    note(&shop, "CHARGED 4", &mut page).await;
    for (id, outcome) in [("r1", "PENDING"), ("r2", "PENDING")] {
        let fields = [
            ("unique_request_id", id),
            ("amount", "3"),
            ("dummy_outcome", outcome),
        ];
        shop.post("/orders/1/refunds", &fields).await.ok();
        note(&shop, &format!("refund {id}"), &mut page).await;
    }
    for (id, status) in [
        ("r1", "MANUAL_REVIEW"),
        ("r2", "FAILURE"),
        ("r1", "SUCCESS"),
    ] {
        shop.outcome(
            &format!("refunds/{id}"),
            json!({ "status": status, "order_id": "1" }),
        )
        .await;
        note(&shop, &format!("{id} {status}"), &mut page).await;
    }
    insta::assert_snapshot!(page, @r#"
    create                   "ORDER_CREATED"                "NEW" null same bytes
    pay 1                    "TXN_CREATED"                  "PENDING_VBV" "CREATED" same bytes
    pay 2                    "TXN_CREATED"                  "PENDING_VBV" "CREATED" same bytes
    pay 3                    "TXN_CREATED"                  "PENDING_VBV" "CREATED" same bytes
    AUTHORIZATION_FAILED 3   "TXN_CREATED"                  "PENDING_VBV" "CREATED" not told of the order
    JUSPAY_DECLINED 1        "TXN_CREATED"                  "PENDING_VBV" "CREATED" not told of the order
    AUTHENTICATION_FAILED 2  "ORDER_FAILED"                 "AUTHORIZATION_FAILED" "FAILURE" same bytes
    pay 4                    "TXN_CREATED"                  "PENDING_VBV" "CREATED" same bytes
    CHARGED 4                "ORDER_SUCCEEDED"              "CHARGED" "ACTIVE" same bytes
    refund r1                "REFUND_INITIATED"             "CHARGED" "ACTIVE" same bytes
    refund r2                "REFUND_INITIATED"             "CHARGED" "ACTIVE" same bytes
    r1 MANUAL_REVIEW         "REFUND_MANUAL_REVIEW_NEEDED"  "CHARGED" "ACTIVE" same bytes
    r2 FAILURE               "ORDER_REFUND_FAILED"          "CHARGED" "ACTIVE" same bytes
    r1 SUCCESS               "ORDER_REFUNDED"               "CHARGED" "ACTIVE" same bytes
    "#);
}

/// Starts a try to pay that stays pending.
async fn pay(shop: &Merchant, n: usize, page: &mut String) -> String {
    let fields = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("dummy_outcome", "PENDING"),
        ("format", "json"),
    ];
    let answer = shop.post("/txns", &fields).await.ok();
    note(shop, &format!("pay {n}"), page).await;
    answer["txn_uuid"].as_str().unwrap().to_owned()
}

/// Compares the newest event's order with the status API's, and notes what it says.
async fn note(shop: &Merchant, step: &str, page: &mut String) {
    let (name, told) = newest_order(shop).await;
    let status = shop.get("/orders/1").await;
    let order: Value = serde_json::from_slice(&told).unwrap();
    // A failure beside a live try is an event of the transaction alone: nobody was told of the order.
    let same = if told == status.body {
        "same bytes"
    } else {
        "not told of the order"
    };
    let mandate = &order["mandate"]["mandate_status"];
    *page += &format!(
        "{step:<24} {name:<30} {:<24} {mandate:<10} {same}\n",
        order["status"]
    );
}

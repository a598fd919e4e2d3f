//! The DUMMY gateway: what the sandbox makes of a payment, from the call to the order's status.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{Merchant, TestApp};

/// A name and its text.
type Field = (&'static str, &'static str);

/// Creates an order and pays it by UPI; gives the answer to the payment.
async fn pay(shop: &Merchant, order_id: &str, amount: &str, more: &[(&str, &str)]) -> Value {
    let fields = [("order_id", order_id), ("amount", amount)];
    shop.post("/orders", &fields).await.ok();
    let mut fields = vec![
        ("order_id", order_id),
        ("payment_method_type", "UPI"),
        ("format", "json"),
    ];
    fields.extend(more);
    shop.post("/txns", &fields).await.ok()
}

#[tokio::test]
async fn how_a_payment_ends() {
    let app = TestApp::start_with(|config, _| {
        config.gateway.dummy_pending = Duration::from_millis(5);
    })
    .await;
    let shop = app.merchant("ms", json!({})).await;
    let success = ("upi_vpa", "success@upi");
    let failure = ("upi_vpa", "failure@upi");
    let charged = ("dummy_outcome", "CHARGED");
    let unproven = ("dummy_outcome", "AUTHENTICATION_FAILED");
    let rows: &[(&str, &[Field], &str)] = &[
        ("1", &[], "CHARGED"),
        ("499.99", &[], "CHARGED"),
        ("500", &[], "AUTHORIZATION_FAILED"),
        ("600", &[], "AUTHORIZATION_FAILED"),
        ("700", &[], "CHARGED"),
        ("600", &[success], "CHARGED"),
        ("1", &[failure], "AUTHORIZATION_FAILED"),
        ("600", &[failure, charged], "CHARGED"),
        ("1", &[success, unproven], "AUTHENTICATION_FAILED"),
    ];
    let mut page = String::new();
    for (n, (amount, told, expected)) in rows.iter().enumerate() {
        let order_id = format!("o{n}");
        let answer = pay(&shop, &order_id, amount, told).await;
        assert_eq!(answer["status"], "PENDING_VBV");
        let order = shop.order_becomes(&order_id, expected).await;
        let told: Vec<&str> = told.iter().map(|(_, value)| *value).collect();
        let error = ["error_code", "error_message"].map(|key| order["txn_detail"][key].to_string());
        page += &format!(
            "{amount:<7} {:<34} {expected:<22} {}\n",
            told.join(" "),
            error.join(" ")
        );
    }
    insta::assert_snapshot!(page, @r#"
    1                                          CHARGED                "" ""
    499.99                                     CHARGED                "" ""
    500                                        AUTHORIZATION_FAILED   "03" "Not sufficient funds"
    600                                        AUTHORIZATION_FAILED   "03" "Not sufficient funds"
    700                                        CHARGED                "" ""
    600     success@upi                        CHARGED                "" ""
    1       failure@upi                        AUTHORIZATION_FAILED   "03" "Not sufficient funds"
    600     failure@upi CHARGED                CHARGED                "" ""
    1       success@upi AUTHENTICATION_FAILED  AUTHENTICATION_FAILED  "JP_AUTH" "Authentication failed"
    "#);
}

#[tokio::test]
async fn a_large_payment_takes_its_time_and_a_pending_one_for_ever() {
    let app = TestApp::start_with(|config, _| {
        config.gateway.dummy_pending = Duration::from_secs(3600);
    })
    .await;
    let shop = app.merchant("ms", json!({})).await;
    pay(&shop, "large", "700", &[]).await;
    pay(&shop, "pending", "1", &[("dummy_outcome", "PENDING")]).await;
    pay(&shop, "small", "1", &[]).await;
    shop.order_becomes("small", "CHARGED").await;
    for order_id in ["large", "pending"] {
        let order = shop.get(&format!("/orders/{order_id}")).await.ok();
        assert_eq!(order["status"], "PENDING_VBV", "{order_id}");
    }
}

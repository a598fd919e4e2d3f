use super::*;
use crate::config::Config;
use crate::testing::World;

async fn order(world: &World, more: &str) -> String {
    let created = world
        .merchant("POST /orders", &format!("order_id=o1&amount=750{more}"))
        .await;
    format!("/merchant/pay/{}", created.json()["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_customer_pays_and_is_sent_back_to_the_shop() {
    let world = World::new().await;
    let path = order(&world, "&return_url=https%3A%2F%2Fshop.example.com%2Fdone").await;
    let page = world.browser(&format!("GET {path}"), "").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("INR 750.00") && page.text.contains("Pay successfully"));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.ends_with("form-action 'self' https://shop.example.com; frame-ancestors 'none'")
    );

    let paid = world
        .browser(&format!("POST {path}"), "outcome=CHARGED")
        .await;
    assert_eq!(paid.status, 303, "{}", paid.text);
    insta::assert_snapshot!(paid.headers["location"].to_str().unwrap(), @"https://shop.example.com/done?order_id=o1&status=CHARGED&status_id=21");
    let status = world.merchant("GET /orders/o1", "").await.json();
    assert_eq!(status["status"], "CHARGED");

    let again = world
        .browser(&format!("POST {path}"), "outcome=CHARGED")
        .await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("The order is paid."));
}

#[tokio::test]
async fn a_transaction_that_waits_is_decided_by_the_choice() {
    let world = World::new().await;
    let path = order(&world, "").await;
    let txn = "order_id=o1&payment_method_type=NB&payment_method=NB_DUMMY&format=json";
    let txn = world
        .merchant("POST /txns", &format!("{txn}&dummy_outcome=PENDING"))
        .await
        .json();
    let path = format!("{path}?txn_uuid={}", txn["txn_uuid"].as_str().unwrap());
    let failed = world
        .browser(&format!("POST {path}"), "outcome=AUTHORIZATION_FAILED")
        .await;
    assert_eq!(failed.headers["location"], path.split_once('?').unwrap().0);
    let status = world.merchant("GET /orders/o1", "").await.json();
    assert_eq!(status["status"], "AUTHORIZATION_FAILED");
    assert_eq!(status["txn_detail"]["txn_id"], txn["txn_id"]);
    let decided = world.browser(&format!("GET {path}"), "").await;
    assert!(decided.text.contains("This payment is decided already."));
}

#[tokio::test]
async fn an_unknown_page_is_a_page_too() {
    let world = World::new().await;
    let missing = world.browser("GET /merchant/pay/ordeh_0", "").await;
    assert_eq!(missing.status, 404);
    assert!(
        missing
            .text
            .starts_with("<!DOCTYPE html><html lang=\"en\">")
    );
}

#[tokio::test]
async fn without_the_dummy_gateway_there_is_nothing_to_choose() {
    let production = [("HARKARA_ENVIRONMENT".to_owned(), "production".to_owned())];
    let world = World::with(Config::load(None, production.into_iter()).unwrap()).await;
    let path = order(&world, "").await;
    let page = world.browser(&format!("GET {path}"), "").await;
    assert!(
        page.text
            .contains("The payment takes place at the gateway, not on this page.")
    );
    assert!(!page.text.contains("<form"));
    let pressed = world
        .browser(&format!("POST {path}"), "outcome=CHARGED")
        .await;
    assert_eq!(pressed.status, 409);
}

#[test]
fn money_has_two_decimals() {
    let written = [0, 5, 100, 12_345].map(|minor| money(Amount::from_minor(minor)));
    assert_eq!(written, ["0.00", "0.05", "1.00", "123.45"]);
}

#[tokio::test]
async fn nothing_is_read_from_who_holds_no_link() {
    let world = World::new().await;
    let long = "k".repeat(128 << 10);
    let path = order(&world, "").await;
    let posted = world.browser(&format!("POST {path}"), &long).await;
    assert_eq!(posted.status, 400, "{}", posted.text);
    let larger_than_any_body = "k".repeat(1 << 20);
    let missing = "POST /merchant/pay/ordeh_0";
    let posted = world.browser(missing, &larger_than_any_body).await;
    assert_eq!(posted.status, 404, "the order is looked for first");
}

//! The real binary as it is set for real payments: nothing of the sandbox, and no way to send
//! payment data where it must not go.

use http::Method;
use serde_json::json;

use crate::app::Server;
use crate::process::{ServerProcess, key_of};

#[tokio::test]
async fn nothing_of_the_sandbox_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("HARKARA_ENVIRONMENT", "production".to_owned()),
        ("HARKARA_DESTINATIONS__ALLOW_PRIVATE", String::new()),
        ("HARKARA_DESTINATIONS__STATIC_NAMES", String::new()),
    ];
    let process = ServerProcess::start(folder.path(), &settings);
    let server = Server {
        address: process.address.clone(),
        platform_key: key_of(folder.path(), "platform.key"),
    };
    let merchants = server.platform(Method::GET, "/merchants", json!({})).await;
    assert_eq!(merchants.ok(), json!({ "merchants": [] }));
    assert!(!folder.path().join("data/sandbox-merchant.key").exists());

    let shop = server.merchant("ms", json!({})).await;
    let order = [("order_id", "a"), ("amount", "1")];
    shop.post("/orders", &order).await.ok();
    let mut page = String::new();
    for more in [
        &[][..],
        &[("gateway_id", "100")],
        &[("gateway_id", "7"), ("dummy_outcome", "CHARGED")],
    ] {
        let mut fields = vec![
            ("order_id", "a"),
            ("payment_method_type", "NB"),
            ("format", "json"),
        ];
        fields.extend(more);
        page += &format!(
            "{more:?}\n    {}\n",
            shop.post("/txns", &fields).await.refusal()
        );
    }
    for url in [
        "http://shop.example.com/hooks",
        "https://127.0.0.1/hooks",
        "https://localhost/hooks",
        "https://shop.internal/hooks",
    ] {
        let endpoint = json!({ "url": url, "username": "shop" }).to_string();
        let refused = shop.json(Method::POST, "/endpoints", &endpoint).await;
        page += &format!("{url}\n    {}\n", refused.refusal());
    }
    insta::assert_snapshot!(page, @r#"
    []
        400 invalid_request: the mandatory parameter 'gateway_id' is missing
    [("gateway_id", "100")]
        400 invalid_request: gateway_id: 100 is the DUMMY gateway, which is switched off
    [("gateway_id", "7"), ("dummy_outcome", "CHARGED")]
        400 invalid_request: dummy_outcome: is for the DUMMY gateway alone
    http://shop.example.com/hooks
        422 invalid.url: url: the URL must begin with https://; what is sent must be encrypted
    https://127.0.0.1/hooks
        422 invalid.url: url: the URL must name its host; an address such as 203.0.113.7 is not called
    https://localhost/hooks
        422 invalid.url: url: the URL's host must be a full name with a dot, such as shop.example.com
    https://shop.internal/hooks
        422 invalid.url: url: the URL's host is under a name that no public server has; use a public name
    "#);
    // A gateway that is real is asked elsewhere, and its answer waited for.
    let fields = [
        ("order_id", "a"),
        ("payment_method_type", "NB"),
        ("gateway_id", "7"),
        ("format", "json"),
    ];
    let txn = shop.post("/txns", &fields).await.ok();
    assert_eq!(txn["status"], "PENDING_VBV");
    let session = r#"{"order_id":"b","amount":"1","payment_page_client_id":"client"}"#;
    let session = shop.json(Method::POST, "/session", session).await.ok();
    assert_eq!(
        session["sdk_payload"]["payload"]["environment"],
        "production"
    );
}

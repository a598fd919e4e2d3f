//! Bad input: a clear error in the documented shape, nothing stored, no event.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{Merchant, TestApp, json_request};

/// Names and texts, as a form carries them.
type Form = [(&'static str, &'static str)];

/// Everything that a merchant has: a page of orders and the feed.
async fn everything(shop: &Merchant) -> (Value, Vec<Value>) {
    (
        shop.get("/order/list?count=100").await.ok()["total"].clone(),
        shop.events().await,
    )
}

#[tokio::test]
async fn forms_that_make_no_sense_are_refused_and_leave_nothing() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let before = everything(&shop).await;
    let rows: &[(&str, &Form)] = &[
        ("/orders", &[("order_id", "1"), ("amount", "1.234")]),
        ("/orders", &[("order_id", "1"), ("amount", "-1")]),
        ("/orders", &[("order_id", "1"), ("amount", "0")]),
        ("/orders", &[("order_id", "1"), ("amount", "1e400")]),
        (
            "/orders",
            &[("order_id", "1"), ("amount", "99999999999999")],
        ),
        ("/orders", &[("order_id", "1"), ("amount", "ten")]),
        ("/orders", &[("order_id", "1")]),
        ("/orders", &[("amount", "1")]),
        ("/orders", &[("order_id", "a b"), ("amount", "1")]),
        (
            "/orders",
            &[("order_id", "1"), ("amount", "1"), ("amount", "2")],
        ),
        (
            "/orders",
            &[("order_id", "1"), ("amount", "1"), ("currency", "XXX")],
        ),
        (
            "/orders",
            &[("order_id", "1"), ("amount", "1"), ("return_url", "shop")],
        ),
        (
            "/orders",
            &[("order_id", "1"), ("amount", "1"), ("metadata", "[1]")],
        ),
        (
            "/orders",
            &[
                ("order_id", "1"),
                ("amount", "1"),
                ("metadata.webhook_url", "https://169.254.169.254/"),
            ],
        ),
        (
            "/orders",
            &[
                ("order_id", "1"),
                ("amount", "1"),
                ("metadata", r#"{"webhook_url":"https://169.254.169.254/"}"#),
            ],
        ),
        (
            "/orders",
            &[
                ("order_id", "1"),
                ("amount", "1"),
                ("metadata", r#"{"webhook_url":["https://a.example.com/"]}"#),
            ],
        ),
        (
            "/orders",
            &[
                ("order_id", "1"),
                ("amount", "1"),
                ("metadata.webhook_url", ""),
            ],
        ),
        ("/orders?amount=2", &[("order_id", "1"), ("amount", "1")]),
        (
            "/orders",
            &[
                ("order_id", "1"),
                ("amount", "1"),
                ("options.create_mandate", "REQUIRED"),
            ],
        ),
        (
            "/txns",
            &[("order_id", "unknown"), ("payment_method_type", "UPI")],
        ),
        ("/orders/unknown/refunds", &[("unique_request_id", "r")]),
        (
            "/refunds",
            &[("txn_id", "unknown"), ("unique_request_id", "r")],
        ),
        ("/v2/txns/unknown/capture", &[]),
        ("/mandates/unknown", &[("command", "revoke")]),
        ("/mandates/unknown", &[("command", "dance")]),
        (
            "/mandates/unknown",
            &[
                ("command", "pre_debit_notify"),
                ("object_reference_id", "a b"),
            ],
        ),
    ];
    let mut page = String::new();
    for (path, fields) in rows {
        page += &format!("{path} {}\n", shop.post(path, fields).await.refusal());
    }
    insta::assert_snapshot!(page, @r"
    /orders 400 invalid_request: amount: read an amount: it has more than two decimals
    /orders 400 invalid_request: amount: read an amount: it has a minus sign, and amounts are never negative
    /orders 400 invalid_request: amount: must be more than 0
    /orders 400 invalid_request: amount: read an amount: it is not a plain decimal number such as 1 or 1.50
    /orders 400 invalid_request: amount: read an amount: it is larger than 100000000000
    /orders 400 invalid_request: amount: read an amount: it is not a plain decimal number such as 1 or 1.50
    /orders 400 invalid_request: the mandatory parameter 'amount' is missing
    /orders 400 invalid_request: the mandatory parameter 'order_id' is missing
    /orders 400 invalid_request: order_id: must not contain ' '; use letters, digits, '_', '-' and '.'
    /orders 400 invalid_request: amount: is given twice
    /orders 400 invalid_request: currency: 'XXX' is no currency
    /orders 400 invalid_request: return_url: is no absolute URL
    /orders 400 invalid_request: metadata: is not a JSON object
    /orders 400 invalid_request: metadata.webhook_url: the URL must name its host; an address such as 203.0.113.7 is not called
    /orders 400 invalid_request: metadata.webhook_url: the URL must name its host; an address such as 203.0.113.7 is not called
    /orders 400 invalid_request: metadata.webhook_url: is not text
    /orders 400 invalid_request: metadata.webhook_url: the URL cannot be read; write it like https://shop.example.com/webhooks
    /orders?amount=2 400 invalid_request: amount: is given twice
    /orders 400 invalid_request: the mandatory parameter 'mandate.max_amount' is missing
    /txns 404 order.not_found: there is no such order
    /orders/unknown/refunds 404 order.not_found: there is no such order
    /refunds 404 txn.not_found: there is no such transaction
    /v2/txns/unknown/capture 404 txn.not_found: there is no such transaction
    /mandates/unknown 404 mandate.not_found: there is no such mandate
    /mandates/unknown 400 invalid_request: command: 'dance' is none of check_status, revoke, pause, resume, cancel_recurring_transaction, pre_debit_notify
    /mandates/unknown 400 invalid_request: object_reference_id: must be 1 to 64 visible ASCII characters
    ");
    assert_eq!(everything(&shop).await, before);
}

#[tokio::test]
async fn json_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let before = everything(&shop).await;
    let deep = format!(
        r#"{{"order_id":"1","amount":1,"metadata":{}1{}}}"#,
        "{\"a\":".repeat(10_000),
        "}".repeat(10_000)
    );
    let wide = format!(
        r#"{{"{}":{{{}"z":1}}}}"#,
        "k".repeat(128 << 10),
        (0..10_000)
            .map(|n| format!(r#""{n}":1,"#))
            .collect::<String>()
    );
    let rows: &[(&str, &[u8])] = &[
        ("three decimals", br#"{"order_id":"1","amount":1.234}"#),
        ("negative", br#"{"order_id":"1","amount":-1}"#),
        ("beyond numbers", br#"{"order_id":"1","amount":1e400}"#),
        ("an exponent", br#"{"order_id":"1","amount":1e2}"#),
        ("10,000 deep", deep.as_bytes()),
        ("a key twice", br#"{"order_id":"1","amount":1,"amount":2}"#),
        (
            "a nested key twice",
            br#"{"order_id":"1","amount":1,"metadata":{"a":1,"a":2}}"#,
        ),
        ("not UTF-8", b"{\"order_id\":\"\xff\",\"amount\":1}"),
        ("cut short", br#"{"order_id":"1""#),
        ("a list", br#"[1]"#),
        ("a key of 128 KiB above many", wide.as_bytes()),
        (
            "a URL in two places",
            br#"{"order_id":"1","amount":1,"metadata":{"webhook_url":"https://10.0.0.1/"},
                "metadata.webhook_url":"https://a.example.com/"}"#,
        ),
    ];
    let mut page = String::new();
    for (what, body) in rows {
        let mut request = json_request(Method::POST, "/orders", "", "");
        request
            .headers_mut()
            .insert(AUTHORIZATION, shop.authorization().parse().unwrap());
        *request.body_mut() = Full::from(Bytes::copy_from_slice(body));
        page += &format!("{what}: {}\n", app.send(request).await.refusal());
    }
    insta::assert_snapshot!(page, @r"
    three decimals: 400 invalid_request: amount: read an amount: it has more than two decimals
    negative: 400 invalid_request: amount: read an amount: it has a minus sign, and amounts are never negative
    beyond numbers: 400 invalid_json: the body is no good JSON: number out of range at line 1 column 30
    an exponent: 400 invalid_request: amount: read an amount: it is not a plain decimal number such as 1 or 1.50
    10,000 deep: 400 invalid_json: the body is no good JSON: it nests too deeply at line 1 column 354
    a key twice: 400 invalid_json: the body is no good JSON: the key 'amount' stands twice in one object at line 1 column 35
    a nested key twice: 400 invalid_json: the body is no good JSON: the key 'a' stands twice in one object at line 1 column 48
    not UTF-8: 400 invalid_json: the body is no good JSON: invalid unicode code point at line 1 column 14
    cut short: 400 invalid_json: the body is no good JSON: EOF while parsing an object at line 1 column 15
    a list: 400 invalid_json: the body must be a JSON object
    a key of 128 KiB above many: 400 invalid_request: the name of a parameter is longer than 256 bytes
    a URL in two places: 400 invalid_request: metadata.webhook_url: is given twice
    ");
    assert_eq!(everything(&shop).await, before);
}

#[tokio::test]
async fn what_the_state_of_a_payment_forbids() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    shop.post(
        "/orders",
        &[("order_id", "1"), ("amount", "8"), ("customer_id", "c")],
    )
    .await
    .ok();
    let mut page = String::new();
    let refund = [("unique_request_id", "r0")];
    page += &format!(
        "refund before paying: {}\n",
        shop.post("/orders/1/refunds", &refund).await.refusal()
    );
    let pay = [
        ("order_id", "1"),
        ("payment_method_type", "UPI"),
        ("format", "json"),
    ];
    shop.post("/txns", &pay).await.ok();
    shop.event("ORDER_SUCCEEDED").await;
    let r1 = [
        ("unique_request_id", "r1"),
        ("amount", "5"),
        ("dummy_outcome", "PENDING"),
    ];
    shop.post("/orders/1/refunds", &r1).await.ok();
    shop.event("REFUND_INITIATED").await;
    let before = everything(&shop).await;
    let rows: &[(&str, &str, &Form)] = &[
        ("charge on a charged order", "/txns", &pay),
        (
            "the same id, another body",
            "/orders",
            &[("order_id", "1"), ("amount", "9")],
        ),
        ("another amount", "/orders/1", &[("amount", "9")]),
        (
            "above the balance",
            "/orders/1/refunds",
            &[("unique_request_id", "r2"), ("amount", "3.01")],
        ),
        (
            "refund of nothing",
            "/orders/1/refunds",
            &[("unique_request_id", "r2"), ("amount", "0")],
        ),
        (
            "a refund id with another amount",
            "/orders/1/refunds",
            &[("unique_request_id", "r1"), ("amount", "4")],
        ),
        (
            "void of what was never authorised",
            "/v2/txns/unknown/void",
            &[],
        ),
    ];
    for (what, path, fields) in rows {
        page += &format!("{what}: {}\n", shop.post(path, fields).await.refusal());
    }
    insta::assert_snapshot!(page, @r"
    refund before paying: 400 invalid.order.not_successful: the order was not paid, so there is nothing to refund
    charge on a charged order: 400 invalid.order.already_successful: the order is CHARGED already, so it cannot be paid again
    the same id, another body: 400 duplicate.order_id: an order with this order_id exists already and was created with other values
    another amount: 400 invalid.order.amount_locked: the order's amount cannot change any more: a transaction was started on it
    above the balance: 400 invalid.amount.exceeded: only 3 of the transaction is left to refund
    refund of nothing: 400 invalid.amount: a refund must be of more than nothing
    a refund id with another amount: 400 duplicate.call: this unique_request_id was used for a refund of 5 already
    void of what was never authorised: 404 txn.not_found: there is no such transaction
    ");
    // The same again is no mistake, and changes nothing.
    shop.post("/orders/1/refunds", &r1).await.ok();
    let same = [("order_id", "1"), ("amount", "8"), ("customer_id", "c")];
    shop.post("/orders", &same).await.ok();
    assert_eq!(everything(&shop).await, before);
}

#[tokio::test]
async fn who_may_not_call() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let other = app.merchant("other", json!({})).await;
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    let mut page = String::new();

    let bare = Request::get("/orders/1").body(Full::default()).unwrap();
    page += &format!("no key: {}\n", app.send(bare).await.refusal());
    for (what, authorization) in [
        ("no scheme", "hk_x".to_owned()),
        (
            "a key of nobody",
            "Basic aGtfMTIzNDU2Nzg5MDEyXzEyMw==".to_owned(),
        ),
        ("half a key", format!("Bearer {}", &shop.key[..30])),
        ("the platform's key", format!("Bearer {}", app.platform_key)),
    ] {
        let request = json_request(Method::GET, "/orders/1", &authorization, "");
        page += &format!("{what}: {}\n", app.send(request).await.refusal());
    }
    let mut request = json_request(Method::GET, "/orders/1", &shop.authorization(), "");
    request
        .headers_mut()
        .insert("x-merchantid", "other".parse().unwrap());
    page += &format!(
        "another x-merchantid: {}\n",
        app.send(request).await.refusal()
    );

    let foreign = other.get("/orders/1").await.refusal();
    let unknown = other.get("/orders/2").await.refusal();
    assert_eq!(
        foreign, unknown,
        "somebody else's order looks like one that does not exist"
    );
    page += &format!("another merchant's order: {foreign}\n");
    page += &format!(
        "an unknown path: {}\n",
        shop.get("/nowhere").await.refusal()
    );
    let wrong_method = shop.json(Method::DELETE, "/orders/1", "").await;
    page += &format!("a wrong method: {}\n", wrong_method.refusal());
    let not_theirs = shop
        .json(Method::POST, "/merchants", r#"{"merchant_id":"x"}"#)
        .await;
    page += &format!("a platform's path: {}\n", not_theirs.refusal());
    insta::assert_snapshot!(page, @r"
    no key: 401 access_denied: an API key is needed: Authorization: Basic, with the key as user
    no scheme: 401 access_denied: the API key is wrong or was revoked
    a key of nobody: 401 access_denied: the API key is wrong or was revoked
    half a key: 401 access_denied: the API key is wrong or was revoked
    the platform's key: 403 access_denied: this path takes a merchant's key, not the platform's
    another x-merchantid: 401 access_denied: x-merchantid names another merchant than the key's
    another merchant's order: 404 order.not_found: there is no such order
    an unknown path: 404 route.not_found: there is no such path
    a wrong method: 405 method_not_allowed: this path does not take that method; the API reference lists what it takes
    a platform's path: 403 access_denied: this path takes the platform's key, not a merchant's
    ");
}

#[tokio::test]
async fn a_key_is_taken_in_both_encodings_that_the_sdks_use() {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    shop.post("/orders", &[("order_id", "1"), ("amount", "8")])
        .await
        .ok();
    for text in [format!("{}:", shop.key), shop.key.clone()] {
        let basic = format!("Basic {}", encode(&text));
        let mut request = json_request(Method::GET, "/orders/1", &basic, "");
        let headers = request.headers_mut();
        headers.insert("x-merchantid", "ms".parse().unwrap());
        headers.insert("x-routing-id", "cst_1".parse().unwrap());
        headers.insert("version", "2023-06-30".parse().unwrap());
        assert_eq!(app.send(request).await.ok()["status"], "NEW");
    }
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    // Announced, and not sent: the answer must not wait for it.
    let mut stream = tokio::net::TcpStream::connect(app.app.address)
        .await
        .unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\n{CONTENT_LENGTH}: 1073741824\r\n\
         {CONTENT_TYPE}: application/json\r\n{AUTHORIZATION}: {}\r\n\r\n",
        shop.authorization()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    // Not announced: chunks, until the limit is passed.
    let mut stream = tokio::net::TcpStream::connect(app.app.address)
        .await
        .unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\
         {CONTENT_TYPE}: application/json\r\n{AUTHORIZATION}: {}\r\n\r\n",
        shop.authorization()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..16 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn chunked_bodies_read_like_any_other() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let mut stream = tokio::net::TcpStream::connect(app.app.address)
        .await
        .unwrap();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\
         {CONTENT_TYPE}: application/x-www-form-urlencoded\r\n{AUTHORIZATION}: {}\r\n\r\n\
         b\r\norder_id=1&\r\n8\r\namount=8\r\n0\r\n\r\n",
        shop.authorization()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(shop.get("/orders/1").await.ok()["amount"], 8);
}

#[tokio::test]
async fn endpoints_that_may_not_be() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    let good =
        json!({ "url": "https://hooks.merchant.example/", "username": "shop", "password": "s" });
    let rows = [
        (
            "plain http",
            json!({ "url": "http://hooks.merchant.example/" }),
        ),
        (
            "this machine by its number",
            json!({ "url": "https://10.0.0.1/" }),
        ),
        ("in hexadecimal", json!({ "url": "https://0xA9FEA9FE/" })),
        ("localhost", json!({ "url": "https://localhost/" })),
        (
            "user in the URL",
            json!({ "url": "https://a:b@hooks.merchant.example/" }),
        ),
        (
            "another port",
            json!({ "url": "https://hooks.merchant.example:22/" }),
        ),
        (
            "a fragment",
            json!({ "url": "https://hooks.merchant.example/#a" }),
        ),
        (
            "an @ in the username",
            json!({ "username": "shop@example" }),
        ),
        ("an _ in the username", json!({ "username": "shop_1" })),
        ("no username", json!({ "username": "" })),
        (
            "a version that is no date",
            json!({ "webhook_version": "2020-13-01" }),
        ),
        (
            "an unknown event",
            json!({ "events": { "ORDER_EATEN": true } }),
        ),
        (
            "a header of ours",
            json!({ "headers": { "Authorization": "x" } }),
        ),
        ("a ladder without steps", json!({ "ladder": [] })),
        ("an unknown setting", json!({ "colour": "red" })),
    ];
    let mut page = String::new();
    for (what, change) in rows {
        let mut body = good.clone();
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let reply = shop
            .json(Method::POST, "/endpoints", &body.to_string())
            .await;
        page += &format!("{what}: {}\n", reply.refusal());
    }
    insta::assert_snapshot!(page, @r#"
    plain http: 422 invalid.url: url: the URL must begin with https://; what is sent must be encrypted
    this machine by its number: 422 invalid.url: url: the URL must name its host; an address such as 203.0.113.7 is not called
    in hexadecimal: 422 invalid.url: url: the URL must name its host; an address such as 203.0.113.7 is not called
    localhost: 422 invalid.url: url: the URL's host must be a full name with a dot, such as shop.example.com
    user in the URL: 422 invalid.url: url: the URL must not contain a username or password; they are set beside the URL and sent in the Authorization header
    another port: 422 invalid.url: url: the URL must not use port 22; use 443 or 8443, or ask the operator to allow it
    a fragment: 422 invalid.url: url: the URL must not contain '#'; what follows it is never sent
    an @ in the username: 400 invalid_request: username: the username must not contain '@' at position 5; use letters and digits
    an _ in the username: 400 invalid_request: username: the username must not contain '_' at position 5; use letters and digits
    no username: 400 invalid_request: username: the username must not be empty; use letters and digits
    a version that is no date: 400 invalid_request: webhook_version: read webhook version "2020-13-01": write a date as YYYY-MM-DD, such as 2016-10-27, or nothing for the latest
    an unknown event: 400 invalid_request: events: read event name "ORDER_EATEN": expected one of ORDER_SUCCEEDED, ORDER_REFUNDED, ORDER_FAILED, ORDER_REFUND_FAILED, TXN_CREATED, REFUND_MANUAL_REVIEW_NEEDED, REFUND_INITIATED, AUTO_REFUND_SUCCEEDED, AUTO_REFUND_FAILED, MANDATE_CREATED, MANDATE_ACTIVATED, MANDATE_FAILED, MANDATE_REVOKED, NOTIFICATION_FAILED, NOTIFICATION_SUCCEEDED, ORDER_AUTHORIZED, TXN_CHARGED, TXN_FAILED, ORDER_CREATED
    a header of ours: 400 invalid_request: headers: the header "Authorization" is set by the sender or frames the message; use another name
    a ladder without steps: 400 invalid_request: ladder: use this ladder: it has 0 steps, and needs 1 to 40
    an unknown setting: 400 invalid_request: colour: is unknown here; expected one of url, username, password, signing, overlap_seconds, webhook_version, events, headers, ladder, success, order, timeout_seconds, rate_per_second, ca_pem
    "#);
    let list = shop.get("/endpoints").await.ok();
    assert!(!list.to_string().contains("ep_"), "{list}");
}

#[tokio::test]
async fn foreign_events_that_make_no_sense() {
    let app = TestApp::start().await;
    let shop = app.merchant("ms", json!({})).await;
    shop.post("/orders", &[("order_id", "own"), ("amount", "8")])
        .await
        .ok();
    let before = everything(&shop).await;
    let rows = [
        json!({}),
        json!({ "merchant_id": "nobody", "event_name": "ORDER_SUCCEEDED",
            "content": { "order": { "order_id": "1" } } }),
        json!({ "merchant_id": "ms", "event_name": "ORDER_EATEN",
            "content": { "order": { "order_id": "1" } } }),
        json!({ "merchant_id": "ms", "event_name": "TXN_CHARGED",
            "content": { "order": { "order_id": "1" } } }),
        json!({ "merchant_id": "ms", "event_name": "ORDER_SUCCEEDED", "content": { "order": {} } }),
        json!({ "merchant_id": "ms", "event_name": "ORDER_SUCCEEDED", "content": { "order": 1 } }),
        json!({ "merchant_id": "ms", "event_name": "ORDER_SUCCEEDED",
            "content": { "order": { "order_id": "own", "status": "CHARGED" } } }),
    ];
    let mut page = String::new();
    for body in rows {
        page += &format!(
            "{}\n",
            app.platform(Method::POST, "/events", body).await.refusal()
        );
    }
    insta::assert_snapshot!(page, @r#"
    400 invalid_request: the mandatory parameter 'merchant_id' is missing
    404 merchant.not_found: there is no merchant 'nobody'
    400 invalid_request: event_name: read event name "ORDER_EATEN": expected one of ORDER_SUCCEEDED, ORDER_REFUNDED, ORDER_FAILED, ORDER_REFUND_FAILED, TXN_CREATED, REFUND_MANUAL_REVIEW_NEEDED, REFUND_INITIATED, AUTO_REFUND_SUCCEEDED, AUTO_REFUND_FAILED, MANDATE_CREATED, MANDATE_ACTIVATED, MANDATE_FAILED, MANDATE_REVOKED, NOTIFICATION_FAILED, NOTIFICATION_SUCCEEDED, ORDER_AUTHORIZED, TXN_CHARGED, TXN_FAILED, ORDER_CREATED
    400 invalid_request: the mandatory parameter 'content.txn' is missing
    400 invalid_request: the mandatory parameter 'content.order.order_id' is missing
    400 invalid_request: content.order: is not a JSON object
    409 order.own: 'own' is kept by this service; report its outcome on /outcomes instead
    "#);
    assert_eq!(everything(&shop).await, before);
}

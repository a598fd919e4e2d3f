use super::*;

pub(super) fn endpoint(version: &str) -> Endpoint {
    Endpoint {
        merchant_id: MerchantId::new("ms"),
        endpoint_id: EndpointId::new("ep_0123456789abcdef"),
        url: "https://example.com/hook".to_owned(),
        username: "user".to_owned(),
        password: Sealed(String::new()),
        previous_credentials: None,
        signing_secrets: Vec::new(),
        version: version.parse().unwrap(),
        switches: BTreeMap::new(),
        headers: Vec::new(),
        ladder: Ladder::Day,
        success: SuccessRule::Only200,
        order: OrderMode::Hold,
        timeout_seconds: 30,
        rate_per_second: None,
        ca_pem: None,
        state: EndpointState::Active,
        created_at: Timestamp::default(),
    }
}

#[test]
fn the_version_is_asked_before_the_switch_and_the_switch_before_the_default() {
    use EventName::{OrderCreated, OrderSucceeded, TxnCharged};

    #[track_caller]
    fn check(version: &str, name: EventName, switch: Option<bool>, expected: &str) {
        let mut endpoint = endpoint(version);
        endpoint.switches.extend(switch.map(|on| (name, on)));
        let said = match endpoint.wants(name) {
            Ok(()) => "wanted".to_owned(),
            Err(withheld) => withheld.to_string(),
        };
        assert_eq!(said, expected);
    }

    check("2020-10-31", TxnCharged, None, "wanted");
    check("2020-10-31", TxnCharged, Some(true), "wanted");
    check(
        "2020-10-31",
        TxnCharged,
        Some(false),
        "is switched off for this endpoint",
    );
    check(
        "2016-10-27",
        TxnCharged,
        None,
        "needs ≥ 2020-10-31, endpoint has 2016-10-27",
    );
    check(
        "2016-10-27",
        TxnCharged,
        Some(true),
        "needs ≥ 2020-10-31, endpoint has 2016-10-27",
    );
    check(
        "2016-10-27",
        TxnCharged,
        Some(false),
        "needs ≥ 2020-10-31, endpoint has 2016-10-27",
    );
    check("", TxnCharged, None, "wanted");
    check("2015-01-01", OrderSucceeded, None, "wanted");
    check(
        "2015-01-01",
        OrderSucceeded,
        Some(false),
        "is switched off for this endpoint",
    );
    check(
        "2015-01-01",
        OrderCreated,
        None,
        "is sent only to endpoints that ask for it, and this one does not",
    );
    check("2015-01-01", OrderCreated, Some(true), "wanted");
}

#[test]
fn a_newer_version_wants_a_superset() {
    let versions = [
        "2015-01-01",
        "2016-07-19",
        "2016-10-27",
        "2019-11-11",
        "2020-10-31",
        "",
    ];
    for pair in versions.windows(2) {
        let (older, newer) = (endpoint(pair[0]), endpoint(pair[1]));
        for &name in EventName::ALL {
            assert!(
                older.wants(name).is_err() || newer.wants(name).is_ok(),
                "{name} {pair:?}"
            );
        }
    }
}

#[test]
fn usernames() {
    let check = |username: &str| match check_username(username) {
        Ok(()) => "fine".to_owned(),
        Err(refusal) => refusal.to_string(),
    };
    assert_eq!(check("shop42"), "fine");
    assert_eq!(check(&"a".repeat(255)), "fine");
    insta::assert_snapshot!(
        check("sho@p"),
        @"the username must not contain '@' at position 4; use letters and digits"
    );
    insta::assert_snapshot!(
        check("naïve"),
        @"the username must not contain 'ï' at position 3; use letters and digits"
    );
    insta::assert_snapshot!(
        check("a\nb"),
        @r"the username must not contain '\n' at position 2; use letters and digits"
    );
    insta::assert_snapshot!(check(""), @"the username must not be empty; use letters and digits");
    insta::assert_snapshot!(
        check(&"a".repeat(256)),
        @"the username must not be longer than 255 bytes, and has 256; shorten it"
    );
    for forbidden in "@!#$%&'*+-/=?^_.{|}~`: \t\r\0\u{7f}é\u{a0}".chars() {
        assert_eq!(
            check_username(&format!("ab{forbidden}")),
            Err(EndpointRefusal::UsernameCharacter {
                character: forbidden,
                position: 3
            })
        );
    }
}

#[test]
fn passwords() {
    let check = |password: &str| match check_password(password) {
        Ok(warnings) if warnings.is_empty() => "fine".to_owned(),
        Ok(warnings) => warnings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
        Err(refusal) => refusal.to_string(),
    };
    assert_eq!(check("correct horse @ battery!"), "fine");
    assert_eq!(check(&"é".repeat(127)).lines().count(), 1);
    insta::assert_snapshot!(check("pä:ss"), @r"
    the password contains ':'; receivers that split the credentials at every ':' will refuse it
    the password contains characters outside ASCII; receivers that decode the credentials as ASCII will refuse it
    ");
    insta::assert_snapshot!(check(""), @"the password must not be empty; choose a long random one");
    insta::assert_snapshot!(
        check("pass\u{85}"),
        @r"the password must not contain the control character '\u{85}' at position 5; remove it"
    );
    insta::assert_snapshot!(
        check(&"é".repeat(128)),
        @"the password must not be longer than 255 bytes, and has 256; shorten it"
    );
}

#[test]
fn headers() {
    let check =
        |name: &str, value: &str| match check_headers(&[(name.to_owned(), value.to_owned())]) {
            Ok(()) => "fine".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
    assert_eq!(check("X-Shop", "blue and green"), "fine");
    assert_eq!(check("x.shop~1", ""), "fine");
    assert_eq!(check("X-Shop", &"v".repeat(1024)), "fine");
    insta::assert_snapshot!(
        check("", "v"),
        @"a header's name must have 1 to 128 bytes, and number 1 has 0"
    );
    insta::assert_snapshot!(
        check("X Shop", "v"),
        @r#"the header name "X Shop" must not contain ' ' at position 2; use letters, digits and '-'"#
    );
    insta::assert_snapshot!(
        check("Content-Type", "v"),
        @r#"the header "Content-Type" is set by the sender or frames the message; use another name"#
    );
    insta::assert_snapshot!(
        check("X-Shop", "a\r\nHost: b"),
        @r#"the value of header "X-Shop" must not contain '\r' at position 2; use visible ASCII characters, with spaces only between them"#
    );
    insta::assert_snapshot!(
        check("X-Shop", "blue "),
        @r#"the value of header "X-Shop" must not contain ' ' at position 5; use visible ASCII characters, with spaces only between them"#
    );
    insta::assert_snapshot!(
        check("X-Shop", &"v".repeat(1025)),
        @r#"the value of header "X-Shop" must not be longer than 1024 bytes, and has 1025; shorten it"#
    );

    let many = vec![("X-Shop".to_owned(), "v".to_owned()); 17];
    assert_eq!(check_headers(&many[..16]), Ok(()));
    assert_eq!(
        check_headers(&many),
        Err(EndpointRefusal::HeaderCount { count: 17 })
    );
}

#[test]
fn headers_that_are_not_a_merchants_to_set() {
    for name in [
        "Host",
        "AUTHORIZATION",
        "content-length",
        "Content-Anything",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Cookie",
        "webhook-id",
        "Harkara-Attempt",
        "User-Agent",
        "Keep-Alive",
    ] {
        let headers = [(name.to_owned(), "v".to_owned())];
        let refusal = EndpointRefusal::HeaderReserved {
            name: name.to_owned(),
        };
        assert_eq!(check_headers(&headers), Err(refusal));
    }
}

#[test]
fn timeouts() {
    assert_eq!(check_timeout(1), Ok(1));
    assert_eq!(check_timeout(60), Ok(60));
    for seconds in [0, 61, 256, u64::MAX] {
        assert_eq!(
            check_timeout(seconds),
            Err(EndpointRefusal::Timeout { seconds })
        );
    }
}

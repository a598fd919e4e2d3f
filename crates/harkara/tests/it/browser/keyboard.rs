//! The dashboard without a mouse: the keys that its help lists do what it says, and typing is left alone.

use harkara::receiver::{Arrival, Reply};
use http::StatusCode;

use super::Stage;
use super::driver::Scripts;

/// As the standard writes them.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

impl Stage {
    /// What has the focus, by its words or, for a field, by its name.
    async fn focus(&self) -> String {
        let focus =
            "const { name, textContent } = document.activeElement; return name || textContent";
        let focus = self.browser.run(focus).await;
        focus.as_str().unwrap().to_owned()
    }

    async fn is_help_open(&self) -> bool {
        let open = "return document.getElementById('keys').matches(':popover-open')";
        self.browser.run(open).await == true
    }
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn a_failed_delivery_is_found_and_resent_by_keys_alone() {
    let shut = |_: &Arrival| Some(Reply::status(StatusCode::BAD_GATEWAY));
    let stage = Stage::entered(Scripts::On, shut).await;
    let browser = &stage.browser;
    stage.shop.listen(&stage.receiver).await;
    for order_id in ["a-1", "a-2", "a-3"] {
        stage.pay(order_id, "8", &[]).await;
    }
    stage.go("/orders").await;

    // Newest first; there is nothing before the first row, and nothing after the last.
    let steps = [
        ("j", "a-3"),
        ("j", "a-2"),
        ("j", "a-1"),
        ("j", "a-1"),
        ("k", "a-2"),
        ("kk", "a-3"),
    ];
    for (keys, order_id) in steps {
        browser.type_keys(keys).await;
        assert_eq!(stage.focus().await, order_id, "after {keys}");
    }
    browser.type_keys("j").await;
    browser.type_keys(ENTER).await;
    browser.text("//h1[.='Order a-2']").await;

    browser.type_keys("jj").await;
    assert_eq!(stage.focus().await, "TXN_CREATED");
    browser.type_keys(ENTER).await;
    browser.text("//h1[.='TXN_CREATED']").await;
    browser
        .reload_until("//details[contains(@class, 'attempt')][contains(., '502')]")
        .await;

    browser.type_keys("r").await;
    assert_eq!(stage.focus().await, "Resend");
    browser.type_keys(ENTER).await;
    browser.sees("Sent again.").await;
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn the_search_takes_what_is_typed_and_the_help_comes_and_goes() {
    let stage = Stage::entered(Scripts::On, |_| None).await;
    let browser = &stage.browser;
    stage.pay("jr-1", "8", &[]).await;
    stage.go("/orders").await;
    browser.type_keys("/").await;
    assert_eq!(stage.focus().await, "search");
    browser.type_keys("jr/?k").await;
    assert_eq!(
        browser.value("Search").await,
        "jr/?k",
        "keys are letters here"
    );
    assert!(!stage.is_help_open().await);
    browser.fill("Search", "jr-1").await;
    browser.type_keys(ENTER).await;
    browser.text("//h1[.='Order jr-1']").await;

    browser.type_keys("?").await;
    assert!(stage.is_help_open().await);
    let help = browser.sees("next row, row before").await;
    assert!(help.contains("to the button that resends"), "{help}");
    browser.type_keys(ESCAPE).await;
    assert!(!stage.is_help_open().await);

    // From a page without a search, to the one that has it.
    browser.type_keys("/").await;
    browser.text("//h1[.='Orders']").await;
    assert_eq!(stage.focus().await, "search");
}

//! What people come to the dashboard for, from the first page to the last, with scripts and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harkara::receiver::{Arrival, Reply};
use harkara_webhook::EventName;
use http::{Method, StatusCode};
use serde_json::json;

use super::driver::{Browser, Scripts};
use super::{NAME, PASSWORD, Stage};

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn the_owner_comes_by_the_first_link_signs_out_and_in_again() {
    for scripts in Scripts::BOTH {
        let stage = Stage::entered(scripts, |_| None).await;
        let browser = &stage.browser;
        browser.press("Sign out").await;
        // The page after it, before another is asked for.
        browser.text("//button[.='Sign in']").await;
        stage.go("/orders").await;
        assert!(browser.url().await.contains("/dashboard/sign-in"));

        browser.fill("Name", NAME).await;
        browser.fill("Password", "a long walk by the see").await;
        browser.press("Sign in").await;
        browser.text("//*[@role='alert']").await;
        assert_eq!(browser.value("Name").await, NAME, "what was typed stays");

        browser.fill("Password", PASSWORD).await;
        browser.press("Sign in").await;
        browser.sees("Newest first").await;
        assert_eq!(
            browser.url().await,
            stage.at("/orders"),
            "where they meant to go"
        );

        let link = stage.app.app.owner_link.as_ref().unwrap();
        browser.go(link).await;
        browser.sees("This link does not work").await;
    }
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn an_endpoint_is_set_and_another_version_looked_at_before_it_is_saved() {
    for scripts in Scripts::BOTH {
        let stage = Stage::entered(scripts, |_| None).await;
        let browser = &stage.browser;
        stage.go("/webhooks").await;
        browser.press("Add an endpoint").await;
        browser.fill("URL", &stage.receiver.url("/hooks")).await;
        browser.fill("Username", "shop").await;
        browser.fill("Password", "pass").await;
        browser.choose("Version", "latest").await;
        browser.press("Add the endpoint").await;
        browser.sees("closed: as much is sent as it takes").await;

        browser.choose("Version", "2015-01-01").await;
        browser.press("Show what it changes").await;
        let dropped = browser.text("//*[@id='version-preview']").await;
        assert!(dropped.contains("drops AUTO_REFUND_FAILED"), "{dropped}");
        stage.go("/webhooks").await;
        let row = browser.text("//tr[contains(., '/hooks')]").await;
        assert!(row.contains("latest"), "nothing is saved yet: {row}");

        browser.press(&stage.receiver.url("/hooks")).await;
        browser.choose("Version", "2015-01-01").await;
        browser.press("Save").await;
        browser.sees("The settings are saved.").await;
        stage.go("/webhooks").await;
        let row = browser.text("//tr[contains(., '/hooks')]").await;
        assert!(row.contains("2015-01-01"), "{row}");
    }
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn a_payment_turns_to_notified_while_somebody_looks() {
    for scripts in Scripts::BOTH {
        let stage = Stage::entered(scripts, |_| None).await;
        stage.shop.listen(&stage.receiver).await;
        let order = [("order_id", "a-1"), ("amount", "8")];
        stage.shop.post("/orders", &order).await.ok();
        let payment = [
            ("order_id", "a-1"),
            ("payment_method_type", "NB"),
            ("dummy_outcome", "PENDING"),
        ];
        let sent = stage.shop.post("/txns", &payment).await;
        stage.go("/orders").await;
        let browser = &stage.browser;
        let row = browser.text("//tr[contains(., 'a-1')]").await;
        assert!(row.contains("PENDING_VBV"), "{row}");
        browser.run("document.body.dataset.same = 'yes'").await;

        let customer = Browser::open(scripts).await;
        customer.go(sent.location()).await;
        customer.sees("Pay for order a-1").await;
        customer.click("//button[@value='CHARGED']").await;
        customer.sees("The order is paid.").await;

        let told =
            "//tr[contains(., 'a-1')][contains(., 'CHARGED')][contains(., 'notified: True')]";
        match scripts {
            Scripts::On => {
                browser.text(told).await;
                let same = browser.run("return document.body.dataset.same").await;
                assert_eq!(same, "yes", "nobody asked for the page again");
            }
            Scripts::Off => browser.reload_until(told).await,
        }
    }
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn a_failed_delivery_says_why_and_is_sent_again() {
    for scripts in Scripts::BOTH {
        let is_mended = Arc::new(AtomicBool::new(false));
        let mended = is_mended.clone();
        let shut = move || Reply::status(StatusCode::BAD_GATEWAY).body("the stock room is shut");
        let answer = move |_: &Arrival| (!mended.load(Ordering::SeqCst)).then(shut);
        let stage = Stage::entered(scripts, answer).await;
        stage.shop.listen(&stage.receiver).await;
        stage.pay("a-1", "8", &[]).await;

        let browser = &stage.browser;
        stage.go("/orders?notified=false").await;
        browser.press("a-1").await;
        browser.press("ORDER_SUCCEEDED").await;
        browser
            .reload_until("//pre[contains(., 'the stock room is shut')]")
            .await;
        let shown = browser.sees("the stock room is shut").await;
        assert!(shown.contains("502"), "{shown}");

        is_mended.store(true, Ordering::SeqCst);
        browser.press("Resend").await;
        browser.sees("Sent again.").await;
        browser
            .reload_until("//dd[contains(., 'notified: True')]")
            .await;
    }
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn a_wrong_username_is_refused_in_its_place_and_nothing_typed_is_lost() {
    for scripts in Scripts::BOTH {
        let stage = Stage::entered(scripts, |_| None).await;
        let browser = &stage.browser;
        let url = stage.receiver.url("/hooks?shop=7");
        stage.go("/webhooks/new").await;
        browser.fill("URL", &url).await;
        browser.fill("Username", "shop@1").await;
        browser.choose("Version", "2015-01-01").await;
        browser.choose("ORDER_REFUNDED", "off").await;
        browser
            .press("Retries, success, order, rate, headers, authorities")
            .await;
        browser.choose("Success is", "any 2xx").await;
        browser.fill("More headers, one a line", "X-Shop: 7").await;
        browser.press("Add the endpoint").await;

        let beside = "//input[@name='username']/ancestor::div[contains(@class, 'wrong')]";
        let why = browser.text(beside).await;
        assert!(why.contains("special character"), "{why}");
        let kept = [
            ("URL", url.as_str()),
            ("Username", "shop@1"),
            ("Version", "2015-01-01"),
            ("ORDER_REFUNDED", "off"),
            ("Success is", "any_2xx"),
            ("More headers, one a line", "X-Shop: 7"),
        ];
        for (label, typed) in kept {
            assert_eq!(browser.value(label).await, typed, "{label}");
        }
        browser.fill("Username", "shop1").await;
        browser.press("Add the endpoint").await;
        browser.sees("Password, shown this once:").await;
    }
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn what_a_shop_did_not_hear_for_a_while_is_replayed() {
    for scripts in Scripts::BOTH {
        let stage = Stage::entered(scripts, |_| None).await;
        let endpoint = json!({
            "url": stage.receiver.url("/hooks"), "username": "shop", "password": "pass",
            // Without TXN_CHARGED.
            "webhook_version": "2016-10-27",
        });
        let made = stage
            .shop
            .json(Method::POST, "/endpoints", &endpoint.to_string())
            .await;
        let endpoint_id = made.ok()["endpoint_id"].as_str().unwrap().to_owned();
        stage.pay("a-1", "8", &[]).await;
        stage.pay("a-2", "9", &[]).await;
        stage.receiver.arrival(3).await;
        let path = format!("/endpoints/{endpoint_id}");
        let latest = r#"{"webhook_version":""}"#;
        stage.shop.json(Method::PATCH, &path, latest).await.ok();

        let browser = &stage.browser;
        // As the form asks for it: browsers differ in how a moment is typed.
        let window = |from: &str, to: &str| {
            format!("/recovery?endpoint_id={endpoint_id}&from={from}&to={to}&states=withheld")
        };
        stage
            .go(&window("2020-01-01T00:00", "2020-02-01T00:00"))
            .await;
        browser.sees("No event of this endpoint fits").await;
        stage
            .go(&window("2020-01-01T00:00", "2199-01-01T00:00"))
            .await;
        browser.press("Show what it would send").await;
        assert_eq!(browser.value("From (UTC)").await, "2020-01-01T00:00");
        // Nobody switched ORDER_CREATED on, so that it stays withheld.
        browser.sees("2 by its switches").await;
        browser.press("Replay 2 events").await;
        browser.sees("What was asked").await;
        let done = "//dd[contains(., '2, of which 2 have arrived')]";
        match scripts {
            Scripts::On => drop(browser.text(done).await),
            Scripts::Off => browser.reload_until(done).await,
        }
        if scripts == Scripts::On {
            // All of it has arrived, so that its page asks for nothing more.
            browser.reload().await;
            browser.run(TELL_CLOSE).await;
            browser.text("//p[.='closed']").await;
            assert_eq!(browser.run(ASKED).await, 1);
        }
        stage.go("/recovery").await;
        let row = browser.text("//tr[contains(., 'rpl_')]").await;
        assert!(row.contains("finished") && row.contains("4 of 4"), "{row}");
    }
}

/// Says on the page that its live part asks no more, when or if that is so.
const TELL_CLOSE: &str = "
    const part = document.querySelector('[data-live]');
    const tell = () => {
        const said = document.createElement('p');
        said.textContent = 'closed';
        document.body.append(said);
    };
    document.addEventListener('htmx:sse:close', tell);
    // It may have been before: once it has asked, and no more.
    const asked = performance.getEntriesByType('resource');
    const has_asked = asked.some((entry) => entry.name.includes('/live'));
    if (has_asked && !part._htmx?.sse) tell();";

/// How often the page has asked for its live part.
const ASKED: &str = "
    const asked = performance.getEntriesByType('resource');
    return asked.filter((entry) => entry.name.includes('/live/')).length;";

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn a_page_that_is_answered_that_there_is_nothing_asks_no_more() {
    let stage = Stage::entered(Scripts::On, |_| None).await;
    stage.go("").await;
    let browser = &stage.browser;
    let tell = TELL_CLOSE.split("// It may have been before").next();
    browser.run(tell.unwrap()).await;
    // Its stream ends, and all that is asked from then on is counted.
    let end = "
        const part = document.querySelector('[data-live]');
        window.asked = 0;
        const end = setInterval(() => {
            const reader = part._htmx?.sse?.reader;
            if (!reader) return;
            clearInterval(end);
            window.fetch = async () => {
                window.asked += 1;
                return new Response(null, { status: 204 });
            };
            reader.cancel();
        }, 10);";
    browser.run(end).await;
    browser.text("//p[.='closed']").await;
    assert_eq!(browser.run("return window.asked").await, 1);
}

#[tokio::test]
#[ignore = "needs Chromium, which `cargo xtask test` installs"]
async fn a_flow_is_sent_to_ones_own_endpoint_and_watched() {
    for scripts in Scripts::BOTH {
        let stage = Stage::entered(scripts, |_| None).await;
        stage.shop.listen(&stage.receiver).await;
        let browser = &stage.browser;
        stage.go("/test").await;
        browser.choose("Flow", "refund").await;
        browser.press("Send the flow").await;
        browser.sees("A made-up flow").await;
        let told = "//li[contains(., 'ORDER_REFUNDED')][contains(., 'delivered')]";
        match scripts {
            Scripts::On => drop(browser.text(told).await),
            Scripts::Off => browser.reload_until(told).await,
        }
        use EventName::{OrderRefunded, OrderSucceeded, RefundInitiated, TxnCreated};
        let expected = [TxnCreated, OrderSucceeded, RefundInitiated, OrderRefunded];
        let arrivals = stage.receiver.arrivals();
        assert_eq!(arrivals.len(), expected.len());
        for (arrival, name) in arrivals.iter().zip(expected) {
            assert!(arrival.is(name), "{name}");
        }
    }
}

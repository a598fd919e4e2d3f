//! What keeps people from using a page, as axe-core knows it: found on no page, by day and by night, at a
//! desk and on a phone.
//!
//! axe-core is npm's; `cargo xtask test` fetches it and says where in `TEST_ORACLES`. Only what it calls
//! serious or critical counts.

use std::fmt::Write as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA384, digest};
use harkara::receiver::{Arrival, Reply};
use harkara_core::id::hex;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::driver::{Browser, Look, Scripts};
use super::walk::Walk;
use super::{PASSWORD, Stage};

/// The bytes of axe-core 4.14.1's `axe.min.js`. Another version is a change that somebody reads.
const AXE: &str = "c6dd52160e3d41a0f0b32b745dfb365c0c81b583c29579775f6ab938e2de1805\
                   26abd8d94d820c773b6917df56761887";

/// axe-core's script.
fn axe() -> String {
    let folder = std::env::var_os("TEST_ORACLES").expect(
        "TEST_ORACLES is not set: `cargo xtask test` fetches axe-core and sets it, and a plain \
         `cargo test` leaves this out",
    );
    let path = Path::new(&folder).join("npm/node_modules/axe-core/axe.min.js");
    let script = std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let found = hex(digest(&SHA384, &script).as_ref());
    assert_eq!(found, AXE, "{} is another one", path.display());
    String::from_utf8(script).unwrap()
}

/// A rule that a page breaks, and where.
#[derive(Deserialize)]
struct Finding {
    id: String,
    impact: String,
    help: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    html: String,
    #[serde(rename = "failureSummary")]
    summary: String,
}

/// With everything open that is folded; what colours are like is all that the night changes.
async fn findings(browser: &Browser, path: &str) -> String {
    browser
        .run("for (const folded of document.querySelectorAll('details')) folded.open = true")
        .await;
    let mut told = String::new();
    for look in Look::ALL {
        browser.wear(look).await;
        let rules = match look.scheme {
            "dark" => json!({ "runOnly": ["color-contrast", "link-in-text-block"] }),
            _ => json!({}),
        };
        let found = browser
            .run(&format!(
                "return axe.run(document, {{ resultTypes: ['violations'], ...{rules} }}).then(found =>
                    found.violations.filter(it => ['serious', 'critical'].includes(it.impact)))"
            ))
            .await;
        let found: Vec<Finding> = serde_json::from_value(found).unwrap();
        let Look { scheme, width } = look;
        for Finding {
            id,
            impact,
            help,
            nodes,
        } in found
        {
            writeln!(
                told,
                "\n{path} ({scheme}, {width} px): {id}, {impact}: {help}"
            )
            .unwrap();
            for Node { html, summary } in nodes {
                let summary = summary.replace('\n', "\n    ");
                writeln!(told, "  {html}\n    {summary}").unwrap();
            }
        }
        let wide = browser
            .run("return document.documentElement.scrollWidth")
            .await;
        if wide.as_u64().unwrap() > width.into() {
            writeln!(told, "\n{path} ({scheme}, {width} px): is {wide} px wide").unwrap();
        }
    }
    told
}

/// A shop with one endpoint that is well and one that is not, payments, a replay and a test; where the
/// pages are to which no link leads, but a form.
async fn furnish(stage: &Stage) -> Vec<String> {
    let shop = &stage.shop;
    let mut last = String::new();
    for path in ["/well", "/ill"] {
        let endpoint = json!({
            "url": stage.receiver.url(path), "username": "shop", "password": "pass", "signing": true,
        })
        .to_string();
        let made = shop.json(Method::POST, "/endpoints", &endpoint).await.ok();
        made["endpoint_id"].as_str().unwrap().clone_into(&mut last);
    }
    stage.app.merchant("empty", json!({})).await;
    stage
        .pay("a-1", "1234567.50", &[("customer_id", "asha")])
        .await;
    stage.pay("a-2", "8", &[]).await;
    shop.post("/orders", &[("order_id", "a-3"), ("amount", "8")])
        .await
        .ok();
    let replay = json!({ "endpoint_id": last, "states": ["pending", "withheld"] }).to_string();
    shop.json(Method::POST, "/replays", &replay).await.ok();
    let test = format!("/endpoints/{last}/test");
    let flow = r#"{"flow":"payment"}"#;
    let told = shop.json(Method::POST, &test, flow).await.ok();
    let order_id = told["order_id"].as_str().unwrap();
    vec![
        format!("/test/{order_id}?flow=payment&endpoint_id={last}"),
        format!("/recovery?endpoint_id={last}&states=pending&states=withheld"),
        format!("/recovery?endpoint_id={last}&rate=many"),
    ]
}

/// Somebody of the shop's who sees no persons and changes nothing, by a link that the owner makes.
async fn support(stage: &Stage) -> Browser {
    let browser = &stage.browser;
    stage.go("/members").await;
    browser.fill("Their name", "Bela").await;
    browser.click("//input[@value='support']").await;
    browser.press("Make a link").await;
    let link = browser.text("//code[@id='link']").await;
    let bela = Browser::open(Scripts::On).await;
    bela.go(&link).await;
    bela.fill("Password", PASSWORD).await;
    bela.press("Enter").await;
    bela.sees("Sign out").await;
    bela
}

#[tokio::test]
#[ignore = "needs Chromium and axe-core, which `cargo xtask test` installs"]
async fn nothing_keeps_people_from_using_a_page() {
    let axe = axe();
    let ill = |_: &Arrival| {
        let reply = Reply::status(StatusCode::SERVICE_UNAVAILABLE).header("retry-after", "3600");
        reply.body("<h1>the stock room is shut</h1>")
    };
    let script = move |arrival: &Arrival| (arrival.path == "/ill").then(|| ill(arrival));
    let stage = Stage::new(Scripts::On, script).await;
    let mut told = String::new();
    let browser = &stage.browser;
    browser.run_first(&axe).await;
    let origin = stage.app.app.public_url.clone();
    let mut look = async |path: &str| told.push_str(&findings(browser, path).await);
    let mut walk = Walk::new(browser, &origin);
    walk.visit("/dashboard/sign-in", &mut look).await;
    let link = stage.app.app.owner_link.as_ref().unwrap();
    walk.visit(link, &mut look).await;
    walk.visit("/dashboard/welcome?token=none", &mut look).await;
    stage.enter().await;
    let behind_forms = furnish(&stage).await;
    stage.go("/orders/a-2").await;
    browser
        .reload_until("//summary[contains(., '/ill')][contains(., '1 attempt')]")
        .await;

    let bela = support(&stage).await;
    look("the link that is shown once").await;
    walk.follow("/dashboard/merchants/ms/orders/a-2", &mut look)
        .await;
    for path in [
        "/orders?search=nothing",
        "/orders?from=tomorrow",
        "/events?name=ORDER_REFUNDED",
        "/no-such-page",
    ] {
        let path = format!("/dashboard/merchants/ms{path}");
        walk.visit(&path, &mut look).await;
    }
    for path in behind_forms {
        let path = format!("/dashboard/merchants/ms{path}");
        walk.visit(&path, &mut look).await;
    }
    walk.end();

    bela.run_first(&axe).await;
    let mut look = async |path: &str| told.push_str(&findings(&bela, path).await);
    let mut walk = Walk::new(&bela, &origin);
    walk.follow("/dashboard/merchants/ms/orders/a-2", &mut look)
        .await;
    assert!(told.is_empty(), "{told}");

    let wrong = "const button = document.createElement('button');
        const words = document.createElement('p');
        words.append('hard to read');
        Object.assign(words.style, { color: '#777', background: '#888' });
        words.style.width = '2000px';
        document.querySelector('main').append(button, words)";
    bela.run(wrong).await;
    let found = findings(&bela, "").await;
    let times = |rule: &str| found.matches(rule).count();
    let times = [": button-name,", ": color-contrast,", " px wide"].map(times);
    assert_eq!(times, [2, 4, 4], "{found}");
}

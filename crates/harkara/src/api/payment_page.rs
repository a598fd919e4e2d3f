//! The sandbox's hosted payment page: a customer's browser, and a tester's choice of the outcome.
//!
//! Behind `payment_links` and a transaction's authentication URL. Where the DUMMY gateway is off it
//! only says where things stand: money is taken at a real gateway. No scripts, no secrets, and no
//! word about the order that its link's holder does not know. HTML in, HTML out; the rules are
//! asked through `submit`.

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harkara_core::command::Command;
use harkara_core::dummy;
use harkara_core::id::TxnUuid;
use harkara_core::merchant::Merchant;
use harkara_core::order::{Order, OrderCommand};
use harkara_core::txn::{Card, Gateway, NewTxn, PaymentWay, Txn};
use harkara_webhook::{Amount, OrderStatus};
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;
use url::Url;

use super::input::Input;
use super::parameters::{Path, Query};
use super::{Api, auth, found, see_other};
use crate::error::ApiError;
use crate::submit::SubmitError;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:2rem auto;padding:0 1rem;\
color:#1b1b1f;background:#fff}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}dt{font-weight:600}dd{margin:0}\
button{display:block;width:100%;margin:.5rem 0;padding:.75rem;font:inherit;text-align:left;\
color:#1b1b1f;background:#f1f1f4;border:1px solid #76767f;border-radius:.375rem;cursor:pointer}\
button:focus-visible{outline:3px solid #0b57d0;outline-offset:2px}\
button[value=CHARGED]{color:#fff;background:#0b57d0;border-color:#0b57d0}\
.note{padding:.5rem .75rem;border-left:.25rem solid #8a5300;background:#fff4e0;color:#3b2400}\
@media(prefers-color-scheme:dark){body{color:#e6e6ea;background:#161618}\
button{color:#e6e6ea;background:#2a2a2e;border-color:#8e8e98}}";

/// What a tester can choose, as the DUMMY gateway's word and the button's text.
const CHOICES: [(&str, &str); 5] = [
    ("CHARGED", "Pay successfully"),
    ("AUTHORIZATION_FAILED", "Fail: not sufficient funds"),
    ("AUTHENTICATION_FAILED", "Fail: authentication"),
    ("JUSPAY_DECLINED", "Decline before the bank is asked"),
    ("PENDING", "Leave pending"),
];

#[derive(Deserialize)]
pub(super) struct Which {
    txn_uuid: Option<String>,
}

/// What can be done on the page.
enum Choice<'a> {
    /// Decide the transaction that the link names.
    Settle(&'a Txn),
    /// Start a transaction and decide it.
    Start,
    /// Go back to the shop: this is decided.
    Leave(&'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// The page of an order. Whoever was sent here to decide a payment that is decided by now is sent on.
pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let Some(order) = find(&api, &id).await? else {
        return Ok(not_found());
    };
    let txn_uuid = which.txn_uuid.map(TxnUuid::new);
    let choice = choice(&api, &order, txn_uuid.as_ref());
    if let (Choice::Leave(_), Some(_), Some(shop)) = (&choice, &txn_uuid, back_to_shop(&order)) {
        return Ok(found(shop.as_str()));
    }
    Ok(page(
        StatusCode::OK,
        &order,
        &uri,
        &order_page(&order, &choice, None),
    ))
}

/// A button was pressed: decides the payment, then sends the browser back to the shop. The webhook
/// is on its way at the same time, and either may come first.
pub(super) async fn choose(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    uri: Uri,
    request: Request,
) -> Result<Response, ApiError> {
    // Before the form is read: whoever does not hold a link cannot make us keep anything.
    let Some(order) = find(&api, &id).await? else {
        return Ok(not_found());
    };
    let input = Input::from_request(request, &api).await?;
    let words = CHOICES.map(|(word, _)| word);
    let chosen = input
        .one_of("outcome", &words)?
        .ok_or_else(|| ApiError::missing("outcome"))?;
    let status = chosen.parse::<OrderStatus>().ok();
    let merchant = auth::merchant(&api, &order.merchant_id).await?;
    let txn_uuid = which.txn_uuid.map(TxnUuid::new);
    let paid = match choice(&api, &order, txn_uuid.as_ref()) {
        Choice::Settle(txn) => settle(&api, &merchant, &order, txn, status).await,
        Choice::Start => start(&api, &merchant, &order, status).await,
        nothing @ (Choice::Leave(_) | Choice::Nothing(_)) => {
            let body = order_page(&order, &nothing, None);
            return Ok(page(StatusCode::CONFLICT, &order, &uri, &body));
        }
    };
    match paid {
        Ok(order) => {
            let here = || uri.path().to_owned();
            Ok(see_other(
                &back_to_shop(&order).map_or_else(here, String::from),
            ))
        }
        Err(SubmitError::Refused(refusal)) => {
            let reason = refusal.to_string();
            let body = order_page(&order, &Choice::Start, Some(&reason));
            Ok(page(StatusCode::CONFLICT, &order, &uri, &body))
        }
        Err(error) => Err(error.into()),
    }
}

async fn find(api: &Api, internal_id: &str) -> Result<Option<Order>, ApiError> {
    match api.store.order_by_internal_id(internal_id).await? {
        Some(view) => serde_json::from_str(&view.doc)
            .map(Some)
            .map_err(ApiError::internal),
        None => Ok(None),
    }
}

fn choice<'a>(api: &Api, order: &'a Order, txn_uuid: Option<&TxnUuid>) -> Choice<'a> {
    let elsewhere = Choice::Nothing("The payment takes place at the gateway, not on this page.");
    let Some(txn_uuid) = txn_uuid else {
        let mut txns = order.txns.iter();
        return match txns.any(|txn| txn.status == OrderStatus::Charged) {
            true => Choice::Leave("The order is paid."),
            false if api.config.gateway.dummy => Choice::Start,
            false => elsewhere,
        };
    };
    match order.txn(txn_uuid) {
        None => Choice::Nothing("The order has no such payment."),
        Some(txn) if !is_open(txn) => Choice::Leave("This payment is decided already."),
        Some(txn) if api.config.gateway.dummy && txn.way.gateway.is_dummy() => Choice::Settle(txn),
        Some(_) => elsewhere,
    }
}

/// Whether the customer is still at it.
fn is_open(txn: &Txn) -> bool {
    dummy::FORCED_TXN
        .iter()
        .filter_map(|word| word.parse().ok())
        .all(|status| harkara_core::txn::may_become(txn.status, status))
}

/// Reports the outcome; none leaves the transaction pending.
async fn settle(
    api: &Api,
    merchant: &Merchant,
    order: &Order,
    txn: &Txn,
    status: Option<OrderStatus>,
) -> Result<Order, SubmitError> {
    let Some(status) = status else {
        return Ok(order.clone());
    };
    let status = match status {
        OrderStatus::Charged if !txn.way.auto_capture => OrderStatus::Authorized,
        status => status,
    };
    let outcome = OrderCommand::TxnOutcome(Box::new(dummy::txn_outcome(txn, status)));
    let submitted = api
        .submit
        .run(merchant, &[Command::Order(order.order_id.clone(), outcome)])
        .await?;
    Ok(submitted.order.unwrap_or_else(|| order.clone()))
}

/// Starts a transaction that the DUMMY gateway leaves alone, and decides it here: so the browser
/// goes back with the outcome and not with a payment under way.
async fn start(
    api: &Api,
    merchant: &Merchant,
    order: &Order,
    status: Option<OrderStatus>,
) -> Result<Order, SubmitError> {
    let new = NewTxn {
        way: test_card(order),
        mandate_id: None,
        key: None,
    };
    let command = OrderCommand::StartTxn(Box::new(new));
    let submitted = api
        .submit
        .run(merchant, &[Command::Order(order.order_id.clone(), command)])
        .await?;
    let order = submitted.order.unwrap_or_else(|| order.clone());
    match order.txns.last() {
        Some(txn) => settle(api, merchant, &order, txn, status).await,
        None => Ok(order),
    }
}

fn test_card(order: &Order) -> PaymentWay {
    let text = str::to_owned;
    PaymentWay {
        gateway: Gateway::dummy(),
        payment_method_type: text("CARD"),
        payment_method: text("VISA"),
        card: Some(Card {
            last_four_digits: text("1111"),
            card_isin: text("411111"),
            card_brand: text("VISA"),
            card_type: text("CREDIT"),
            card_issuer: text("DUMMY"),
            name_on_card: String::new(),
            expiry_month: text("12"),
            expiry_year: text("2030"),
            card_reference: String::new(),
            card_fingerprint: String::new(),
        }),
        payer_vpa: None,
        redirect: true,
        auto_capture: order.details.auto_capture,
        metadata: None,
        forced: Some(text("PENDING")),
    }
}

/// The shop's page, told how the order stands; `None` where there is no such page on the web.
fn back_to_shop(order: &Order) -> Option<Url> {
    let mut url = return_url(order)?;
    let status = order.status();
    url.query_pairs_mut()
        .append_pair("order_id", order.order_id.as_str())
        .append_pair("status", status.as_str())
        .append_pair("status_id", &status.id().to_string());
    Some(url)
}

fn return_url(order: &Order) -> Option<Url> {
    let url = Url::parse(order.details.return_url.as_deref()?).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn order_page(order: &Order, choice: &Choice<'_>, refused: Option<&str>) -> Markup {
    let details = &order.details;
    html! {
        h1 { "Pay for order " (order.order_id) }
        dl {
            dt { "Merchant" } dd { (order.merchant_id) }
            dt { "Amount" } dd { (details.currency) " " (money(details.amount)) }
            dt { "Status" } dd { (order.status()) }
        }
        @if let Some(refused) = refused { p role="alert" class="note" { (refused) } }
        @match choice {
            Choice::Nothing(reason) => p { (reason) },
            Choice::Leave(reason) => {
                p { (reason) }
                @if let Some(shop) = back_to_shop(order) {
                    p { a href=(shop) { "Back to the shop" } }
                }
            }
            Choice::Settle(_) | Choice::Start => {
                p class="note" { "This is a sandbox: no money moves, and you choose what happens." }
                form method="post" {
                    fieldset {
                        legend {
                            @match choice {
                                Choice::Settle(txn) => { "Outcome of payment " (txn.txn_id) }
                                Choice::Start | Choice::Leave(_) | Choice::Nothing(_) => {
                                    "Outcome of a new payment"
                                }
                            }
                        }
                        @for (word, text) in CHOICES {
                            button type="submit" name="outcome" value=(word) { (text) }
                        }
                    }
                }
                p {
                    "You are sent back to the shop at once. Its webhook may come earlier or later, "
                    "so the shop should ask for the order's status and not trust this redirect."
                }
            }
        }
    }
}

/// With two decimals, as people write money.
fn money(amount: Amount) -> String {
    format!("{}.{:02}", amount.minor() / 100, amount.minor() % 100)
}

fn not_found() -> Response {
    let body = html! {
        h1 { "There is no such payment page" }
        p { "Check the link, or ask the shop for a new one." }
    };
    html_answer(
        StatusCode::NOT_FOUND,
        "Not found",
        &body,
        "form-action 'none'",
    )
}

/// A page of an order. Its form may end at the shop, so that is the one place named beside us; it
/// can be framed where its link says so.
fn page(status: StatusCode, order: &Order, uri: &Uri, body: &Markup) -> Response {
    let shop = return_url(order).map(|url| url.origin().ascii_serialization());
    let mut policy = format!("form-action 'self' {}", shop.unwrap_or_default());
    if !uri.path().starts_with("/merchant/ipay/") {
        policy.push_str("; frame-ancestors 'none'");
    }
    html_answer(
        status,
        &format!("Pay for order {}", order.order_id),
        body,
        &policy,
    )
}

fn html_answer(status: StatusCode, title: &str, body: &Markup, policy: &str) -> Response {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    let style = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; {policy}");
    let policy = HeaderValue::from_str(&policy).expect("base64 and an ASCII origin");
    let mut response = Response::new(Body::from(document.into_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;

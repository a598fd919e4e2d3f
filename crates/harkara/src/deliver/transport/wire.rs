//! What an attempt says and hears, in HTTP's terms: the request as it goes out, and what is taken
//! from the answer.
//!
//! Functions of plain values, without a socket or a clock; the transport calls them.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harkara_core::delivery::Failure;
use harkara_core::retry::{parse_http_date, parse_retry_after};
use harkara_core::time::Timestamp;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::Request;
use super::gauge::{Gauge, GaugedBody};
use crate::deliver::guard::Destination;

/// What every request says of itself.
pub(crate) const ALWAYS_SENT: [(HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "application/json"),
    (
        header::USER_AGENT,
        concat!("Harkara/", env!("CARGO_PKG_VERSION")),
    ),
];

/// Of each request, besides those that came with it.
const OUR_HEADERS: usize = 5;

const MAX_INTERIM_ANSWERS: usize = 4;
const MAX_KEPT_HEAD_BYTES: usize = 4 * 1024;

/// `Basic` and the credentials, marked so that it never prints. Some receivers compare it byte for
/// byte, so it is the standard alphabet with padding.
pub fn basic_header(username: &str, password: &str) -> HeaderValue {
    let pair = Zeroizing::new(format!("{username}:{password}"));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

pub(super) fn message(
    request: &Request,
    destination: &Destination,
    gauge: &Gauge,
) -> Result<http::Request<GaugedBody>, Failure> {
    let mut message = http::Request::post(&destination.target)
        .body(gauge.body(request.body.clone()))
        .map_err(|_| Failure::Internal)?;
    let host = HeaderValue::from_str(&destination.authority).map_err(|_| Failure::Internal)?;
    let always = ALWAYS_SENT.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let of_it = [
        (header::CONTENT_LENGTH, request.body.len().into()),
        (header::AUTHORIZATION, request.authorization.clone()),
    ];
    let ours = [(header::HOST, host)]
        .into_iter()
        .chain(always)
        .chain(of_it);
    let headers = message.headers_mut();
    headers.reserve(OUR_HEADERS + request.headers.len());
    for (name, value) in ours.chain(request.headers.iter().cloned()) {
        headers.append(name, value);
    }
    Ok(message)
}

/// A receiver may send answers of 1xx before the one that counts, but not for ever. Past the bound
/// nothing more is read of them: thousands would be parsed in one go while others wait.
pub(super) fn count_interim_answers(
    message: &mut http::Request<GaugedBody>,
    gauge: Gauge,
    too_many: Arc<Notify>,
) {
    let seen = AtomicUsize::new(0);
    hyper::ext::on_informational(message, move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM_ANSWERS {
            gauge.refuse_more();
            too_many.notify_one();
        }
    });
}

pub(super) fn why_no_head(error: &hyper::Error, gauge: &Gauge) -> Failure {
    let broken = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Failure::ConnectionClosed
    } else if error.is_parse() || broken.is_some_and(|e| e.kind() == io::ErrorKind::InvalidData) {
        Failure::BadResponse
    } else if broken.is_some() || error.is_body_write_aborted() {
        if gauge.is_sent() {
            Failure::ConnectionClosed
        } else {
            Failure::WriteFailed
        }
    } else if error.is_user() {
        Failure::Internal
    } else {
        // Bytes that came before the request went out, say.
        Failure::BadResponse
    }
}

/// A date is compared with the receiver's own `Date`, for its clock need not be ours.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let asked = text(header::RETRY_AFTER)?;
    match text(header::DATE).and_then(parse_http_date) {
        Some(date) => parse_retry_after(asked, date),
        // Without one, only seconds say how long.
        None if parse_http_date(asked).is_some() => None,
        None => parse_retry_after(asked, Timestamp::default()),
    }
}

pub(super) fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = MAX_KEPT_HEAD_BYTES;
    let mut kept = Vec::new();
    for (name, value) in headers {
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        room = left;
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        kept.push((name.as_str().to_owned(), value));
    }
    kept
}

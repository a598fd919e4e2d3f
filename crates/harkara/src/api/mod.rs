//! The REST API: request shapes in, commands to `submit`, rows from the store out.
//!
//! `router()` is the whole URL map on one screen; a file per resource holds its shapes and handlers.
//! `answer()` is what all requests go through, by hand: layers around the router would box a request
//! and its answer several times over.
//! Nothing here knows SQL, sends to merchants, or decides what may happen to a payment.

pub mod auth;
mod body;
mod egress;
pub(crate) mod endpoints;
pub(crate) mod events;
mod health;
pub mod ingest;
mod input;
pub(crate) mod json;
mod mandates;
pub(crate) mod merchants;
mod notifications;
mod operational_events;
mod orders;
mod outcomes;
mod parameters;
mod payment_page;
mod refunds;
pub(crate) mod replays;
pub(crate) mod samples;
mod schemas;
pub mod serve;
mod transactions;

use std::future::poll_fn;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use harkara_core::time::Timestamp;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{Notify, watch};
use tower::Service;

use crate::clock::Clock;
use crate::config::Config;
use crate::dashboard::{self, Dashboard};
use crate::deliver::guard::Policy;
use crate::error::ApiError;
use crate::store::{Counts, Store};
use crate::submit::Submit;
use crate::vault::Vault;

/// How long the body of a request may take: the largest that is taken, over a slow mobile line. Who
/// needs longer holds a connection and memory that others want.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What handlers work with; clones share it.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    parts: Parts,
    left: health::Left,
    dashboard: Dashboard,
}

/// The parts of the body that the API touches.
pub struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub vault: Arc<Vault>,
    pub submit: Arc<Submit>,
    pub config: Arc<Config>,
    /// Where endpoints may point.
    pub policy: Arc<Policy>,
    /// Without a slash at its end.
    pub public_url: String,
    /// Tells the runner of replay jobs that there is one to go on with.
    pub replays: Arc<Notify>,
    /// Tells answers that would go on for long that the server stops.
    pub stopping: watch::Receiver<bool>,
    /// Counts requests, for their ids.
    pub requests: AtomicU64,
}

impl Api {
    /// An API over these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            left: health::Left::default(),
            dashboard: Dashboard::default(),
        }))
    }

    /// How much is left to do, counted within the last second.
    pub(crate) async fn left(&self, now: Timestamp) -> Result<Counts, ApiError> {
        self.0.left.counts(self, now).await
    }

    /// What the pages for people share.
    pub(crate) fn dashboard(&self) -> &Dashboard {
        &self.0.dashboard
    }
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// Every path that the server answers, for [`answer`] to ask.
pub fn router(api: Api) -> Router {
    Router::new()
        // Payments, with a merchant's key, on the paths of the public SDKs.
        .route("/orders", post(orders::create))
        .route("/order/create", post(orders::create_legacy))
        .route(
            "/orders/{order_id}",
            get(orders::status).post(orders::amend),
        )
        .route("/order/status", get(orders::status_legacy))
        .route("/order/list", get(orders::list))
        .route("/session", post(orders::session))
        .route("/txns", post(transactions::start))
        .route("/v2/txns/{txn_uuid}/capture", post(transactions::capture))
        .route("/v2/txns/{txn_uuid}/void", post(transactions::void))
        .route("/orders/{order_id}/refunds", post(refunds::of_order))
        .route("/order/refund", post(refunds::of_order_legacy))
        .route("/refunds", post(refunds::of_txn))
        .route(
            "/customers/{customer_id}/mandates",
            get(mandates::of_customer),
        )
        .route("/mandates/{mandate_id}", post(mandates::command))
        .route(
            "/notifications/{object_reference_id}",
            get(notifications::status),
        )
        // Webhooks, with a merchant's key, or the platform's and `x-merchantid`.
        .route("/endpoints", get(endpoints::list).post(endpoints::create))
        .route(
            "/endpoints/{endpoint_id}",
            get(endpoints::read)
                .patch(endpoints::update)
                .delete(endpoints::delete),
        )
        .route("/endpoints/{endpoint_id}/pause", post(endpoints::pause))
        .route("/endpoints/{endpoint_id}/resume", post(endpoints::resume))
        .route("/endpoints/{endpoint_id}/test", post(endpoints::test))
        .route(
            "/endpoints/{endpoint_id}/signing",
            post(endpoints::add_signing_secret).delete(endpoints::remove_signing_secrets),
        )
        .route("/operational-events", get(operational_events::list))
        .route("/events/{event_id}", get(events::read))
        .route("/events/{event_id}/deliveries", get(events::deliveries))
        .route("/events/{event_id}/explain", get(events::explain))
        .route("/events/{event_id}/resend", post(events::resend::event))
        .route("/orders/{order_id}/resend", post(events::resend::order))
        .route("/deliveries/{delivery_id}/attempts", get(events::attempts))
        .route("/replays", get(replays::list).post(replays::create))
        .route("/replays/preview", post(replays::preview))
        .route("/replays/{job_id}", get(replays::read))
        .route("/replays/{job_id}/pause", post(replays::pause))
        .route("/replays/{job_id}/resume", post(replays::resume))
        .route("/replays/{job_id}/cancel", post(replays::cancel))
        // The feed is for both; only the platform may put events in.
        .route("/events", get(events::feed).post(ingest::one))
        .route("/events/batch", post(ingest::batch))
        // The platform, with its own key.
        .route("/merchants", get(merchants::list).post(merchants::create))
        .route(
            "/merchants/{merchant_id}",
            get(merchants::read).patch(merchants::update),
        )
        .route(
            "/merchants/{merchant_id}/keys",
            get(merchants::keys).post(merchants::create_key),
        )
        .route(
            "/merchants/{merchant_id}/keys/{key_id}",
            delete(merchants::revoke_key),
        )
        .route("/outcomes/txns/{txn_uuid}", post(outcomes::txn))
        .route(
            "/outcomes/refunds/{unique_request_id}",
            post(outcomes::refund),
        )
        .route("/outcomes/mandates/{mandate_id}", post(outcomes::mandate))
        .route(
            "/outcomes/notifications/{object_reference_id}",
            post(outcomes::notification),
        )
        // Customers' browsers.
        .route(
            "/merchant/pay/{id}",
            get(payment_page::show).post(payment_page::choose),
        )
        .route(
            "/merchant/ipay/{id}",
            get(payment_page::show).post(payment_page::choose),
        )
        .route(
            "/orders/{id}/payment-page",
            get(payment_page::show).post(payment_page::choose),
        )
        // Whoever has a firewall to open.
        .route("/egress.json", get(egress::json))
        .route("/egress.txt", get(egress::text))
        // Whoever watches the process.
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/schemas/{event_name}", get(schemas::one))
        .route("/health", get(health::health))
        // People, who sign in.
        .merge(dashboard::router())
        .fallback(async || ApiError::not_found("route.not_found", "there is no such path"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(api)
}

/// What the routes say. Where a handler panics, the request fails and the process lives on.
async fn ask(mut routes: Router, request: Request) -> Response {
    let mut said = pin!(routes.call(request));
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| said.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Ok(panicked(panic))))
    })
    .await
    .unwrap_or_else(|never| match never {})
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned());
    ApiError::internal(std::io::Error::other(text)).into_response()
}

/// Answers a request: gives it an id, writes the body of an error, and logs its cause, once.
pub async fn answer(api: Api, routes: Router, request: Request) -> Response {
    let count = api.requests.fetch_add(1, Ordering::Relaxed);
    let request_id = format!(
        "req_{:x}{:06x}",
        api.clock.now().as_micros(),
        count & 0xff_ffff
    );
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = ask(routes, request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if let Some(cause) = &error.cause {
            let (path, cause) = (uri.path(), chain(cause.as_ref()));
            tracing::error!(%request_id, %method, %path, status = error.status.as_u16(), %cause,
                "request failed");
        }
        if let Some(seconds) = error.retry_after_seconds {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match dashboard::is_ours(uri.path()) {
            true => dashboard::refuse(&mut response, &error, &request_id),
            false => tell(&mut response, &error, &request_id),
        }
    }
    let id = HeaderValue::from_str(&request_id).expect("hex and an underscore");
    response.headers_mut().insert("x-request-id", id);
    response
}

/// Writes an error as the API's callers read it.
fn tell(response: &mut Response, error: &ApiError, request_id: &str) {
    *response.body_mut() = Body::from(error.body(request_id).to_string());
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"harkara\""),
        );
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The whole body, refused as soon as it is known to be longer than `limit_bytes`.
pub(crate) async fn body_bytes(request: Request, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if announced
        .and_then(|text| text.parse::<usize>().ok())
        .is_some_and(|n| n > limit_bytes)
    {
        return Err(ApiError::too_large(limit_bytes));
    }
    collect(request.into_body(), limit_bytes, BODY_TIME).await
}

async fn collect(body: Body, limit_bytes: usize, within: Duration) -> Result<Bytes, ApiError> {
    let body = Limited::new(body, limit_bytes);
    match tokio::time::timeout(within, body.collect()).await {
        Err(_) => Err(ApiError::too_slow(within)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit_bytes)),
        Ok(Err(error)) => Err(ApiError::invalid(
            "body.incomplete",
            format!("the body did not arrive whole: {error}"),
        )),
    }
}

/// 302: the browser is to go on there.
pub(crate) fn found(location: &str) -> Response {
    redirect(StatusCode::FOUND, location)
}

/// 303: what was posted is done, and the browser is to go on there.
pub(crate) fn see_other(location: &str) -> Response {
    redirect(StatusCode::SEE_OTHER, location)
}

fn redirect(status: StatusCode, location: &str) -> Response {
    let location = HeaderValue::from_str(location).expect("URLs and paths are visible ASCII");
    (status, [(LOCATION, location)]).into_response()
}

/// A JSON answer whose bytes are there already.
pub(crate) fn json_bytes(bytes: impl Into<Bytes>) -> Response {
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([content_type], Body::from(bytes.into())).into_response()
}

/// A JSON answer.
pub(crate) fn json_answer(value: &serde_json::Value) -> Response {
    json_bytes(value.to_string())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;
    use crate::testing::World;

    /// The body of a client that has gone to sleep.
    struct Asleep;

    impl http_body::Body for Asleep {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let error = collect(Body::new(Asleep), 8, Duration::ZERO)
            .await
            .unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (408, "body.too_slow"));
    }

    #[tokio::test]
    async fn a_handler_that_panics_fails_its_request_alone() {
        let world = World::new().await;
        let broken = async || -> () { panic!("a broken promise") };
        let routes = Router::new().route("/", get(broken));
        for _ in 0..2 {
            let request = Request::new(Body::empty());
            let response = answer(world.api.clone(), routes.clone(), request).await;
            let id = response.headers()["x-request-id"].clone();
            assert_eq!(response.status(), 500);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = std::str::from_utf8(&body).unwrap();
            assert!(body.contains(id.to_str().unwrap()), "{body}");
            assert!(!body.contains("promise"), "{body}");
        }
    }
}

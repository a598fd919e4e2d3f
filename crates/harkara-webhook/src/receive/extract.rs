//! Received events as arguments of axum handlers.
//!
//! The state has to hold a `Receiver`. A call with wrong credentials is answered before its body is
//! read; nothing else of HTTP is decided here.

use axum::body::Bytes;
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::event::Event;
use crate::receive::{ReceiveError, Received, Receiver};

impl<S> FromRequest<S> for Received
where
    S: Send + Sync,
    Receiver: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let receiver = Receiver::from_ref(state);
        receiver
            .authorize(authorization(request.headers()))
            .map_err(answer)?;
        let body = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        Event::parse(&body).map(Self).map_err(answer)
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

fn answer(error: ReceiveError) -> Response {
    error.into_response()
}

impl IntoResponse for ReceiveError {
    /// 401 for a stranger, 400 for a body that is no event.
    fn into_response(self) -> Response {
        let reason = format!("failed to {self}\n");
        match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                [(WWW_AUTHENTICATE, "Basic")],
                reason,
            )
                .into_response(),
            Self::NotJson(_) | Self::NotAnObject | Self::MissingId | Self::MissingEventName => {
                (StatusCode::BAD_REQUEST, reason).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use axum::body::Body;

    use super::*;
    use crate::receive::BasicCredentials;

    /// A body that is in memory is there at the first poll, so no runtime is needed.
    fn extract(authorization: &str, body: &'static str) -> Result<Received, StatusCode> {
        let receiver = Receiver::new(BasicCredentials::new("shop", "secret"));
        let request = Request::builder()
            .header(AUTHORIZATION, authorization)
            .body(Body::from(body))
            .unwrap();
        let future = pin!(Received::from_request(request, &receiver));
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.map_err(|response| response.status()),
            Poll::Pending => panic!("the body is in memory"),
        }
    }

    #[test]
    fn a_handler_gets_only_events_of_the_platform() {
        const GOOD: &str = "Basic c2hvcDpzZWNyZXQ=";
        let event = r#"{"id":"evt_1","event_name":"ORDER_SUCCEEDED"}"#;
        let Received(received) = extract(GOOD, event).unwrap();
        assert_eq!(received.id, "evt_1");
        assert_eq!(extract("Basic eA==", event), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(extract("Basic eA==", "?"), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(extract(GOOD, "?"), Err(StatusCode::BAD_REQUEST));
    }
}

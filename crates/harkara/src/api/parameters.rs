//! What a path and a typed query say, read so that a refusal looks like every other error.
//!
//! axum's own extractors answer text; handlers take these instead. Forms and JSON bodies are read in
//! `input.rs` and `body.rs`.

use axum::extract;
use axum::extract::FromRequestParts;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::Api;
use crate::error::ApiError;

/// The parameters of a path; all of ours are texts.
pub(super) struct Path<T>(pub(super) T);

/// A query of a fixed shape.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let path = extract::Path::from_request_parts(parts, api).await;
        path.map(|extract::Path(parameters)| Self(parameters))
            .map_err(path_refused)
    }
}

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let query = extract::Query::from_request_parts(parts, api).await;
        query
            .map(|extract::Query(parameters)| Self(parameters))
            .map_err(|_| query_refused())
    }
}

/// Any text fits a parameter that is text, so only its encoding can be the caller's fault.
fn path_refused(refused: PathRejection) -> ApiError {
    if let PathRejection::FailedToDeserializePathParams(error) = &refused
        && let ErrorKind::InvalidUtf8InPathParam { key } = error.kind()
    {
        return ApiError::field(key, "is not UTF-8 in the path");
    }
    ApiError::internal(refused)
}

/// Our queries are of texts that may be left out, so only one too many can be wrong.
fn query_refused() -> ApiError {
    let message = "the query cannot be read; give each parameter once";
    ApiError::invalid("invalid_request", message)
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    /// Every path of the router that has a parameter, asked for with bytes that are no text.
    #[tokio::test]
    async fn a_path_that_is_not_utf_8_is_refused_like_anything_else() {
        let world = World::new().await;
        let paths = include_str!("mod.rs")
            .split('"')
            .filter(|text| text.starts_with('/') && text.contains('{') && !text.contains(' '));
        let mut table = String::new();
        for path in paths {
            let parts = path.split('/');
            let broken: Vec<&str> = parts
                .map(|part| if part.starts_with('{') { "%ff" } else { part })
                .collect();
            let broken = broken.join("/");
            for method in ["GET", "POST", "PATCH", "DELETE"] {
                let request = format!("{method} {broken}");
                let body = if method == "GET" { "" } else { "{}" };
                let reply = match world.merchant(&request, body).await {
                    reply if reply.status == 403 => world.platform(&request, body).await,
                    reply => reply,
                };
                if reply.status != 405 {
                    table += &format!("{method:<6} {path:<45} {}\n", reply.refusal());
                }
            }
        }
        insta::assert_snapshot!(table, @r#"
        GET    /orders/{order_id}                            400 "invalid_request": "order_id: is not UTF-8 in the path"
        POST   /orders/{order_id}                            400 "invalid_request": "order_id: is not UTF-8 in the path"
        POST   /v2/txns/{txn_uuid}/capture                   400 "invalid_request": "txn_uuid: is not UTF-8 in the path"
        POST   /v2/txns/{txn_uuid}/void                      400 "invalid_request": "txn_uuid: is not UTF-8 in the path"
        POST   /orders/{order_id}/refunds                    400 "invalid_request": "order_id: is not UTF-8 in the path"
        GET    /customers/{customer_id}/mandates             400 "invalid_request": "customer_id: is not UTF-8 in the path"
        POST   /mandates/{mandate_id}                        400 "invalid_request": "mandate_id: is not UTF-8 in the path"
        GET    /notifications/{object_reference_id}          400 "invalid_request": "object_reference_id: is not UTF-8 in the path"
        GET    /endpoints/{endpoint_id}                      400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        PATCH  /endpoints/{endpoint_id}                      400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        DELETE /endpoints/{endpoint_id}                      400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        POST   /endpoints/{endpoint_id}/pause                400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        POST   /endpoints/{endpoint_id}/resume               400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        POST   /endpoints/{endpoint_id}/test                 400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        POST   /endpoints/{endpoint_id}/signing              400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        DELETE /endpoints/{endpoint_id}/signing              400 "invalid_request": "endpoint_id: is not UTF-8 in the path"
        GET    /events/{event_id}                            400 "invalid_request": "event_id: is not UTF-8 in the path"
        GET    /events/{event_id}/deliveries                 400 "invalid_request": "event_id: is not UTF-8 in the path"
        GET    /events/{event_id}/explain                    400 "invalid_request": "event_id: is not UTF-8 in the path"
        POST   /events/{event_id}/resend                     400 "invalid_request": "event_id: is not UTF-8 in the path"
        POST   /orders/{order_id}/resend                     400 "invalid_request": "order_id: is not UTF-8 in the path"
        GET    /deliveries/{delivery_id}/attempts            400 "invalid_request": "delivery_id: is not UTF-8 in the path"
        GET    /replays/{job_id}                             400 "invalid_request": "job_id: is not UTF-8 in the path"
        POST   /replays/{job_id}/pause                       400 "invalid_request": "job_id: is not UTF-8 in the path"
        POST   /replays/{job_id}/resume                      400 "invalid_request": "job_id: is not UTF-8 in the path"
        POST   /replays/{job_id}/cancel                      400 "invalid_request": "job_id: is not UTF-8 in the path"
        GET    /merchants/{merchant_id}                      400 "invalid_request": "merchant_id: is not UTF-8 in the path"
        PATCH  /merchants/{merchant_id}                      400 "invalid_request": "merchant_id: is not UTF-8 in the path"
        GET    /merchants/{merchant_id}/keys                 400 "invalid_request": "merchant_id: is not UTF-8 in the path"
        POST   /merchants/{merchant_id}/keys                 400 "invalid_request": "merchant_id: is not UTF-8 in the path"
        DELETE /merchants/{merchant_id}/keys/{key_id}        400 "invalid_request": "merchant_id: is not UTF-8 in the path"
        POST   /outcomes/txns/{txn_uuid}                     400 "invalid_request": "txn_uuid: is not UTF-8 in the path"
        POST   /outcomes/refunds/{unique_request_id}         400 "invalid_request": "unique_request_id: is not UTF-8 in the path"
        POST   /outcomes/mandates/{mandate_id}               400 "invalid_request": "mandate_id: is not UTF-8 in the path"
        POST   /outcomes/notifications/{object_reference_id} 400 "invalid_request": "object_reference_id: is not UTF-8 in the path"
        GET    /merchant/pay/{id}                            400 "invalid_request": "id: is not UTF-8 in the path"
        POST   /merchant/pay/{id}                            400 "invalid_request": "id: is not UTF-8 in the path"
        GET    /merchant/ipay/{id}                           400 "invalid_request": "id: is not UTF-8 in the path"
        POST   /merchant/ipay/{id}                           400 "invalid_request": "id: is not UTF-8 in the path"
        GET    /orders/{id}/payment-page                     400 "invalid_request": "id: is not UTF-8 in the path"
        POST   /orders/{id}/payment-page                     400 "invalid_request": "id: is not UTF-8 in the path"
        GET    /schemas/{event_name}                         400 "invalid_request": "event_name: is not UTF-8 in the path"
        "#);
    }

    #[tokio::test]
    async fn a_query_that_says_something_twice_is_refused_like_anything_else() {
        let world = World::new().await;
        let requests = [
            "GET /merchant/pay/ordeh_0?txn_uuid=a&txn_uuid=b",
            "GET /endpoints?merchant_id=a&merchant_id=b",
        ];
        let mut table = String::new();
        for request in requests {
            table += &format!("{}\n", world.platform(request, "").await.refusal());
        }
        insta::assert_snapshot!(table, @r#"
        400 "invalid_request": "the query cannot be read; give each parameter once"
        400 "invalid_request": "the query cannot be read; give each parameter once"
        "#);
    }
}

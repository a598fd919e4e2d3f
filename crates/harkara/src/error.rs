//! The one way in which a request ends badly: what the caller is told, and what only the log is.
//!
//! 4xx tells, 5xx hides. Handlers return `ApiError`; the outermost layer (`api/mod.rs`) writes the
//! body with the request's id and logs the cause, once.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use harkara_core::refusal::{Category, Refusal};
use http::StatusCode;
use serde_json::{Value, json};

use crate::store::{DbError, DbErrorKind};
use crate::submit::SubmitError;

/// Why a request was refused or failed.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// The reference's `error_code`, such as `invalid.order.not_successful`.
    pub code: &'static str,
    /// A sentence for the caller.
    pub message: String,
    pub category: &'static str,
    /// The fields that are wrong, each with the reason.
    pub fields: Vec<(String, String)>,
    /// Seconds after which it is worth trying again.
    pub retry_after_seconds: Option<u32>,
    /// For the log alone.
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ApiError {
    fn new(
        status: StatusCode,
        code: &'static str,
        category: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            category,
            fields: Vec::new(),
            retry_after_seconds: None,
            cause: None,
        }
    }

    /// 400: what was sent does not make sense.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "INVALID_INPUT", message)
    }

    /// 400, naming the field and what is wrong with it.
    pub fn field(name: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let mut error = Self::invalid("invalid_request", format!("{name}: {reason}"));
        error.fields.push((name.to_owned(), reason));
        error
    }

    /// 400: a field that has to be there is not.
    pub fn missing(name: &str) -> Self {
        let mut error = Self::field(name, "is missing");
        error.category = "MISSING_MANDATORY_PARAMETER";
        error.message = format!("the mandatory parameter '{name}' is missing");
        error
    }

    /// 401: no key, or a wrong one.
    pub fn access_denied(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "access_denied",
            "UNAUTHENTICATED",
            message,
        )
    }

    /// 403: a good key of somebody who may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "access_denied",
            "UNAUTHORIZED",
            message,
        )
    }

    /// 404: unknown, or somebody else's, which must look the same.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, "RESOURCE_NOT_FOUND", message)
    }

    /// 409: it exists already.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "ALREADY_EXISTS", message)
    }

    /// 410: it was here, and is kept no longer.
    pub fn gone(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, code, "RESOURCE_NOT_FOUND", message)
    }

    /// 422: understood, and against a rule.
    pub fn unprocessable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            code,
            "INVALID_INPUT",
            message,
        )
    }

    /// 405: this route has no such method.
    pub fn method_not_allowed() -> Self {
        let message = "this path does not take that method; the API reference lists what it takes";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "INVALID_ACTION",
            message,
        )
    }

    /// 413: more bytes than are taken.
    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is larger than the {limit_bytes} bytes that are taken");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body.too_large",
            "INVALID_INPUT",
            message,
        )
    }

    /// 408: the body took too long.
    pub fn too_slow(within: Duration) -> Self {
        let seconds = within.as_secs();
        let message = format!("the body did not arrive within {seconds} seconds; send it again");
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body.too_slow",
            "INVALID_INPUT",
            message,
        )
    }

    /// 503: try again. Whether it was stored is not known when the store fails under it, so only
    /// what has a name of its own can be promised to happen once.
    pub fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        let message = "the service is busy and may have done this already; send it again unchanged: \
                       an order, a refund or an event with an id is made once, and a transaction is \
                       if it carries an Idempotency-Key";
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            "INTERNAL_ERROR",
            message,
        );
        error.retry_after_seconds = Some(1);
        error.cause = Some(Arc::new(cause));
        error
    }

    /// 500: our fault; the log knows more.
    pub fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        let message = "something went wrong on our side; the request id leads to it in our log";
        let mut error = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "INTERNAL_ERROR",
            message,
        );
        error.cause = Some(Arc::new(cause));
        error
    }

    /// The body in the reference's shape.
    pub fn body(&self, request_id: &str) -> Value {
        let fields: Vec<Value> = self
            .fields
            .iter()
            .map(|(name, reason)| json!({ "field_name": name, "reason": reason }))
            .collect();
        json!({
            "status": "error",
            "error_code": self.code,
            "error_message": self.message,
            "user_message": self.message,
            "error_info": {
                "code": self.code,
                "category": self.category,
                "request_id": request_id,
                "user_message": self.message,
                "developer_message": self.message,
                "fields": fields,
            },
        })
    }
}

/// Carries the error to the outermost layer, which knows the request's id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, category) = match refusal.category() {
            Category::InvalidInput => (StatusCode::BAD_REQUEST, "INVALID_INPUT"),
            Category::ResourceNotFound => (StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND"),
            Category::DuplicateRequest => (StatusCode::BAD_REQUEST, "DUPLICATE_REQUEST"),
            Category::InvalidAction => (StatusCode::BAD_REQUEST, "INVALID_ACTION"),
            Category::AlreadyExists => (StatusCode::BAD_REQUEST, "ALREADY_EXISTS"),
        };
        Self::new(status, refusal.code(), category, refusal.to_string())
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error.kind {
            DbErrorKind::Busy | DbErrorKind::Stale | DbErrorKind::Down => Self::unavailable(error),
            DbErrorKind::Corrupt => Self::internal(error),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::Store(error) => error.into(),
            SubmitError::Unreadable(error) => Self::internal(error),
        }
    }
}

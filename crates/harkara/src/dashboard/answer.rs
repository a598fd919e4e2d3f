//! Answers to browsers: HTML with the headers that keep it a page of ours, and where to go next.
//!
//! Every page has the same policy: nothing inline, nothing from elsewhere, in nobody's frame. Called by
//! the handlers, and by `api/` for what was refused before or instead of a page.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use maud::{Markup, html};

use super::components::{document, panel, text};
use crate::error::ApiError;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; \
                      require-trusted-types-for 'script'; trusted-types harkara";

/// What every answer of the dashboard says, whatever is in it.
const ALWAYS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
];

/// Adds what every answer says. A browser heeds the strict transport over https alone.
pub(super) fn harden(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// A whole page.
pub(super) fn page(status: StatusCode, document: Markup) -> Response {
    let html = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    (status, [html], Body::from(document.into_string())).into_response()
}

/// Puts a page into the answer to a request that was refused or failed, whose headers stay; also into that
/// for paths that are none.
pub(crate) fn refuse(response: &mut Response, error: &ApiError, request_id: &str) {
    let title = match error.status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not yours to do",
        StatusCode::SERVICE_UNAVAILABLE => "Busy just now",
        status if status.is_client_error() => "That did not work",
        _ => "Something went wrong",
    };
    let body = html! {
        (panel(title, html! {
            p { (text(&sentence(&error.message))) }
            p class="quiet" { "Request " code { (request_id) } }
            p { a href=(super::ROOT) { "Back to the dashboard" } }
        }))
    };
    let (parts, body) = page(error.status, document(title, None, body)).into_parts();
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.extend(parts.headers);
    harden(headers);
}

/// The status of a form's page when what was sent cannot be. The page is there, whatever the form names.
pub(super) fn form_status(error: &ApiError) -> StatusCode {
    match error.status {
        StatusCode::NOT_FOUND => StatusCode::UNPROCESSABLE_ENTITY,
        status => status,
    }
}

/// What is wrong with a field of a form, if anything is.
pub(super) fn wrong<'e>(error: Option<&'e ApiError>, field: &str) -> Option<&'e str> {
    let mut fields = error?.fields.iter();
    let of_field = fields.find(|(name, _)| name == field);
    of_field.map(|(_, reason)| reason.as_str())
}

/// A fragment of ours as a sentence: a capital first, a stop last.
pub(super) fn sentence(fragment: &str) -> String {
    let mut chars = fragment.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    let mut text = first.unwrap_or_default() + chars.as_str();
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_page_that_hides_what_it_must() {
        let cause = std::io::Error::other("the password of the database is x");
        let error = ApiError::internal(cause);
        let mut response = error.clone().into_response();
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(1));
        refuse(&mut response, &error, "req_1");
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(sentence("there is no such path"), "There is no such path.");
    }
}

//! Responses, and problem documents (RFC 9457) for errors.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Every response that hyper sends: small, complete and in memory.
pub(super) type HttpResponse = Response<Full<Bytes>>;

/// An error response: RFC 9457 with a stable `code`, and the field to blame, if any.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<String>,
    retry_after_seconds: Option<u32>,
    closes: bool,
    allowed_methods: Option<&'static str>,
    more: Map<String, Value>,
}

/// `Retry-After` of a client that is over a limit.
const TOO_MANY_RETRY_SECONDS: u32 = 5;

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl fmt::Display) -> Self {
        let mut detail = detail.to_string();
        // Error types of the code do not end in a full stop.
        if !detail.ends_with('.') {
            detail.push('.');
        }
        Self {
            status,
            code,
            detail,
            field: None,
            retry_after_seconds: None,
            closes: false,
            allowed_methods: None,
            more: Map::new(),
        }
    }

    /// A `400` for a field of the body or the query.
    pub(super) fn field(
        field: impl Into<String>,
        code: &'static str,
        detail: impl fmt::Display,
    ) -> Self {
        let field = Some(field.into());
        Self { field, ..Self::new(StatusCode::BAD_REQUEST, code, detail) }
    }

    pub(super) fn unauthorized(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn not_found(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// A `405` that lists the methods of the path.
    pub(super) fn not_allowed(method: &Method, allowed: &'static str) -> Self {
        let detail =
            format!("This path does not allow {}; it allows {allowed}.", excerpt(method.as_str()));
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Self { allowed_methods: Some(allowed), ..problem }
    }

    /// A `413`; `limit` is in bytes.
    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("The body exceeds the limit of {limit} bytes.");
        let field = Some("body".to_owned());
        Self { field, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail) }
    }

    /// A `503`: worth retrying soon.
    pub(super) fn unavailable(code: &'static str, detail: impl fmt::Display) -> Self {
        let retry_after_seconds = Some(1);
        Self { retry_after_seconds, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// A `429`: the client is at its limit, until some of its usage ends.
    pub(super) fn too_many(code: &'static str, detail: impl fmt::Display) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
        Self { retry_after_seconds: Some(TOO_MANY_RETRY_SECONDS), ..problem }
    }

    /// Its stable code.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// What it says to its reader.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether the same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        self.retry_after_seconds.is_some()
    }

    /// Closes the connection after this response.
    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Adds a member to the document.
    pub(super) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        // A value that fails to serialize is left out, to keep the original error.
        if let Ok(value) = serde_json::to_value(value) {
            self.more.insert(name.to_owned(), value);
        }
        self
    }

    /// The body of the response.
    pub(super) fn into_document(self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(body) = body.as_object_mut() {
            if let Some(field) = self.field {
                body.insert("field".into(), field.into());
            }
            body.extend(self.more);
        }
        body
    }

    pub(super) fn into_response(self) -> HttpResponse {
        let Self { status, retry_after_seconds, allowed_methods, closes, .. } = self;
        let mut response = bytes_response(
            status,
            HeaderValue::from_static("application/problem+json"),
            Bytes::from(self.into_document().to_string()),
        );
        if let Some(seconds) = retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allowed) = allowed_methods {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Longest part of what a client sent that an answer repeats.
const MAX_EXCERPT_CHARS: usize = 64;

/// The beginning of client input: keeps responses and logs small.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT_CHARS) {
        Some((end, _)) => format!("{}...", text.split_at(end).0),
        None => text.to_owned(),
    }
}

/// A response with this body. No response may be cached, as users see their own data.
pub(super) fn bytes_response(
    status: StatusCode,
    content_type: HeaderValue,
    body: Bytes,
) -> HttpResponse {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A JSON response.
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(body) => {
            bytes_response(status, HeaderValue::from_static("application/json"), body.into())
        }
        Err(error) => {
            tracing::error!(%error, "a response cannot be serialized as JSON");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The response could not be encoded; the error is in the server's log.",
            )
            .into_response()
        }
    }
}

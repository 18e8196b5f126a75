//! Parsing of requests, and answers: JSON, and problem documents (RFC 9457) for errors.

use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::exchange::wire::MAX_BATCH;

pub(super) type Reply = Result<Response, Problem>;

/// An error answer (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None }
    }

    /// Sets `Retry-After`, in seconds.
    pub(super) fn with_retry_after(self, seconds: &'static str) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Members<'a> {
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
        }
        let members = Members {
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let body = serde_json::to_vec(&members).unwrap_or_default();
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let retry_after = self.retry_after.map(|seconds| [(header::RETRY_AFTER, seconds)]);
        (self.status, content_type, AppendHeaders(retry_after.into_iter().flatten()), body)
            .into_response()
    }
}

/// The journal cannot be written.
pub(super) fn unavailable() -> Problem {
    let detail = "the exchange cannot write its journal and stops";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

pub(super) fn read_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        let status = rejection.status();
        let too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
        let code = if too_large { "too_large" } else { "bad_request" };
        Problem::new(status, code, rejection.body_text())
    })
}

pub(super) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(deserializer);
    value.map_err(|error| Problem::bad_request(error.to_string()))
}

pub(super) fn check_batch(count: usize) -> Result<(), Problem> {
    if (1..=MAX_BATCH).contains(&count) {
        return Ok(());
    }
    Err(Problem::bad_request(format!("{count} entries in a request: expected 1 to {MAX_BATCH}")))
}

pub(super) fn json(value: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(value).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

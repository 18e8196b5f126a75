use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{order::Order, store::StoreError};

/// A problem document (RFC 9457), with Longbow's codes.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    order: Option<Box<Order>>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: &str) -> Self {
        Self { status, code, detail: detail.to_owned(), order: None }
    }

    /// A `400`.
    pub(super) fn invalid(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_field", detail)
    }

    /// A `401`.
    pub(super) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// A `404`.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "You have no such order.")
    }

    /// A `422`: the exchange refused.
    pub(super) fn rejected(order: Order) -> Self {
        let reason = order.reason.clone().unwrap_or_default();
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "order_rejected", &reason);
        Self { order: Some(Box::new(order)), ..problem }
    }
}

/// Postgres failed.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let (Some(order), Some(body)) = (self.order, body.as_object_mut()) {
            body.insert("order".to_owned(), serde_json::to_value(order).unwrap_or(Value::Null));
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

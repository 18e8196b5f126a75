use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::http::problem::{HttpResponse, bytes_response};
use crate::web::Asset;

/// `GET /` and its assets.
pub(in crate::http) fn get(asset: &'static Asset) -> HttpResponse {
    let content_type = HeaderValue::from_static(asset.content_type);
    let mut response = bytes_response(StatusCode::OK, content_type, Bytes::from_static(asset.body));
    let headers = response.headers_mut();
    // No external resources, no inline code, no framing.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

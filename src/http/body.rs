//! Reads request bodies within limits of size and time.

use std::time::Duration;

use http::Request;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::problem::Problem;
use crate::runtime::timeout;

/// Largest request body.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;
/// Largest body that is read to its end only to answer `413`: closing a connection with unread data
/// can destroy the answer before the client reads it.
const MAX_DISCARDED_BYTES: usize = 256 * 1024;
/// Time limit for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Splits a request and reads its body of at most [`MAX_BODY_BYTES`]. Handlers call it first,
/// because a connection with an unread body cannot be reused.
pub(super) async fn read_body(request: Request<Incoming>) -> Result<(Parts, Vec<u8>), Problem> {
    read_body_up_to(MAX_BODY_BYTES, request).await
}

/// The same with another limit, in bytes.
pub(super) async fn read_body_up_to(
    limit: usize,
    request: Request<Incoming>,
) -> Result<(Parts, Vec<u8>), Problem> {
    let (parts, body) = request.into_parts();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit.max(MAX_DISCARDED_BYTES) {
        return Err(Problem::too_large(limit).closing());
    }
    let read = timeout(BODY_TIMEOUT, collect(body, limit)).await;
    let body = read.unwrap_or_else(|| {
        let detail = format!("The body did not arrive within {BODY_TIMEOUT:?}.");
        Err(Problem::field("body", "body_too_slow", detail).closing())
    })?;
    Ok((parts, body))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a request body ended early");
            let detail = "The body ended early or is not framed as HTTP/1.1 requires.";
            Problem::field("body", "body_unreadable", detail).closing()
        })?;
        let Some(data) = frame.data_ref() else { continue };
        length = length.saturating_add(data.len());
        if length > limit.max(MAX_DISCARDED_BYTES) {
            return Err(Problem::too_large(limit).closing());
        }
        if length <= limit {
            bytes.extend_from_slice(data);
        }
    }
    if length > limit { Err(Problem::too_large(limit)) } else { Ok(bytes) }
}

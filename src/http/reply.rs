//! Outcomes of a request.

use crate::stream::StreamRequest;

use super::problem::HttpResponse;

/// The outcome of a request.
pub(super) enum Reply {
    /// A response; the connection stays open.
    Response(HttpResponse),
    /// The connection becomes a stream.
    Stream(StreamRequest),
    /// The connection sends these bytes and closes.
    Bytes(Vec<u8>),
}

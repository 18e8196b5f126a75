use crate::stream::StreamRequest;

use super::problem::HttpResponse;

/// What a request leads to.
pub(super) enum Reply {
    /// An answer; the connection goes on.
    Response(HttpResponse),
    /// The connection becomes a stream.
    Stream(StreamRequest),
    /// The connection gets these bytes and ends.
    Bytes(Vec<u8>),
}

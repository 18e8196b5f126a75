//! Outcomes of a request.

use crate::stream::StreamRequest;

use super::peers::{NODE_HEADER, Peers};
use super::problem::HttpResponse;
use super::relay::Relay;

/// The outcome of a request.
pub(super) enum Reply {
    /// A response; the connection stays open.
    Response(HttpResponse),
    /// The connection becomes a stream.
    Stream(StreamRequest),
    /// The connection becomes a stream that another node has.
    Relay(Box<Relay>),
    /// The connection sends these bytes and closes.
    Bytes(Vec<u8>),
}

impl Reply {
    /// Tells which node has answered, unless it was another one.
    pub(super) fn name_node(&mut self, peers: &Peers) {
        if let Self::Response(response) = self {
            let headers = response.headers_mut();
            headers.entry(NODE_HEADER).or_insert_with(|| peers.node_header().clone());
        }
    }
}

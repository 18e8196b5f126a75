//! Requests between nodes. A node that gets a request for a user whom another node has passes it on
//! there, signed with a secret that all nodes share.
//!
//! | file | what |
//! |---|---|
//! | `signature` | signs a request, and checks the signature of one |
//! | `seen` | the signatures of the last seconds, so that a copied request is not taken again |
//! | `place` | where a request belongs |
//! | `pool` | kept-alive connections of one shard to the other nodes |
//!
//! What arrives on the listener for nodes has been passed on: it is answered there or refused, so no
//! request goes in circles. The signature covers the whole request but hides none of it, so the network
//! between the nodes must be private.

mod metrics;
mod place;
mod pool;
mod seen;
mod signature;

pub use metrics::PeerMetrics;
pub use place::{PeerOptions, Peers};
pub use signature::PeersSecret;

pub(super) use place::{Place, signature_of};
pub(super) use pool::{Link, PeerPool, Unanswered};
pub(super) use signature::Refused;

/// Header that tells which node has answered.
pub(super) const NODE_HEADER: &str = "x-longbow-node";

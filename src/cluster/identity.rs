use std::net::SocketAddr;

use super::NodeId;
use crate::data_dir::DataHome;

/// Who wants to be a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    pub node_id: NodeId,
    /// The id of its log, as Postgres stores it.
    pub log_id: i64,
    /// The place of its data directory.
    pub home: DataHome,
    /// Where other nodes reach it, if it shares users with them.
    pub peer_address: Option<SocketAddr>,
    pub common: Common,
}

/// What nodes that share users must have in common; nothing for one that shares none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// The address of the exchange. Another one has other orders under the same ids.
    pub exchange: Option<String>,
    /// A hash of the keys. Others would let nobody in whom the other nodes know, and would not be answered.
    pub keys: Option<String>,
}

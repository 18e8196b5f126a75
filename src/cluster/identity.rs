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
}

use super::NodeId;
use crate::projection::ProjectionError;

/// Why a process is not a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Postgres failed.
    #[error(transparent)]
    Postgres(#[from] ProjectionError),
    /// Another process is this node.
    #[error(
        "node {node_id} runs on {host} already, with another data directory: stop it there, or start this one with another --node-id"
    )]
    Taken {
        /// The number.
        node_id: NodeId,
        /// The host of the other process.
        host: String,
    },
    /// The data directory is a copy.
    #[error(
        "the data directory is a copy of the one that node {node_id} runs with on {host}: stop that node first, or begin with an empty directory"
    )]
    Copied {
        /// The node with the original.
        node_id: NodeId,
        /// Its host.
        host: String,
    },
    /// Another process has become this node since.
    #[error(
        "another process has become node {node_id} since (epoch {found}; this one has epoch {ours}), and this one must stop"
    )]
    Superseded {
        /// The number.
        node_id: NodeId,
        /// The epoch of the other process.
        found: i64,
        /// The epoch of this process.
        ours: i64,
    },
}

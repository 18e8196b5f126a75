use super::{ClockReading, NodeId};
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
    /// A node that shares users runs beside one that does not.
    #[error(
        "node {node_id} runs on {host} {}: start all nodes at this Postgres with --redis and --commit postgres, or only one",
        if *.is_member { "and shares users with others" } else { "and shares no users" }
    )]
    Mixed {
        /// The other node.
        node_id: NodeId,
        /// Its host.
        host: String,
        /// Whether it shares users.
        is_member: bool,
    },
    /// A node that shares users has another exchange.
    #[error(
        "node {node_id} on {host} shares users and sends their orders to {theirs}, and this one would send them to {ours}: give all nodes the same --exchange (to change it, stop all of them first)"
    )]
    OtherExchange {
        /// The other node.
        node_id: NodeId,
        /// Its host.
        host: String,
        /// The address that it has.
        theirs: String,
        /// The address that this one has.
        ours: String,
    },
    /// A node that shares users has other keys.
    #[error(
        "node {node_id} on {host} shares users and has other keys: give all nodes a copy of the same --keys directory (to change them, stop all nodes first)"
    )]
    OtherKeys {
        /// The other node.
        node_id: NodeId,
        /// Its host.
        host: String,
    },
    /// The clock of a member is too far from Postgres' clock.
    #[error("{0}, then start this node again")]
    ClockApart(ClockReading),
    /// Another node has taken over users of this one.
    #[error(
        "another node has taken over the users of partition {partition}: this one was frozen or cut off for longer than its lease, and must stop"
    )]
    Fenced {
        /// One of the partitions.
        partition: u8,
    },
    /// Postgres has forgotten a member.
    #[error(
        "Postgres does not know of this node any more: it was restored from a backup, and this node must stop"
    )]
    Forgotten,
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
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

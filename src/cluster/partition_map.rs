use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use super::NodeId;
use crate::types::{USER_PARTITIONS, UserPartition};

/// Which node has the orders of a user partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// This one.
    Here,
    /// Another one.
    Peer(Peer),
    /// No node that runs: another one is about to take it over.
    Nowhere,
}

/// Another node that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub node_id: NodeId,
    /// Where other nodes reach it.
    pub address: SocketAddr,
}

/// The owner of each user partition and the nodes that run, as last heard from Postgres. Clones share
/// it: the thread `node` writes, everybody reads.
#[derive(Debug, Clone)]
pub struct PartitionMap(Arc<RwLock<Nodes>>);

#[derive(Debug)]
struct Nodes {
    routes: [Route; USER_PARTITIONS],
    peers: Vec<Peer>,
}

impl PartitionMap {
    /// The map of a node without others: it has all users.
    pub fn alone() -> Self {
        Self::filled_with(Route::Here)
    }

    /// The map of a node that has to hear about the others first.
    pub fn unknown() -> Self {
        Self::filled_with(Route::Nowhere)
    }

    fn filled_with(route: Route) -> Self {
        let nodes = Nodes { routes: [route; USER_PARTITIONS], peers: Vec::new() };
        Self(Arc::new(RwLock::new(nodes)))
    }

    /// The node that has this partition.
    pub fn route(&self, partition: UserPartition) -> Route {
        self.read(|nodes| nodes.routes.get(partition.index()).copied()).unwrap_or(Route::Nowhere)
    }

    /// Another node that runs, by its number.
    pub fn peer(&self, node_id: NodeId) -> Option<Peer> {
        self.read(|nodes| nodes.peers.iter().find(|peer| peer.node_id == node_id).copied())
    }

    /// All other nodes that run.
    pub fn peers(&self) -> Vec<Peer> {
        self.read(|nodes| nodes.peers.clone())
    }

    /// Replaces everything.
    pub(super) fn set(&self, routes: [Route; USER_PARTITIONS], peers: Vec<Peer>) {
        // A writer that panicked has left it whole: both fields are replaced together.
        let mut nodes = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *nodes = Nodes { routes, peers };
    }

    /// Changes the owner of one partition.
    pub(super) fn set_route(&self, partition: UserPartition, route: Route) {
        let mut nodes = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(place) = nodes.routes.get_mut(partition.index()) {
            *place = route;
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Nodes) -> T) -> T {
        read(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

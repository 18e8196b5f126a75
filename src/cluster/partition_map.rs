use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::NodeId;
use crate::types::{MonotonicMicros, USER_PARTITIONS, UserPartition};

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
    /// Tells its process from the earlier ones with its number.
    pub epoch: i64,
    /// Where other nodes reach it.
    pub address: SocketAddr,
}

/// The nodes that have all users between them. Two of the same map are equal if no user has moved in
/// between and no node has come or gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Members {
    /// All but this one.
    pub peers: Vec<Peer>,
    changes: u64,
}

/// The owner of each user partition and the nodes that run, as last heard from Postgres. Clones share
/// it: the thread `node` writes, everybody reads.
#[derive(Debug, Clone)]
pub struct PartitionMap(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    nodes: RwLock<Nodes>,
    /// Until when this node may serve, by the monotonic clock in microseconds.
    serves_until: AtomicU64,
    /// How often it could not, for a while, and how much of that the log tells the end of.
    lapses: AtomicU64,
    told_lapses: AtomicU64,
    /// The epoch of this process; 0 before it has joined.
    epoch: AtomicI64,
}

#[derive(Debug)]
struct Nodes {
    routes: [Route; USER_PARTITIONS],
    peers: Vec<Peer>,
    changes: u64,
}

impl PartitionMap {
    /// The map of a node without others: it has all users.
    pub fn alone() -> Self {
        Self::filled_with(Route::Here, u64::MAX)
    }

    /// The map of a node that has to hear about the others first.
    pub fn unknown() -> Self {
        Self::filled_with(Route::Nowhere, 0)
    }

    fn filled_with(route: Route, serves_until: u64) -> Self {
        let nodes = Nodes { routes: [route; USER_PARTITIONS], peers: Vec::new(), changes: 0 };
        let serves_until = AtomicU64::new(serves_until);
        let [lapses, told_lapses] = [0, 0].map(AtomicU64::new);
        let (nodes, epoch) = (RwLock::new(nodes), AtomicI64::new(0));
        Self(Arc::new(Shared { nodes, serves_until, lapses, told_lapses, epoch }))
    }

    /// The epoch of this process; 0 before it has joined.
    pub fn epoch(&self) -> i64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// This process has joined.
    pub(crate) fn joined(&self, epoch: i64) {
        self.0.epoch.store(epoch, Ordering::Release);
    }

    /// The node that has this partition. It is not this one if the lease may be over: a process that
    /// was frozen shows nobody what another node has changed since.
    pub fn route(&self, partition: UserPartition) -> Route {
        self.route_at(partition, MonotonicMicros::now)
    }

    /// The same at another time.
    pub(crate) fn route_at(
        &self,
        partition: UserPartition,
        now: impl FnOnce() -> MonotonicMicros,
    ) -> Route {
        let route = self.read(|nodes| nodes.routes.get(partition.index()).copied());
        match route.unwrap_or(Route::Nowhere) {
            Route::Here if !self.may_serve(now) => Route::Nowhere,
            route => route,
        }
    }

    fn may_serve(&self, now: impl FnOnce() -> MonotonicMicros) -> bool {
        let until = self.0.serves_until.load(Ordering::Acquire);
        until == u64::MAX || now() < MonotonicMicros::new(until)
    }

    /// Whether the lease has run out since it was last renewed, or was never renewed.
    pub fn has_lapsed(&self) -> bool {
        self.has_lapsed_at(MonotonicMicros::now)
    }

    /// The same at another time.
    pub(crate) fn has_lapsed_at(&self, now: impl FnOnce() -> MonotonicMicros) -> bool {
        !self.may_serve(now)
    }

    /// How often the lease has lapsed.
    pub(crate) fn lapses(&self) -> u64 {
        self.0.lapses.load(Ordering::Acquire)
    }

    /// The lease has lapsed, and was renewed since.
    pub(crate) fn note_lapse(&self) {
        self.0.lapses.fetch_add(1, Ordering::AcqRel);
    }

    /// The partitions that this node serves while its lease runs.
    pub fn served(&self) -> Vec<UserPartition> {
        self.read(|nodes| {
            let is_here =
                |number: &UserPartition| nodes.routes.get(number.index()) == Some(&Route::Here);
            UserPartition::all().filter(is_here).collect()
        })
    }

    /// The lease was renewed: this node may serve until then.
    pub(crate) fn serve_until(&self, until: MonotonicMicros) {
        let is_first = self.0.serves_until.swap(until.micros(), Ordering::AcqRel) == 0;
        let lapses = self.lapses();
        let is_news = self.0.told_lapses.swap(lapses, Ordering::Relaxed) != lapses;
        if is_news && !is_first {
            tracing::info!("this node has its lease in Postgres again, and serves its users");
        }
    }

    /// Another node that runs, by its number.
    pub fn peer(&self, node_id: NodeId) -> Option<Peer> {
        self.read(|nodes| nodes.peers.iter().find(|peer| peer.node_id == node_id).copied())
    }

    /// All other nodes that run.
    pub fn peers(&self) -> Vec<Peer> {
        self.read(|nodes| nodes.peers.clone())
    }

    /// The nodes that have all users between them, and which has whom; `None` while some users have none.
    pub fn members(&self) -> Option<Members> {
        if self.has_lapsed() {
            return None;
        }
        self.read(|nodes| {
            let is_whole = !nodes.routes.contains(&Route::Nowhere);
            is_whole.then(|| Members { peers: nodes.peers.clone(), changes: nodes.changes })
        })
    }

    /// How often an owner has changed.
    pub fn changes(&self) -> u64 {
        self.read(|nodes| nodes.changes)
    }

    /// Replaces everything.
    pub(crate) fn set(&self, routes: [Route; USER_PARTITIONS], peers: Vec<Peer>) {
        // A writer that panicked has left it whole: both fields are replaced together.
        let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let changes = nodes.changes + u64::from(nodes.routes != routes);
        *nodes = Nodes { routes, peers, changes };
    }

    /// Takes over what is heard of other nodes. What this node has on the move itself stays as it is: all
    /// without a route here, and what it serves.
    pub(crate) fn learn(&self, routes: &[Option<Route>; USER_PARTITIONS], peers: Vec<Peer>) {
        let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let mut learned = nodes.routes;
        for (known, heard) in learned.iter_mut().zip(routes) {
            if let (Some(heard), Route::Peer(_) | Route::Nowhere) = (heard, &known) {
                *known = *heard;
            }
        }
        let changes = nodes.changes + u64::from(nodes.routes != learned);
        *nodes = Nodes { routes: learned, peers, changes };
    }

    /// Changes the owner of one partition.
    pub(crate) fn set_route(&self, partition: UserPartition, route: Route) {
        let mut nodes = self.0.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = nodes.routes.get_mut(partition.index()) {
            *place = route;
        }
        nodes.changes += 1;
    }

    fn read<T>(&self, read: impl FnOnce(&Nodes) -> T) -> T {
        read(&self.0.nodes.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_of_others_leaves_alone_what_this_node_has() {
        let [here, moving, theirs, free] =
            [0, 1, 2, 3].map(|number| UserPartition::new(number).unwrap());
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let peer = |port| Peer { node_id: 2, epoch: 20, address: address(port) };
        let map = PartitionMap::unknown();
        map.serve_until(MonotonicMicros::new(u64::MAX));
        map.set_route(here, Route::Here);
        map.set_route(free, Route::Peer(peer(7_001)));
        let mut heard = [Some(Route::Peer(peer(7_002))); USER_PARTITIONS];
        // What is heard may be older than what this node has done since.
        heard[here.index()] = Some(Route::Nowhere);
        heard[moving.index()] = None;
        heard[free.index()] = Some(Route::Nowhere);
        let before = map.changes();
        map.learn(&heard, vec![peer(7_002)]);
        assert_eq!(map.route(here), Route::Here);
        assert_eq!(map.route(moving), Route::Nowhere);
        assert_eq!(map.route(theirs), Route::Peer(peer(7_002)));
        assert_eq!(map.route(free), Route::Nowhere);
        assert_eq!(map.peers(), [peer(7_002)]);
        assert_eq!(map.changes(), before + 1);
        map.learn(&heard, vec![peer(7_002)]);
        assert_eq!(map.changes(), before + 1, "nothing new");
    }
}

//! The partitions of a member: takes those that nobody has, gives away those that are too many.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_postgres::{Client, Row};

use super::host::{HaltsHost, Membership, PartitionHost};
use super::metrics::NodeMetrics;
use super::partition_map::{PartitionMap, Route};
use super::plan::{ClusterView, MemberRow, Moves, OwnerRow};
use super::session::Session;
use super::{MOVING_LOOK_INTERVAL, NodeError, claim};
use crate::projection::{OwnershipChange, PostgresServer, ProjectionError, ReadOrders, in_time};
use crate::shutdown::Shutdown;
use crate::sync::Refused;
use crate::types::{USER_PARTITIONS, UserPartition};

/// How long a member has been connected before it takes partitions whose owner's lease is over: after
/// an outage of Postgres every lease is, until its owner has renewed it.
pub(crate) const CONNECTED_BEFORE_TAKING: Duration = Duration::from_secs(5);
/// Pause between two looks at whether the projection follows, or the orders thread has room.
const FOLLOW_POLL: Duration = Duration::from_millis(1);
/// Orders handed to the orders thread at a time.
const ADOPTED_AT_ONCE: usize = 256;
/// Partitions whose orders are read while those of another one are adopted.
const READ_AHEAD: usize = 1;
/// Partitions whose orders Postgres is asked for before the first of them have come.
const ASKED_AT_ONCE: usize = 2;

const HAND_OVER: &str = "\
    UPDATE projection SET handed_to = given.epoch \
    FROM unnest($2::smallint[], $3::bigint[]) AS given (number, epoch) \
    WHERE is_current AND projection.epoch = $1 AND user_partition = given.number";

const HAS_EXCHANGE: &str = "UPDATE nodes SET has_exchange = true WHERE epoch = $1";

/// The partitions of this process.
pub(super) struct Partitions<'a, H> {
    membership: &'a Membership<H>,
    server: PostgresServer,
    metrics: NodeMetrics,
    epoch: i64,
    /// What the orders thread serves.
    served: BTreeSet<UserPartition>,
    /// Hears of each partition that is served from now on.
    comes: mpsc::UnboundedSender<UserPartition>,
    shutdown: Shutdown,
    /// How often the lease had lapsed when it was last looked at, and since when it runs on.
    lapses: u64,
    runs_since: Instant,
    /// Whether the others know that this node has reached the exchange.
    has_told_of_exchange: bool,
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Another member has, or can have, everything that this one had: nothing keeps it any more.
    pub(super) is_free: bool,
    /// How many partitions its epoch owns.
    pub(super) owned: usize,
    /// Partitions are on their way from one member to another.
    pub(super) is_moving: bool,
}

impl<'a, H: PartitionHost + HaltsHost> Partitions<'a, H> {
    pub(super) fn new(
        membership: &'a Membership<H>,
        (server, epoch): (PostgresServer, i64),
        metrics: NodeMetrics,
        comes: mpsc::UnboundedSender<UserPartition>,
        shutdown: Shutdown,
    ) -> Self {
        membership.ownership.joined(epoch);
        membership.map.joined(epoch);
        let (served, lapses, runs_since) = (BTreeSet::new(), 0, Instant::now());
        Self {
            membership,
            server,
            metrics,
            epoch,
            served,
            comes,
            shutdown,
            lapses,
            runs_since,
            has_told_of_exchange: false,
        }
    }

    pub(super) fn server(&self) -> &PostgresServer {
        &self.server
    }

    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(super) fn map(&self) -> &PartitionMap {
        &self.membership.map
    }

    /// Whether it serves nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    /// Looks at what Postgres says, and makes the next moves. `None` if the lease has lapsed meanwhile.
    pub(super) async fn tick(&mut self, session: &Session) -> Result<Option<Standing>, NodeError> {
        let map = &self.membership.map;
        let lapses = map.lapses();
        if map.has_lapsed() || lapses != self.lapses {
            // Whatever kept it from being renewed may have kept others from it too.
            (self.lapses, self.runs_since) = (lapses, Instant::now());
        }
        self.tell_of_exchange(session).await?;
        let view = look(session, &self.server).await?;
        if map.lapses() != lapses {
            // What it says may be over.
            return Ok(None);
        }
        let us = self.epoch;
        let served = &self.served;
        let settles_since = session.since.max(self.runs_since);
        let is_settled = settles_since.elapsed() >= CONNECTED_BEFORE_TAKING;
        let mut moves = view
            .next_moves(us, served, is_settled, |partition| {
                self.membership.host.has_orders(partition)
            })
            .map_err(|lost| NodeError::Fenced { partition: lost.get() })?;
        let owned = view.owned_by(us).len();
        let routes = view.routes(us, |partition| served.contains(&partition));
        self.membership.map.set(routes, view.peers(us));
        if !self.membership.host.is_known() {
            // It would take orders that operators have halted.
            moves.take.clear();
        }
        if !moves.take.is_empty() || !moves.hand_over.is_empty() {
            let (map, server) = (map.clone(), self.server.clone());
            tokio::select! {
                moved = self.make(session, &view, &moves) => moved?,
                never = learn_meanwhile(session, &server, us, &map) => match never {},
            }
        }
        self.metrics.partitions.set(i64::try_from(self.served.len()).unwrap_or(i64::MAX));
        let is_free = !view.has_others(us) || (owned == 0 && self.served.is_empty());
        Ok(Some(Standing { is_free, owned, is_moving: view.is_moving() }))
    }

    /// Tells the others once that this node has reached the exchange.
    async fn tell_of_exchange(&mut self, session: &Session) -> Result<(), NodeError> {
        if !self.has_told_of_exchange && self.membership.host.has_exchange() {
            let client = &session.connection.client;
            let told = async { client.execute(HAS_EXCHANGE, &[&self.epoch]).await };
            let told = in_time(&self.server, told).await?;
            told.map_err(ProjectionError::of(&self.server, "note that a node is ready"))?;
            self.has_told_of_exchange = true;
        }
        Ok(())
    }

    async fn make(
        &mut self,
        session: &Session,
        view: &ClusterView,
        moves: &Moves,
    ) -> Result<(), NodeError> {
        if !moves.take.is_empty() {
            self.take(session, view, &moves.take).await?;
        }
        if !moves.hand_over.is_empty() {
            self.hand_over(&session.connection.client, view, &moves.hand_over).await?;
        }
        Ok(())
    }

    /// Takes partitions over, as far as nobody else has taken them meanwhile. The users of each are
    /// served as soon as its own orders are there.
    async fn take(
        &mut self,
        session: &Session,
        view: &ClusterView,
        partitions: &[UserPartition],
    ) -> Result<(), NodeError> {
        let began = Instant::now();
        let Membership { map, ownership, log, .. } = self.membership;
        let claimant =
            claim::Claimant { epoch: self.epoch, log_id: log.log_id(), position: log.committed() };
        let lapses = map.lapses();
        let (client, server) = (&session.connection.client, self.server.clone());
        let claimed = session.claims.claim(client, &server, claimant, partitions).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        // Nobody else writes them any more.
        ownership.take(&claimed);
        let change = ownership.change();
        let (reads, orders) = mpsc::channel(READ_AHEAD);
        let reading = read_open_orders(session, &server, &claimed, reads);
        let serving = async {
            // What comes from now on is written.
            self.followed(change).await?;
            self.serve(client, orders, lapses).await
        };
        // What has been read is served even where the next cannot be read.
        let (read, served) = tokio::join!(reading, serving);
        let count = served?;
        read?;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let from = view.owners_of(&claimed);
        tracing::info!(partitions = claimed.len(), orders = count, millis, from, "took over users");
        Ok(())
    }

    /// Adopts the orders of partitions as they come, and serves each partition after its last one.
    /// Returns how many orders came. The lease had lapsed so often before the claim.
    async fn serve(
        &mut self,
        client: &Client,
        mut read: mpsc::Receiver<PartitionOrders>,
        lapses: u64,
    ) -> Result<usize, NodeError> {
        let host = &self.membership.host;
        let mut serving = FuturesUnordered::new();
        let mut unchecked = Vec::new();
        let mut count = 0;
        let mut has_all = false;
        loop {
            tokio::select! {
                next = read.recv(), if !has_all => match next {
                    Some((partition, ReadOrders { orders, unreadable })) => {
                        count += orders.len();
                        self.note_unreadable(&unreadable);
                        in_parts(ADOPTED_AT_ONCE, orders, |some| host.adopt(some)).await?;
                        let served = offered(partition, |partition| host.serve(partition)).await?;
                        serving.push(async move { served.await.map(|()| partition) });
                    }
                    None => has_all = true,
                },
                Some(partition) = serving.next() => {
                    let partition = partition.map_err(|_gone| NodeError::Ending)?;
                    // Nothing may fail before all are noted: what is served is not adopted again.
                    self.note_served(partition);
                    if self.membership.map.lapses() == lapses {
                        self.open(partition);
                    } else {
                        unchecked.push(partition);
                    }
                }
                else => break,
            }
        }
        self.check_and_open(client, &unchecked).await?;
        Ok(count)
    }

    /// Says which orders are left out: their rows were changed by others, or written by a later version.
    /// The exchange's lines about them match nothing until then.
    fn note_unreadable(&self, unreadable: &[ProjectionError]) {
        for error in unreadable {
            self.metrics.unreadable_orders.inc();
            let error: &dyn std::error::Error = error;
            tracing::error!(
                error,
                "an open order is left out of a take-over; correct its row, then restart this node"
            );
        }
    }

    /// The orders thread serves a partition.
    fn note_served(&mut self, partition: UserPartition) {
        let is_new = self.served.insert(partition);
        assert!(is_new, "a partition is adopted once: {partition:?}");
        self.metrics.taken.inc();
        // Its receiver ends with the process.
        let _ending = self.comes.send(partition);
    }

    /// Requests about the users of a partition that is served may come.
    fn open(&self, partition: UserPartition) {
        self.membership.map.set_route(partition, Route::Here);
    }

    /// Opens partitions that were not among what was served when a lapsed lease was renewed, if they are
    /// this node's still.
    async fn check_and_open(
        &self,
        client: &Client,
        partitions: &[UserPartition],
    ) -> Result<(), NodeError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let owned = claim::owned(client, &self.server, self.epoch).await?;
        if let Some(lost) = claim::first_lost(partitions, &owned) {
            return Err(NodeError::Fenced { partition: lost.get() });
        }
        partitions.iter().for_each(|partition| self.open(*partition));
        Ok(())
    }

    /// Waits until the projection writes what this node owns since a change. It never does once the
    /// process is ending.
    async fn followed(&self, change: OwnershipChange) -> Result<(), NodeError> {
        while !self.membership.ownership.is_followed(change) {
            if self.shutdown.is_requested() {
                return Err(NodeError::Ending);
            }
            sleep(FOLLOW_POLL).await;
        }
        Ok(())
    }

    /// Gives partitions away: stops serving them, and lets their new owners have them.
    async fn hand_over(
        &mut self,
        client: &Client,
        view: &ClusterView,
        given: &[(UserPartition, i64)],
    ) -> Result<(), NodeError> {
        let began = Instant::now();
        let Membership { map, ownership, host, .. } = self.membership;
        let given: Vec<_> =
            given.iter().filter(|(partition, _)| self.served.contains(partition)).collect();
        let partitions: Vec<_> = given.iter().map(|(partition, _)| *partition).collect();
        for &partition in &partitions {
            map.set_route(partition, Route::Nowhere);
            self.served.remove(&partition);
        }
        let releasing = partitions.iter().map(|&partition| async move {
            let released = offered(partition, |partition| host.release(partition)).await?;
            released.await.map_err(|_gone| NodeError::Ending)
        });
        for released in join_all(releasing).await {
            released?;
        }
        ownership.give_away(&partitions);
        self.followed(ownership.change()).await?;
        let numbers: Vec<i16> = partitions.iter().map(|number| number.get().into()).collect();
        let epochs: Vec<i64> = given.iter().map(|(_, epoch)| *epoch).collect();
        let told = async { client.execute(HAND_OVER, &[&self.epoch, &numbers, &epochs]).await };
        let told = in_time(&self.server, told).await?;
        told.map_err(ProjectionError::of(&self.server, "hand over users"))?;
        self.metrics.handed_over.inc_by(partitions.len() as u64);
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let to = view.nodes_of(epochs);
        tracing::info!(partitions = partitions.len(), millis, to, "handed over users");
        Ok(())
    }
}

async fn look(session: &Session, server: &PostgresServer) -> Result<ClusterView, NodeError> {
    let client = &session.connection.client;
    let answers = async {
        tokio::join!(client.query(&session.members, &[]), client.query(&session.owners, &[]))
    };
    let (members, owners) = in_time(server, answers).await?;
    let refused = |error| ProjectionError::of(server, "list its nodes")(error);
    let members = members.map_err(refused)?.iter().map(member).collect();
    let mut view = ClusterView { members, owners: [None; USER_PARTITIONS] };
    for row in owners.map_err(refused)? {
        let index = usize::try_from(row.get::<_, i16>(0)).ok();
        if let Some(place) = index.and_then(|index| view.owners.get_mut(index)) {
            *place = Some(OwnerRow { epoch: row.get(1), handed_to: row.get(2) });
        }
    }
    Ok(view)
}

/// Learns where the users of other members are while this one is busy with moves of its own. Does not end.
async fn learn_meanwhile(
    session: &Session,
    server: &PostgresServer,
    us: i64,
    map: &PartitionMap,
) -> Infallible {
    loop {
        sleep(MOVING_LOOK_INTERVAL).await;
        // Whatever is wrong with the connection, the moves run into it too.
        if let Ok(view) = look(session, server).await {
            map.learn(&view.routes_of_others(us), view.peers(us));
        }
    }
}

/// A partition with its open orders.
type PartitionOrders = (UserPartition, ReadOrders);

/// Reads the open orders of one partition after the other.
async fn read_open_orders(
    session: &Session,
    server: &PostgresServer,
    partitions: &[UserPartition],
    to: mpsc::Sender<PartitionOrders>,
) -> Result<(), NodeError> {
    let client = &session.connection.client;
    let read = |&partition: &UserPartition| async move {
        session.open_orders.read(client, server, partition).await.map(|read| (partition, read))
    };
    // The next one is asked for before the last has come.
    let mut reads = stream::iter(partitions).map(read).buffered(ASKED_AT_ONCE);
    while let Some(read) = reads.next().await {
        let (partition, orders) = read?;
        if to.send((partition, orders)).await.is_err() {
            // Who serves them has failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

/// Offers everything, so many at a time.
pub(super) async fn in_parts<C>(
    at_once: usize,
    all: Vec<C>,
    offer: impl Fn(Vec<C>) -> Result<(), Refused<Vec<C>>>,
) -> Result<(), NodeError> {
    let mut all = all.into_iter();
    loop {
        let some: Vec<_> = all.by_ref().take(at_once).collect();
        if some.is_empty() {
            return Ok(());
        }
        offered(some, &offer).await?;
    }
}

fn member(row: &Row) -> MemberRow {
    MemberRow {
        node_id: row.get(0),
        epoch: row.get(1),
        address: row.get::<_, Option<&str>>(2).and_then(|address| address.parse().ok()),
        is_alive: row.get(3),
        is_draining: row.get(4),
        has_exchange: row.get(5),
        has_waited: row.get(6),
    }
}

/// Offers a command until it is taken.
async fn offered<C, T>(
    mut command: C,
    offer: impl Fn(C) -> Result<T, Refused<C>>,
) -> Result<T, NodeError> {
    loop {
        match offer(command) {
            Ok(taken) => return Ok(taken),
            Err(Refused::Full(back)) => command = back,
            Err(Refused::Closed(_)) => return Err(NodeError::Ending),
        }
        sleep(FOLLOW_POLL).await;
    }
}

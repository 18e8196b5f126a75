//! The partitions of a member: takes those that nobody has, gives away those that are too many.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_postgres::{Client, Row};

use super::host::{HaltsHost, Membership, PartitionHost};
use super::metrics::NodeMetrics;
use super::partition_map::Route;
use super::plan::{ClusterView, MemberRow, OwnerRow};
use super::{NodeError, claim};
use crate::projection::{
    Ownership, OwnershipChange, PostgresServer, ProjectionError, ended_orders, in_time, open_orders,
};
use crate::sync::Refused;
use crate::types::{USER_PARTITIONS, UserPartition};

/// How long a member has been connected before it takes partitions whose owner's lease is over: after
/// an outage of Postgres every lease is, until its owner has renewed it.
pub(crate) const CONNECTED_BEFORE_TAKING: Duration = Duration::from_secs(5);
/// Pause between two looks at whether the projection follows, or the orders thread has room.
const FOLLOW_POLL: Duration = Duration::from_millis(1);
/// Partitions taken at a time: the users of the first ones do not wait for the orders of the others.
pub(crate) const TAKEN_AT_ONCE: usize = 6;
/// Orders handed to the orders thread at a time.
const ADOPTED_AT_ONCE: usize = 256;

const MEMBERS: &str = "\
    SELECT node_id, epoch, peer_address, lease_until > clock_timestamp(), is_draining \
    FROM nodes WHERE is_member ORDER BY node_id";

const OWNERS: &str = "SELECT user_partition, epoch, handed_to FROM projection WHERE is_current";

const HAND_OVER: &str = "\
    UPDATE projection SET handed_to = given.epoch \
    FROM unnest($2::smallint[], $3::bigint[]) AS given (number, epoch) \
    WHERE is_current AND projection.epoch = $1 AND user_partition = given.number";

/// The partitions of this process.
pub(super) struct Partitions<H> {
    membership: Membership<H>,
    server: PostgresServer,
    metrics: NodeMetrics,
    epoch: i64,
    /// What the orders thread serves.
    served: BTreeSet<UserPartition>,
    /// Of these it has still to be told which orders ended lately.
    untold: Vec<UserPartition>,
}

impl<H: PartitionHost + HaltsHost> Partitions<H> {
    pub(super) fn new(
        membership: Membership<H>,
        server: PostgresServer,
        epoch: i64,
        metrics: NodeMetrics,
    ) -> Self {
        membership.ownership.joined(epoch);
        let (served, untold) = (BTreeSet::new(), Vec::new());
        Self { membership, server, metrics, epoch, served, untold }
    }

    pub(super) fn server(&self) -> &PostgresServer {
        &self.server
    }

    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether it serves nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    /// Looks at what Postgres says, and makes the next moves. Returns whether another member has, or
    /// can have, everything that this one had: nothing keeps it any more.
    pub(super) async fn tick(
        &mut self,
        client: &Client,
        connected: Instant,
    ) -> Result<bool, NodeError> {
        let lapses = self.membership.map.lapses();
        let view = self.look(client).await?;
        if self.membership.map.lapses() != lapses {
            // What it says may be over.
            return Ok(false);
        }
        let us = self.epoch;
        let served = &self.served;
        let is_settled = connected.elapsed() >= CONNECTED_BEFORE_TAKING;
        let mut moves = view
            .next_moves(us, served, is_settled)
            .map_err(|lost| NodeError::Fenced { partition: lost.get() })?;
        let owns_any = !view.owned_by(us).is_empty();
        let routes = view.routes(us, |partition| served.contains(&partition));
        self.membership.map.set(routes, view.peers(us));
        if !self.membership.host.is_known() {
            // It would take orders that operators have halted.
            moves.take.clear();
        }
        for some in moves.take.chunks(TAKEN_AT_ONCE) {
            self.take(client, some).await?;
        }
        if !moves.hand_over.is_empty() {
            self.hand_over(client, &moves.hand_over).await?;
        }
        self.note_ended(client).await?;
        self.metrics.partitions.set(i64::try_from(self.served.len()).unwrap_or(i64::MAX));
        Ok(!view.has_others(us) || (!owns_any && self.served.is_empty()))
    }

    async fn look(&self, client: &Client) -> Result<ClusterView, NodeError> {
        let answers = async { tokio::join!(client.query(MEMBERS, &[]), client.query(OWNERS, &[])) };
        let (members, owners) = in_time(&self.server, answers).await?;
        let refused = |error| ProjectionError::of(&self.server, "list its nodes")(error);
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

    /// Takes note of what ended lately in partitions that are served already: their users do not wait
    /// for it.
    async fn note_ended(&mut self, client: &Client) -> Result<(), NodeError> {
        if self.untold.is_empty() {
            return Ok(());
        }
        let Membership { host, ended_window, .. } = &self.membership;
        let mut ended = ended_orders(client, &self.server, &self.untold, *ended_window).await?;
        self.untold.clear();
        ended.sort_unstable_by_key(|ended| ended.at);
        let mut ended = ended.into_iter();
        loop {
            let some: Vec<_> = ended.by_ref().take(ADOPTED_AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            offered(some, |some| host.note_ended(some)).await?;
        }
    }

    /// Takes partitions over, as far as nobody else has taken them meanwhile.
    async fn take(
        &mut self,
        client: &Client,
        partitions: &[UserPartition],
    ) -> Result<(), NodeError> {
        let began = Instant::now();
        let Membership { map, ownership, log, host, .. } = &self.membership;
        let claimant =
            claim::Claimant { epoch: self.epoch, log_id: log.log_id(), position: log.committed() };
        let lapses = map.lapses();
        let claimed = claim::claim(client, &self.server, claimant, partitions).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        ownership.take(&claimed);
        followed(ownership, ownership.change()).await;
        // Nobody else writes them any more, and what comes from now on is written.
        let orders = open_orders(client, &self.server, &claimed).await?;
        let count = orders.len();
        let mut orders = orders.into_iter();
        loop {
            let some: Vec<_> = orders.by_ref().take(ADOPTED_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            offered(some, |some| host.adopt(some)).await?;
        }
        let serving = claimed.iter().map(|&partition| async move {
            let served = offered(partition, |partition| host.serve(partition)).await?;
            served.await.map(|()| partition).map_err(|_gone| NodeError::Ending)
        });
        for partition in join_all(serving).await {
            // From now on its orders must not be adopted again, whatever fails below.
            let partition = partition?;
            self.served.insert(partition);
            self.untold.push(partition);
        }
        if map.lapses() != lapses {
            // They were not among what was served when the lease was renewed.
            let owned = claim::owned(client, &self.server, self.epoch).await?;
            if let Some(lost) = claim::first_lost(&claimed, &owned) {
                return Err(NodeError::Fenced { partition: lost.get() });
            }
        }
        for &partition in &claimed {
            map.set_route(partition, Route::Here);
        }
        self.metrics.taken.inc_by(claimed.len() as u64);
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(partitions = claimed.len(), orders = count, millis, "took over users");
        Ok(())
    }

    /// Gives partitions away: stops serving them, and lets their new owners have them.
    async fn hand_over(
        &mut self,
        client: &Client,
        given: &[(UserPartition, i64)],
    ) -> Result<(), NodeError> {
        let began = Instant::now();
        let Membership { map, ownership, host, .. } = &self.membership;
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
        followed(ownership, ownership.change()).await;
        let numbers: Vec<i16> = partitions.iter().map(|number| number.get().into()).collect();
        let epochs: Vec<i64> = given.iter().map(|(_, epoch)| *epoch).collect();
        let told = client.execute(HAND_OVER, &[&self.epoch, &numbers, &epochs]).await;
        told.map_err(ProjectionError::of(&self.server, "hand over users"))?;
        self.metrics.handed_over.inc_by(partitions.len() as u64);
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(partitions = partitions.len(), millis, "handed over users");
        Ok(())
    }
}

/// Waits until the projection writes what this node owns since a change.
async fn followed(ownership: &Ownership, change: OwnershipChange) {
    while !ownership.is_followed(change) {
        sleep(FOLLOW_POLL).await;
    }
}

fn member(row: &Row) -> MemberRow {
    MemberRow {
        node_id: row.get(0),
        epoch: row.get(1),
        address: row.get::<_, Option<&str>>(2).and_then(|address| address.parse().ok()),
        is_alive: row.get(3),
        is_draining: row.get(4),
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

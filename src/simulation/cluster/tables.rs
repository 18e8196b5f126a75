//! The tables of Postgres that nodes share, as its statements read and change them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::NodeId;
use crate::cluster::feed_lease::{FEED_LEASE, HESITATION};
use crate::cluster::plan::{ClusterView, MemberRow, OwnerRow};
use crate::engine::EndedOrder;
use crate::order::{Status, TrackedOrder};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, USER_PARTITIONS, UserId, UserPartition,
};
use crate::wal::{LogId, Lsn};

/// A row of `nodes`. Times are by the clock of Postgres, in microseconds.
struct NodeRow {
    epoch: i64,
    lease_until: u64,
    is_draining: bool,
}

/// The current row of a partition in `projection`.
#[derive(Clone, Copy)]
struct Current {
    epoch: i64,
    handed_to: Option<i64>,
    log_id: LogId,
    lsn: Lsn,
}

/// The lease of the feed.
struct FeedLease {
    node_id: NodeId,
    epoch: u64,
    until: u64,
}

/// How a process takes or renews the lease of the feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FeedTaking {
    /// The epoch that it has had it with.
    pub(super) ours: u64,
    /// As the holder it lets others take it at once.
    pub(super) offers: bool,
    pub(super) may_take_over: bool,
    /// So long it must have been over.
    pub(super) hesitation: Duration,
}

/// What a look at the lease of the feed has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedLook {
    /// It is the asker's with this epoch.
    Ours(u64),
    /// It was, is over, and nobody else has taken it.
    Lapsed,
    /// Another has it, or this process may not take it.
    Others,
}

/// A batch of a projection: the rows of one transaction.
pub(super) struct Transaction {
    pub(super) epoch: i64,
    /// The partitions whose positions advance, and from where.
    pub(super) touched: (Vec<i16>, Vec<i64>),
    pub(super) reached: Lsn,
    pub(super) orders: Vec<TrackedOrder>,
}

/// Why a transaction is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another epoch owns one of its partitions.
    Superseded,
    /// A partition is elsewhere than its writer thinks.
    Elsewhere,
}

/// What Postgres has committed.
pub(super) struct Tables {
    nodes: BTreeMap<NodeId, NodeRow>,
    owners: [Option<Current>; USER_PARTITIONS],
    orders: BTreeMap<OrderId, TrackedOrder>,
    feed: Option<FeedLease>,
    last_epoch: i64,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            owners: [None; USER_PARTITIONS],
            orders: BTreeMap::new(),
            feed: None,
            last_epoch: 0,
        }
    }

    /// A process becomes this node.
    pub(super) fn join(&mut self, node_id: NodeId, now: u64, lease: Duration) -> i64 {
        self.last_epoch += 1;
        let lease_until = now + micros(lease);
        let row = NodeRow { epoch: self.last_epoch, lease_until, is_draining: false };
        self.nodes.insert(node_id, row);
        self.last_epoch
    }

    pub(super) fn renew(&mut self, id: (NodeId, i64), now: u64, lease: Duration) -> bool {
        let row = self.nodes.get_mut(&id.0).filter(|row| row.epoch == id.1);
        row.map(|row| row.lease_until = now + micros(lease)).is_some()
    }

    pub(super) fn drain(&mut self, epoch: i64) {
        for row in self.nodes.values_mut().filter(|row| row.epoch == epoch) {
            row.is_draining = true;
        }
    }

    pub(super) fn view(&self, now: u64) -> ClusterView {
        let member = |(node_id, row): (&NodeId, &NodeRow)| MemberRow {
            node_id: *node_id,
            epoch: row.epoch,
            address: Some(SocketAddr::from(([127, 0, 0, 1], node_id.unsigned_abs()))),
            is_alive: row.lease_until > now,
            is_draining: row.is_draining,
            has_exchange: true,
            has_waited: true,
        };
        let members = self.nodes.iter().map(member).collect();
        let owner = |row: Current| OwnerRow { epoch: row.epoch, handed_to: row.handed_to };
        ClusterView { members, owners: self.owners.map(|row| row.map(owner)) }
    }

    /// The partitions of an epoch, and their positions.
    pub(super) fn owned(&self, epoch: i64) -> Vec<(UserPartition, Lsn)> {
        let numbered = (0..).zip(&self.owners);
        let owned = numbered.filter_map(|(number, row)| {
            let row = row.filter(|row| row.epoch == epoch)?;
            Some((UserPartition::new(number)?, row.lsn))
        });
        owned.collect()
    }

    /// Claims those of these partitions that are free, while the claimant's own lease runs.
    pub(super) fn claim(
        &mut self,
        (epoch, log_id, position): (i64, LogId, Lsn),
        partitions: &[UserPartition],
        now: u64,
    ) -> Vec<UserPartition> {
        let runs =
            |epoch: i64| self.nodes.values().any(|row| row.epoch == epoch && row.lease_until > now);
        if !runs(epoch) {
            return Vec::new();
        }
        let is_free =
            |row: &Current| row.epoch == epoch || row.handed_to == Some(epoch) || !runs(row.epoch);
        let claimed: Vec<UserPartition> = partitions
            .iter()
            .copied()
            .filter(|partition| self.owners[partition.index()].as_ref().is_none_or(is_free))
            .collect();
        for partition in &claimed {
            let current = Current { epoch, handed_to: None, log_id, lsn: position };
            self.owners[partition.index()] = Some(current);
        }
        claimed
    }

    pub(super) fn hand_over(&mut self, epoch: i64, given: &[(UserPartition, i64)]) {
        for (partition, to) in given {
            if let Some(row) = &mut self.owners[partition.index()]
                && row.epoch == epoch
            {
                row.handed_to = Some(*to);
            }
        }
    }

    fn orders_of(&self, partitions: &[UserPartition]) -> impl Iterator<Item = &TrackedOrder> {
        let is_theirs =
            |tracked: &&TrackedOrder| partitions.contains(&tracked.order().order_id.partition());
        self.orders.values().filter(is_theirs)
    }

    /// The open orders of these partitions, and those that failed and may be at the exchange.
    pub(super) fn adopted(&self, partitions: &[UserPartition]) -> Vec<TrackedOrder> {
        let is_adopted = |tracked: &&TrackedOrder| {
            let order = tracked.order();
            order.is_open() || order.status == Status::Failed || !tracked.cases().is_empty()
        };
        self.orders_of(partitions).filter(is_adopted).cloned().collect()
    }

    /// The orders of these partitions that have ended.
    pub(super) fn ended(&self, partitions: &[UserPartition]) -> Vec<EndedOrder> {
        let orders = self.orders_of(partitions).map(TrackedOrder::order);
        let ended = orders.filter(|order| order.status.is_terminal()).map(|order| EndedOrder {
            at: order.updated_at,
            order_id: order.order_id,
            external_order_id: order.external_order_id.clone(),
        });
        let mut ended: Vec<EndedOrder> = ended.collect();
        ended.sort_unstable_by_key(|ended| ended.at);
        ended
    }

    /// Whether a transaction would be taken.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, transaction: &Transaction) -> Result<(), Refusal> {
        let (numbers, places) = &transaction.touched;
        let current = |number: &i16| self.owners[usize::from(number.unsigned_abs())];
        let is_there = |(number, place): (&i16, &i64)| {
            let row = current(number).filter(|row| row.epoch == transaction.epoch);
            row.is_some_and(|row| row.lsn.0.cast_signed() == *place)
        };
        if numbers.iter().zip(places).all(is_there) {
            return Ok(());
        }
        let is_anothers =
            |number| current(number).is_some_and(|row| row.epoch != transaction.epoch);
        Err(if numbers.iter().any(is_anothers) { Refusal::Superseded } else { Refusal::Elsewhere })
    }

    /// Commits a transaction that was checked.
    pub(super) fn commit(&mut self, transaction: Transaction) {
        for number in &transaction.touched.0 {
            if let Some(row) = &mut self.owners[usize::from(number.unsigned_abs())] {
                row.lsn = row.lsn.max(transaction.reached);
            }
        }
        for tracked in transaction.orders {
            let order_id = tracked.order().order_id;
            let known = self.orders.get(&order_id).map_or(0, |known| known.order().version);
            if tracked.order().version > known {
                self.orders.insert(order_id, tracked);
            }
        }
    }

    /// Takes or renews the lease of the feed.
    pub(super) fn take_feed(
        &mut self,
        (node_id, node_epoch): (NodeId, i64),
        FeedTaking { ours, offers, may_take_over, hesitation }: FeedTaking,
        now: u64,
    ) -> FeedLook {
        let row = self.nodes.get(&node_id);
        let runs = row.is_some_and(|row| row.epoch == node_epoch && row.lease_until > now);
        let is_draining = row.is_some_and(|row| row.is_draining);
        let hesitation = micros(if is_draining { HESITATION } else { hesitation });
        let is_ours = |held: &FeedLease| held.node_id == node_id && held.epoch == ours;
        let epoch = match &self.feed {
            None if runs => 1,
            Some(held) if runs && is_ours(held) => ours,
            Some(held) if runs && may_take_over && held.until + hesitation <= now => held.epoch + 1,
            Some(held) if is_ours(held) => return FeedLook::Lapsed,
            None | Some(_) => return FeedLook::Others,
        };
        let lease = if offers || is_draining { 0 } else { micros(FEED_LEASE) };
        self.feed = Some(FeedLease { node_id, epoch, until: now + lease });
        FeedLook::Ours(epoch)
    }

    /// The log that a partition's current owner writes.
    pub(super) fn log_of(&self, partition: UserPartition) -> Option<LogId> {
        self.owners[partition.index()].map(|row| row.log_id)
    }

    pub(super) fn order(&self, order_id: OrderId) -> Option<&TrackedOrder> {
        self.orders.get(&order_id)
    }

    /// All orders, oldest first.
    pub(super) fn orders(&self) -> impl Iterator<Item = &TrackedOrder> {
        self.orders.values()
    }

    pub(super) fn by_key(&self, user: &UserId, key: &ClientOrderId) -> Option<&TrackedOrder> {
        let mut theirs = self.orders.values().filter(|tracked| tracked.order().user == *user);
        theirs.find(|tracked| tracked.order().client_order_id.as_ref() == Some(key))
    }

    pub(super) fn by_external_id(&self, id: &ExternalOrderId) -> Option<&TrackedOrder> {
        let mut orders = self.orders.values();
        orders.find(|tracked| tracked.order().external_order_id.as_ref() == Some(id))
    }
}

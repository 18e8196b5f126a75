//! The user partitions that the orders thread serves, and those that come from other nodes or go to
//! them.

use std::collections::VecDeque;

use crate::engine::EndedOrder;
use crate::order::TrackedOrder;
use crate::projection::SharedId;
use crate::types::{MonotonicMicros, UserId, UserPartition};
use crate::wal::Lsn;

/// Commands about partitions that may wait: each has a few hundred orders.
pub(super) const PARTITION_QUEUE_CAPACITY: usize = 64;

/// A command about partitions that move between nodes.
#[derive(Debug)]
pub enum PartitionCommand {
    /// Takes over orders of a partition that is not served yet.
    Adopt(Vec<TrackedOrder>),
    /// All open orders of a partition have come: serves its users. Answered when readers see them.
    Serve(UserPartition, oneshot::Sender<()>),
    /// Orders of partitions that are served now, which ended lately.
    Ended(Vec<EndedOrder>),
    /// Exchange ids that several orders share, of which other nodes may have some.
    Shared(Vec<SharedId>),
    /// Stops serving a partition's users. Answered when nothing of the partition can happen here any
    /// more and Postgres has all that did.
    Release(UserPartition, oneshot::Sender<()>),
}

/// The partitions that are served, come and go.
#[derive(Debug)]
pub(super) struct Partitions {
    /// A bit for each that is served.
    served: u64,
    /// Those that have come, each with the last event that readers must see first.
    coming: VecDeque<(Lsn, UserPartition, oneshot::Sender<()>)>,
    stopping: Vec<Stopping>,
    /// Those that are gone once Postgres has this event, and their users.
    going: VecDeque<Going>,
}

/// A partition that takes no requests any more and waits for answers to the earlier ones.
#[derive(Debug)]
struct Stopping {
    partition: UserPartition,
    give_up: MonotonicMicros,
    reply: oneshot::Sender<()>,
}

/// A partition whose orders have left the engines.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) last: Lsn,
    pub(super) users: Vec<UserId>,
    pub(super) reply: oneshot::Sender<()>,
}

fn bit(partition: UserPartition) -> u64 {
    1 << partition.get()
}

impl Partitions {
    /// Of a node that has all users.
    pub(super) fn all() -> Self {
        Self { served: u64::MAX, ..Self::none() }
    }

    /// Of a node that has to be given its users.
    pub(super) fn none() -> Self {
        Self { served: 0, coming: VecDeque::new(), stopping: Vec::new(), going: VecDeque::new() }
    }

    /// Whether requests of its users are taken.
    pub(super) fn serves(&self, partition: UserPartition) -> bool {
        self.served & bit(partition) != 0
    }

    /// Whether its orders are in the engines.
    pub(super) fn has(&self, partition: UserPartition) -> bool {
        let is_stopping = |stopping: &Stopping| stopping.partition == partition;
        let is_coming = |(_, coming, _): &(Lsn, UserPartition, _)| *coming == partition;
        self.serves(partition)
            || self.stopping.iter().any(is_stopping)
            || self.coming.iter().any(is_coming)
    }

    /// A partition has come, and is served once readers see everything up to `last`.
    pub(super) fn comes(
        &mut self,
        partition: UserPartition,
        last: Lsn,
        reply: oneshot::Sender<()>,
    ) {
        assert!(!self.has(partition), "a partition comes to a node that does not have it");
        assert!(
            self.coming.back().is_none_or(|(before, ..)| *before <= last),
            "partitions come in the order of the log"
        );
        self.coming.push_back((last, partition, reply));
    }

    /// Stops taking requests of a partition's users; its answers may take until `give_up`.
    pub(super) fn stop(
        &mut self,
        partition: UserPartition,
        give_up: MonotonicMicros,
        reply: oneshot::Sender<()>,
    ) {
        assert!(
            self.stopping.iter().all(|stopping| stopping.partition != partition),
            "a partition stops once"
        );
        self.served &= !bit(partition);
        // It may go before readers saw it come.
        self.coming.retain(|(_, coming, _)| *coming != partition);
        self.stopping.push(Stopping { partition, give_up, reply });
    }

    /// The partitions that have stopped: nothing is underway there, or it has taken too long.
    pub(super) fn take_stopped(
        &mut self,
        now: MonotonicMicros,
        is_underway: impl Fn(UserPartition) -> bool,
    ) -> Vec<(UserPartition, oneshot::Sender<()>)> {
        let has_stopped =
            |stopping: &mut Stopping| now >= stopping.give_up || !is_underway(stopping.partition);
        let stopped = self.stopping.extract_if(.., has_stopped);
        stopped.map(|Stopping { partition, reply, .. }| (partition, reply)).collect()
    }

    /// A partition has left the engines, and is gone once Postgres has everything up to `last`.
    pub(super) fn goes(&mut self, going: Going) {
        assert!(
            self.going.back().is_none_or(|before| before.last <= going.last),
            "partitions go in the order of the log"
        );
        self.going.push_back(going);
    }

    /// Readers see everything up to here: serves what has come. Returns what is gone.
    pub(super) fn reach(&mut self, shown: Lsn) -> Vec<Going> {
        while let Some((_, partition, reply)) =
            self.coming.pop_front_if(|(last, ..)| *last <= shown)
        {
            assert!(!self.serves(partition), "a partition is served once readers see its orders");
            self.served |= bit(partition);
            // A node that is being stopped no longer waits.
            let _gone = reply.send(());
        }
        let mut gone = Vec::new();
        while let Some(going) = self.going.pop_front_if(|going| going.last <= shown) {
            gone.push(going);
        }
        gone
    }

    /// Whether a partition is on its way out of the engines.
    pub(super) fn is_stopping(&self) -> bool {
        !self.stopping.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u8) -> UserPartition {
        UserPartition::new(number).unwrap()
    }

    #[test]
    fn a_partition_is_served_once_readers_see_its_orders() {
        let mut partitions = Partitions::none();
        let (reply, moved) = oneshot::channel();
        partitions.comes(partition(63), Lsn(9), reply);
        assert!(partitions.reach(Lsn(8)).is_empty());
        assert!(!partitions.serves(partition(63)) && partitions.has(partition(63)));
        partitions.reach(Lsn(9));
        assert!(partitions.serves(partition(63)) && !partitions.serves(partition(62)));
        assert_eq!(moved.try_recv(), Ok(()));
    }

    #[test]
    fn a_partition_that_goes_before_it_has_come_is_not_served() {
        let mut partitions = Partitions::none();
        let ((came, coming), (went, _going)) = (oneshot::channel(), oneshot::channel());
        partitions.comes(partition(7), Lsn(9), came);
        partitions.stop(partition(7), MonotonicMicros::new(10), went);
        partitions.reach(Lsn(9));
        assert!(!partitions.serves(partition(7)) && coming.try_recv().is_err());
    }

    #[test]
    fn a_partition_goes_once_nothing_is_underway_and_postgres_has_it_all() {
        let mut partitions = Partitions::all();
        let (reply, moved) = oneshot::channel();
        let (early, late) = (MonotonicMicros::new(5), MonotonicMicros::new(10));
        partitions.stop(partition(7), late, reply);
        assert!(!partitions.serves(partition(7)) && partitions.has(partition(7)));
        assert!(partitions.take_stopped(early, |_| true).is_empty(), "a client waits");
        let (stopped, reply) = partitions.take_stopped(late, |_| true).pop().unwrap();
        assert!(stopped == partition(7) && !partitions.has(partition(7)));
        partitions.goes(Going { last: Lsn(4), users: Vec::new(), reply });
        assert!(partitions.reach(Lsn(3)).is_empty());
        let gone = partitions.reach(Lsn(4)).pop().unwrap();
        assert!(moved.try_recv().is_err());
        gone.reply.send(()).unwrap();
        assert_eq!(moved.try_recv(), Ok(()));
    }
}

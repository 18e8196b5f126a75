//! Which of several processes reads the exchange's feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::SeqLock;
use crate::types::MonotonicMicros;

/// Whether this process reads the exchange's feed, or follows the one that does. Clones share it: the
/// thread that keeps the lease writes, everybody reads.
///
/// A leader whose lease is not renewed stops to be one by itself: each look compares the clock. While
/// nobody can tell whose the lease is, a leader goes on that still publishes: whoever took the lease
/// would have closed its connection first.
#[derive(Debug, Clone)]
pub struct FeedRole(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The epoch of the lease, and until when it holds, by the monotonic clock.
    lease: SeqLock<2>,
    /// The epoch in which this process publishes, and until when that keeps it leading.
    publishing: SeqLock<2>,
    /// The epoch that the feed thread reads the feed in: what the one before has left is taken over.
    begun: AtomicU64,
}

/// No lease has this epoch: the process has no others beside it.
const ALONE: u64 = 0;
/// The feed thread has begun no epoch, or the publisher publishes in none.
const NONE: u64 = u64::MAX;
/// The end of the lease of a process that does not lead.
const STEPPED_DOWN: u64 = 0;

impl FeedRole {
    /// The role of a process without others: it always leads.
    pub fn alone() -> Self {
        Self::new(u64::MAX, ALONE)
    }

    /// The role of one of several: it follows until it has the lease.
    pub fn follower() -> Self {
        Self::new(STEPPED_DOWN, NONE)
    }

    fn new(until: u64, begun: u64) -> Self {
        let lease = SeqLock::new([ALONE, until]);
        let publishing = SeqLock::new([NONE, 0]);
        Self(Arc::new(Shared { lease, publishing, begun: AtomicU64::new(begun) }))
    }

    /// The epoch of the lease, while this process leads; 0 for a process without others.
    pub fn leading_epoch(&self) -> Option<u64> {
        self.leading_epoch_at(MonotonicMicros::now())
    }

    pub(crate) fn leading_epoch_at(&self, now: MonotonicMicros) -> Option<u64> {
        let [epoch, until] = self.0.lease.read();
        if now.micros() < until {
            return Some(epoch);
        }
        let has_stepped_down = until == STEPPED_DOWN;
        let [published_in, until] = self.0.publishing.read();
        let publishes = published_in == epoch && now.micros() < until;
        (publishes && !has_stepped_down).then_some(epoch)
    }

    /// Whether this process leads with this epoch.
    pub fn leads_in(&self, epoch: u64) -> bool {
        self.leading_epoch() == Some(epoch)
    }

    /// Called by the lease's thread: this process leads until then.
    pub fn lead(&self, epoch: u64, until: MonotonicMicros) {
        self.0.lease.write(&[epoch, until.micros()]);
    }

    /// Called by the lease's thread: this process does not lead any more.
    pub fn step_down(&self) {
        let [epoch, _] = self.0.lease.read();
        self.0.lease.write(&[epoch, STEPPED_DOWN]);
    }

    /// Called by the publisher: the others have what this process published in this epoch, which keeps
    /// it leading until then unless it steps down.
    pub fn publishes(&self, epoch: u64, until: MonotonicMicros) {
        self.0.publishing.write(&[epoch, until.micros()]);
    }

    /// Called by the publisher: it may be that another process publishes.
    pub fn publishes_no_more(&self) {
        self.0.publishing.write(&[NONE, 0]);
    }

    /// Called by the feed thread: it reads the feed in this epoch, and the market has all that was known
    /// before.
    pub(super) fn begin(&self, epoch: u64) {
        self.0.begun.store(epoch, Ordering::Release);
    }

    /// The epoch in which this process leads, once it has begun to read the feed in it.
    pub fn begun_epoch(&self) -> Option<u64> {
        self.leading_epoch().filter(|epoch| self.0.begun.load(Ordering::Acquire) == *epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_stops_by_the_clock() {
        let (role, at) = (FeedRole::follower(), MonotonicMicros::new);
        assert_eq!(role.leading_epoch_at(at(0)), None);
        role.lead(7, at(1_000));
        assert_eq!(
            (role.leading_epoch_at(at(999)), role.leading_epoch_at(at(1_000))),
            (Some(7), None)
        );
        role.lead(7, at(2_000));
        role.step_down();
        assert_eq!(role.leading_epoch_at(at(1_500)), None);
        let alone = FeedRole::alone();
        assert_eq!((alone.leading_epoch(), alone.begun_epoch()), (Some(ALONE), Some(ALONE)));
    }

    #[test]
    fn a_leader_goes_on_without_its_lease_while_it_publishes_and_has_not_stepped_down() {
        let (role, at) = (FeedRole::follower(), MonotonicMicros::new);
        role.publishes(7, at(9_000));
        assert_eq!(role.leading_epoch_at(at(0)), None, "it has never had the lease");
        role.lead(7, at(1_000));
        assert_eq!(role.leading_epoch_at(at(8_999)), Some(7));
        assert_eq!(role.leading_epoch_at(at(9_000)), None);
        role.publishes(6, at(9_000));
        assert_eq!(role.leading_epoch_at(at(8_999)), None, "of an earlier epoch");
        role.publishes(7, at(9_000));
        role.publishes_no_more();
        assert_eq!(role.leading_epoch_at(at(1_001)), None);
        role.publishes(7, at(9_000));
        role.step_down();
        assert_eq!(role.leading_epoch_at(at(500)), None);
    }

    #[test]
    fn a_leader_begins_when_its_feed_thread_says_so() {
        let role = FeedRole::follower();
        role.lead(7, MonotonicMicros::new(u64::MAX));
        assert_eq!(role.begun_epoch(), None);
        role.begin(7);
        assert_eq!(role.begun_epoch(), Some(7));
        role.lead(8, MonotonicMicros::new(u64::MAX));
        assert_eq!(role.begun_epoch(), None);
    }
}

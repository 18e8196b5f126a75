//! Which of several processes reads the exchange's feed.

use std::sync::Arc;

use crate::sync::SeqLock;
use crate::types::MonotonicMicros;

/// Whether this process reads the exchange's feed, or follows the one that does. Clones share it: the
/// thread that keeps the lease writes, everybody reads.
///
/// A leader whose lease is not renewed stops to be one by itself: each look compares the clock.
#[derive(Debug, Clone)]
pub struct FeedRole(Arc<SeqLock<2>>);

/// No lease has this epoch: the process has no others beside it.
const ALONE: u64 = 0;

impl FeedRole {
    /// The role of a process without others: it always leads.
    pub fn alone() -> Self {
        Self(Arc::new(SeqLock::new([ALONE, u64::MAX])))
    }

    /// The role of one of several: it follows until it has the lease.
    pub fn follower() -> Self {
        Self(Arc::new(SeqLock::new([ALONE, 0])))
    }

    /// The epoch of the lease, while this process leads; 0 for a process without others.
    pub fn leading_epoch(&self) -> Option<u64> {
        self.leading_epoch_at(MonotonicMicros::now())
    }

    fn leading_epoch_at(&self, now: MonotonicMicros) -> Option<u64> {
        let [epoch, until] = self.0.read();
        (now.micros() < until).then_some(epoch)
    }

    /// Whether this process leads with this epoch.
    pub fn leads_in(&self, epoch: u64) -> bool {
        self.leading_epoch() == Some(epoch)
    }

    /// Called by the lease's thread: this process leads until then.
    pub fn lead(&self, epoch: u64, until: MonotonicMicros) {
        self.0.write(&[epoch, until.micros()]);
    }

    /// Called by the lease's thread: this process does not lead any more.
    pub fn step_down(&self) {
        let [epoch, _] = self.0.read();
        self.0.write(&[epoch, 0]);
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
        assert_eq!(FeedRole::alone().leading_epoch(), Some(ALONE));
    }
}

//! Which of several processes reads the exchange's feed.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
    /// Since when this process has heard Redis without a break as a follower, and until when that counts.
    heard_since: AtomicU64,
    heard_until: AtomicU64,
    /// Since when Redis has taken nothing that this process had to publish; [`TAKES`] if it does.
    fails_since: AtomicU64,
    /// The node that has the lease, as last heard; [`NOBODY`] if none has.
    holder: AtomicI32,
    /// Operators have this node leave the feed, and its users, to others.
    drains: AtomicBool,
    /// Names the nodes that share this lease, once Postgres has told.
    deployment: OnceLock<String>,
}

/// How long a follower must have heard Redis to be known to reach it: a holder whose own connection comes
/// back at the same time has published by then, and keeps the feed.
const SURE_AFTER: Duration = Duration::from_secs(3);
/// Redis takes what this process publishes.
const TAKES: u64 = u64::MAX;

/// No node has the lease: below all numbers of nodes.
const NOBODY: i32 = i32::MIN;

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
        Self(Arc::new(Shared {
            lease,
            publishing,
            begun: AtomicU64::new(begun),
            heard_since: AtomicU64::new(0),
            heard_until: AtomicU64::new(0),
            fails_since: AtomicU64::new(TAKES),
            holder: AtomicI32::new(NOBODY),
            drains: AtomicBool::new(false),
            deployment: OnceLock::new(),
        }))
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

    /// Called by the lease's thread: this node has the lease, as far as it knows.
    pub fn note_holder(&self, node: Option<i16>) {
        // Relaxed: it is shown to people only.
        self.0.holder.store(node.map_or(NOBODY, i32::from), Ordering::Relaxed);
    }

    /// Called by the lease's thread: whether operators have this node leave everything to others.
    pub fn note_draining(&self, drains: bool) {
        self.0.drains.store(drains, Ordering::Relaxed);
    }

    /// Whether operators have this node leave everything to others, as last heard.
    pub fn drains(&self) -> bool {
        self.0.drains.load(Ordering::Relaxed)
    }

    /// Called by the lease's thread: this names the nodes that share the lease. The first name counts.
    pub fn note_deployment(&self, deployment: String) {
        self.0.deployment.get_or_init(|| deployment);
    }

    /// Names the nodes that share the lease, if that is known.
    pub fn deployment(&self) -> Option<&str> {
        self.0.deployment.get().map(String::as_str)
    }

    /// The node that has the lease, as last heard.
    pub fn holder(&self) -> Option<i16> {
        i16::try_from(self.0.holder.load(Ordering::Relaxed)).ok()
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

    /// Called by the follower: Redis has answered, which counts until then.
    pub fn hears_redis(&self, now: MonotonicMicros, until: MonotonicMicros) {
        if self.0.heard_until.swap(until.micros(), Ordering::Relaxed) < now.micros() {
            self.0.heard_since.store(now.micros(), Ordering::Relaxed);
        }
    }

    /// Called by the follower: its connections to Redis are gone.
    pub fn hears_redis_no_more(&self) {
        self.0.heard_until.store(0, Ordering::Relaxed);
    }

    /// Whether this process, as a follower, surely reaches Redis.
    pub fn reaches_redis(&self, now: MonotonicMicros) -> bool {
        let since = MonotonicMicros::new(self.0.heard_since.load(Ordering::Relaxed));
        let counts = now.micros() < self.0.heard_until.load(Ordering::Relaxed);
        counts && now.saturating_since(since) >= SURE_AFTER
    }

    /// Called by the publisher: Redis did not take what was to be published.
    pub fn redis_fails(&self, now: MonotonicMicros) {
        let since = &self.0.fails_since;
        // Relaxed: nothing else is read by what it says.
        let _fails_already =
            since.compare_exchange(TAKES, now.micros(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Called by the publisher: Redis has taken all, or there is nothing to publish.
    pub fn redis_takes(&self) {
        self.0.fails_since.store(TAKES, Ordering::Relaxed);
    }

    /// How long Redis has taken nothing from this process that it had to publish.
    pub fn redis_fails_for(&self, now: MonotonicMicros) -> Duration {
        let since = self.0.fails_since.load(Ordering::Relaxed);
        now.saturating_since(MonotonicMicros::new(since))
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
    fn a_follower_reaches_redis_once_it_has_heard_it_without_a_break() {
        let (role, at) = (FeedRole::follower(), MonotonicMicros::new);
        assert!(!role.reaches_redis(at(1)));
        for seconds in 10..13 {
            role.hears_redis(at(seconds * 1_000_000), at((seconds + 2) * 1_000_000));
            assert!(!role.reaches_redis(at(seconds * 1_000_000)));
        }
        assert!(role.reaches_redis(at(13_000_000)));
        assert!(!role.reaches_redis(at(14_000_000)), "it has not answered since");
        role.hears_redis(at(15_000_000), at(17_000_000));
        assert!(!role.reaches_redis(at(15_000_000)));
        role.hears_redis(at(16_500_000), at(18_500_000));
        assert!(role.reaches_redis(at(18_000_000)));
        role.hears_redis_no_more();
        assert!(!role.reaches_redis(at(18_000_000)));
    }

    #[test]
    fn redis_fails_from_the_first_failure_on_until_it_takes_something() {
        let (role, at) = (FeedRole::follower(), MonotonicMicros::new);
        assert!(role.redis_fails_for(at(5_000_000)).is_zero());
        role.redis_fails(at(5_000_000));
        role.redis_fails(at(6_000_000));
        assert_eq!(role.redis_fails_for(at(7_000_000)), Duration::from_secs(2));
        role.redis_takes();
        assert!(role.redis_fails_for(at(8_000_000)).is_zero());
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

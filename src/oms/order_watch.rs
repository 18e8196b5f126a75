//! Tells shards whose orders have changed, for users with streams on the shard. The streams read
//! the changes themselves, each from its own cursor, so telling who is enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use smallvec::SmallVec;

use crate::market::ShardWatch;
use crate::stream::ChangedUsers;
use crate::sync::{Receiver, Sender, mailbox, store_load_fence};
use crate::types::UserId;

/// Changed users queued for a shard. On overflow the shard checks all users that it watches, which
/// costs each of them a look at their view.
const CHANGED_USERS_CAPACITY: usize = 4_096;

/// Shards of the table of watched users, each with its own lock.
const TABLE_SHARDS: usize = 256;

/// The orders thread's end.
#[derive(Debug, Clone, Default)]
pub struct OrderWatchers(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    /// The shards that watch a user, by number.
    users: DashMap<UserId, SmallVec<[u16; 4]>>,
    /// Number of watched users. While it is 0, telling costs nothing else.
    count: AtomicUsize,
    shards: Box<[WatchingShard]>,
}

#[derive(Debug)]
struct WatchingShard {
    changed: Sender<UserId>,
    /// The queue overflowed.
    overflowed: Arc<AtomicBool>,
    watch: Arc<ShardWatch>,
}

/// A shard's end. Its [`ShardWatch`] wakes the shard.
#[derive(Debug)]
pub struct OrderWatch {
    watched: Arc<Watched>,
    number: u16,
    changed: Receiver<UserId>,
    overflowed: Arc<AtomicBool>,
}

impl Default for Watched {
    fn default() -> Self {
        let users = DashMap::with_shard_amount(TABLE_SHARDS);
        Self { users, count: AtomicUsize::new(0), shards: Box::default() }
    }
}

impl OrderWatchers {
    /// Both ends for these shards; no user is watched yet.
    pub fn new(shards: &[Arc<ShardWatch>]) -> (Self, Vec<OrderWatch>) {
        assert!(shards.len() <= usize::from(u16::MAX), "a shard's number has 16 bits");
        let (mut watching, mut receivers) = (Vec::new(), Vec::new());
        for watch in shards {
            let (changed, receiver) = mailbox(CHANGED_USERS_CAPACITY);
            let overflowed = Arc::new(AtomicBool::new(false));
            receivers.push((receiver, Arc::clone(&overflowed)));
            watching.push(WatchingShard { changed, overflowed, watch: Arc::clone(watch) });
        }
        let watched = Arc::new(Watched { shards: watching.into(), ..Watched::default() });
        let ends = (0..).zip(receivers).map(|(number, (changed, overflowed))| OrderWatch {
            watched: Arc::clone(&watched),
            number,
            changed,
            overflowed,
        });
        let ends = ends.collect();
        (Self(watched), ends)
    }

    /// Tells shards that the orders of these users have changed. Called after readers see the
    /// changes. Wakes each shard at most once.
    pub(super) fn tell<'a>(&self, users: impl Iterator<Item = &'a UserId>) {
        // Between the publication and the load: see `OrderWatch::watch`.
        store_load_fence();
        if self.0.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut to_wake: SmallVec<[u16; 16]> = SmallVec::new();
        let mut last = None;
        for user in users {
            // Several changes of one user often come in a row.
            if last == Some(user) {
                continue;
            }
            last = Some(user);
            // Nobody watches most users.
            let Some(numbers) = self.0.users.get(user) else { continue };
            for &number in numbers.iter() {
                let Some(shard) = self.0.shards.get(usize::from(number)) else {
                    unreachable!("a user is watched by shards that there are: {number}");
                };
                if shard.changed.try_send(user.clone()).is_err() {
                    shard.overflowed.store(true, Ordering::Release);
                }
                if !to_wake.contains(&number) {
                    to_wake.push(number);
                }
            }
        }
        for number in to_wake {
            let Some(shard) = self.0.shards.get(usize::from(number)) else {
                unreachable!("only a shard that was told is woken: {number}");
            };
            shard.watch.wakeup.wake();
        }
    }
}

impl OrderWatch {
    /// Watches a user from now on. Call this before first reading their orders: every change after
    /// that read is then told.
    pub fn watch(&self, user: &UserId) {
        assert!(usize::from(self.number) < self.watched.shards.len(), "a shard has its number");
        match self.watched.users.entry(user.clone()) {
            Entry::Occupied(mut entry) => {
                let counted = self.watched.count.load(Ordering::Relaxed);
                assert!(counted > 0, "every watched user is counted");
                if !entry.get().contains(&self.number) {
                    entry.get_mut().push(self.number);
                }
            }
            Entry::Vacant(entry) => {
                // Counted first: another shard that finds the user here relies on it.
                self.watched.count.fetch_add(1, Ordering::Release);
                drop(entry.insert(SmallVec::from_slice(&[self.number])));
            }
        }
        // The shard marks a user and then reads their view; the orders thread publishes the view
        // and then checks for marks. With a fence in between on both sides, at least one of them
        // sees the other.
        store_load_fence();
    }

    /// Stops watching a user who has no stream on the shard any more.
    pub fn unwatch(&self, user: &UserId) {
        assert!(usize::from(self.number) < self.watched.shards.len(), "a shard has its number");
        // Nobody watches them.
        let Some(mut numbers) = self.watched.users.get_mut(user) else { return };
        numbers.retain(|number| *number != self.number);
        let is_last = numbers.is_empty();
        drop(numbers);
        if is_last && self.watched.users.remove_if(user, |_, numbers| numbers.is_empty()).is_some()
        {
            let before = self.watched.count.fetch_sub(1, Ordering::Release);
            assert!(before > 0, "every watched user is counted");
        }
    }

    /// The next user whose orders have changed. Each is returned at least once after a change.
    pub fn next_changed(&mut self) -> Option<ChangedUsers> {
        if let Some(user) = self.changed.try_recv() {
            return Some(ChangedUsers::One(user));
        }
        // Checked after the queue, so that no user is missed.
        self.overflowed.swap(false, Ordering::AcqRel).then_some(ChangedUsers::Any)
    }

    /// Whether [`next_changed`](Self::next_changed) has something, for a task that parks on the
    /// shard's wake-up.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty() || self.overflowed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::future::poll_fn;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn two_shards() -> (OrderWatchers, Vec<OrderWatch>, Vec<Arc<ShardWatch>>) {
        let watches: Vec<_> = (0..2).map(|_| Arc::new(ShardWatch::new())).collect();
        let (watchers, ends) = OrderWatchers::new(&watches);
        (watchers, ends, watches)
    }

    fn all_changed(end: &mut OrderWatch) -> Vec<ChangedUsers> {
        std::iter::from_fn(|| end.next_changed()).collect()
    }

    #[test]
    fn a_shard_is_told_of_the_users_it_watches() {
        let (watchers, mut ends, _) = two_shards();
        let [alice, bob] = [user("alice"), user("bob")];
        ends[0].watch(&alice);
        ends[0].watch(&alice);
        ends[1].watch(&alice);
        ends[1].watch(&bob);
        watchers.tell([&alice, &alice, &bob, &user("carol")].into_iter());
        assert_eq!(all_changed(&mut ends[0]), [ChangedUsers::One(alice.clone())]);
        let both = [ChangedUsers::One(alice.clone()), ChangedUsers::One(bob.clone())];
        assert_eq!(all_changed(&mut ends[1]), both);
        ends[0].unwatch(&alice);
        ends[0].unwatch(&alice);
        watchers.tell([&alice].into_iter());
        assert!(!ends[0].has_changed());
        assert!(ends[1].has_changed());
        ends[1].unwatch(&alice);
        ends[1].unwatch(&bob);
        assert_eq!(watchers.0.count.load(Ordering::Relaxed), 0);
        assert!(watchers.0.users.is_empty());
    }

    #[test]
    fn a_full_queue_tells_the_shard_to_check_all_users() {
        let (watchers, mut ends, _) = two_shards();
        let users: Vec<UserId> =
            (0..CHANGED_USERS_CAPACITY + 3).map(|number| user(&format!("user-{number}"))).collect();
        for user in &users {
            ends[0].watch(user);
        }
        watchers.tell(users.iter());
        let told = all_changed(&mut ends[0]);
        assert_eq!(told.len(), CHANGED_USERS_CAPACITY + 1);
        assert_eq!(told.last(), Some(&ChangedUsers::Any));
        assert!(!ends[0].has_changed());
    }

    #[test]
    fn a_parked_shard_is_woken() {
        let (watchers, mut ends, watches) = two_shards();
        ends[0].watch(&user("alice"));
        let mut parked = |watchers: &OrderWatchers, name: &str| {
            let end = &ends[0];
            let wait = poll_fn(|cx| watches[0].wakeup.poll_wait(cx, || end.has_changed()));
            let mut wait = std::pin::pin!(wait);
            assert!(block_on(poll_once(&mut wait)).is_none());
            watchers.tell([&user(name)].into_iter());
            let woken = block_on(poll_once(&mut wait)).is_some();
            drop(all_changed(&mut ends[0]));
            woken
        };
        assert!(parked(&watchers, "alice"));
        assert!(!parked(&watchers, "bob"));
    }

    #[test]
    fn a_user_whom_two_shards_begin_to_watch_at_once_is_counted_for_both() {
        let alice = user("alice");
        for _ in 0..1_000 {
            let (watchers, ends, _) = two_shards();
            let begin = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for end in ends {
                    let (watchers, begin, alice) = (&watchers, &begin, &alice);
                    scope.spawn(move || {
                        begin.wait();
                        end.watch(alice);
                        assert!(watchers.0.count.load(Ordering::Relaxed) > 0);
                    });
                }
            });
        }
    }

    #[test]
    fn a_change_while_a_shard_begins_to_watch_is_read_or_told() {
        for _ in 0..300 {
            let (watchers, mut ends, _) = two_shards();
            let version = AtomicUsize::new(0);
            let alice = user("alice");
            std::thread::scope(|scope| {
                let (version, watchers, alice) = (&version, &watchers, &alice);
                scope.spawn(move || {
                    version.store(1, Ordering::Relaxed);
                    watchers.tell([alice].into_iter());
                });
                ends[0].watch(alice);
                let read = version.load(Ordering::Relaxed);
                let end = &mut ends[0];
                if read == 0 {
                    while end.next_changed().is_none() {
                        std::thread::yield_now();
                    }
                }
            });
        }
    }
}

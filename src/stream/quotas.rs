use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use prometheus_client::registry::Registry;

use crate::metrics::Counter;
use crate::types::UserId;

/// Whose a stream is, in 8 bytes also as an option: a hash with a secret of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner(NonZeroU64);

/// Counts and limits the open streams of all shards.
#[derive(Debug)]
pub struct StreamQuotas {
    most: usize,
    most_per_user: usize,
    open: AtomicUsize,
    by_owner: DashMap<Owner, usize>,
    secret: RandomState,
    /// Streams refused because the process has as many as it may.
    pub refused_by_process: Counter,
    /// Streams refused because their user has as many as one may.
    pub refused_by_user: Counter,
}

/// Why there is no room for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The process has as many streams as it may.
    #[error("this server has reached its limit of {limit} streams")]
    Process {
        /// The limit.
        limit: usize,
    },
    /// The user has as many as one may.
    #[error("you have reached the limit of {limit} streams")]
    User {
        /// The limit.
        limit: usize,
    },
}

/// Room for one stream; dropping it frees the room.
#[derive(Debug)]
pub struct StreamPermit {
    quotas: Arc<StreamQuotas>,
    /// None for a stream that another node counts.
    owner: Option<Owner>,
}

impl StreamQuotas {
    /// Limits for the process and for each user.
    pub fn new(most: usize, most_per_user: usize) -> Self {
        Self {
            most,
            most_per_user,
            open: AtomicUsize::new(0),
            by_owner: DashMap::new(),
            secret: RandomState::new(),
            refused_by_process: Counter::default(),
            refused_by_user: Counter::default(),
        }
    }

    /// Takes room for one more stream.
    ///
    /// # Errors
    /// There is none. That is counted.
    pub fn reserve(self: &Arc<Self>, user: &UserId) -> Result<StreamPermit, NoRoom> {
        self.enter()?;
        let owner = self.owner(user);
        let mut theirs = self.by_owner.entry(owner).or_default();
        if *theirs >= self.most_per_user {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(self.refuse_user());
        }
        *theirs += 1;
        Ok(StreamPermit { quotas: Arc::clone(self), owner: Some(owner) })
    }

    /// Takes room for a connection of a stream that another node has, and counts as its user's.
    ///
    /// # Errors
    /// There is none. That is counted.
    pub fn reserve_relay(self: &Arc<Self>) -> Result<StreamPermit, NoRoom> {
        self.enter()?;
        Ok(StreamPermit { quotas: Arc::clone(self), owner: None })
    }

    fn enter(&self) -> Result<(), NoRoom> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.refused_by_process.inc();
            return Err(NoRoom::Process { limit: self.most });
        }
        Ok(())
    }

    /// How many streams of a user are open.
    pub fn open_of(&self, user: &UserId) -> usize {
        self.by_owner.get(&self.owner(user)).map_or(0, |theirs| *theirs)
    }

    /// Most streams of one user.
    pub fn most_per_user(&self) -> usize {
        self.most_per_user
    }

    /// Counts a refusal of a user who has too many.
    pub fn refuse_user(&self) -> NoRoom {
        self.refused_by_user.inc();
        NoRoom::User { limit: self.most_per_user }
    }

    /// How many streams are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Registers the counters of refused streams.
    pub fn register(&self, registry: &mut Registry) {
        for (limit, counter) in
            [("process", &self.refused_by_process), ("user", &self.refused_by_user)]
        {
            registry.sub_registry_with_label(("limit".into(), limit.into())).register(
                "streams_refused",
                "Streams refused for want of room",
                counter.clone(),
            );
        }
    }

    fn owner(&self, user: &UserId) -> Owner {
        // Who has the hash 0 shares the owner of the hash 1.
        Owner(NonZeroU64::new(self.secret.hash_one(user)).unwrap_or(NonZeroU64::MIN))
    }
}

impl StreamPermit {
    /// Whether the stream belongs to this user.
    pub(super) fn is_of(&self, user: &UserId) -> bool {
        self.owner == Some(self.quotas.owner(user))
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        if let Some(owner) = self.owner {
            let Entry::Occupied(mut theirs) = self.quotas.by_owner.entry(owner) else {
                unreachable!("the owner of a permit is counted until the last one is dropped")
            };
            assert!(*theirs.get() > 0, "an owner is counted once for each permit");
            *theirs.get_mut() -= 1;
            if *theirs.get() == 0 {
                theirs.remove();
            }
        }
        let before = self.quotas.open.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "each permit was counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_room_comes_back() {
        let quotas = Arc::new(StreamQuotas::new(3, 2));
        let [alice, bob] = ["alice", "bob"].map(|name| UserId::new(name).unwrap());
        let first = quotas.reserve(&alice).unwrap();
        let second = quotas.reserve(&alice).unwrap();
        assert_eq!(quotas.reserve(&alice).unwrap_err(), NoRoom::User { limit: 2 });
        let of_bob = quotas.reserve(&bob).unwrap();
        assert!(of_bob.is_of(&bob) && !of_bob.is_of(&alice));
        assert_eq!(quotas.reserve(&bob).unwrap_err(), NoRoom::Process { limit: 3 });
        assert_eq!(quotas.reserve_relay().unwrap_err(), NoRoom::Process { limit: 3 });
        assert_eq!((quotas.open_of(&alice), quotas.open_of(&bob)), (2, 1));
        drop(first);
        let relayed = quotas.reserve_relay().unwrap();
        assert!(!relayed.is_of(&alice) && quotas.open_of(&alice) == 1);
        drop(relayed);
        drop(quotas.reserve(&bob).unwrap());
        drop((second, of_bob));
        assert!(quotas.by_owner.is_empty(), "nothing is kept of a user without streams");
        assert_eq!(quotas.open.load(Ordering::Relaxed), 0);
        assert_eq!((quotas.refused_by_user.get(), quotas.refused_by_process.get()), (1, 2));
    }
}

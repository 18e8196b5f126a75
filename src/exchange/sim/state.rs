//! What the parts of the running exchange share: the venue, its journal, the kept feed lines. One
//! lock around all of it; the exchange is one thread, so nobody ever waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::SimError;
use super::entry::Entry;
use super::feed_ring::FeedRing;
use super::journal::Journal;
use super::replay::{Pace, SessionMicros};
use super::venue::Venue;
use super::webhook::{Registered, Webhooks};
use crate::exchange::wire::SymbolInfo;
use crate::types::{Clock, TimestampMicros};

/// Finished orders are remembered at least this long (while there is room): a day.
const REMEMBER_FINISHED_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// The running exchange.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Sequence that the next feed line will have.
    published: watch::Sender<u64>,
    failure: Mutex<Option<SimError>>,
    failed: Notify,
    clock: Clock,
}

/// All that changes.
pub(super) struct State {
    pub(super) venue: Venue,
    pub(super) ring: FeedRing,
    pub(super) webhooks: Webhooks,
    journal: Option<Journal>,
    /// Set when the journal could not be written: what memory has and the disk does not must not
    /// be told to anybody.
    poisoned: bool,
    pub(super) calendar: Calendar,
    /// Every symbol by its place; the session times are filled in when somebody asks.
    pub(super) symbols: Vec<SymbolInfo>,
}

/// When the session that is being replayed opens and closes on the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    /// Relates microseconds since the epoch to the session.
    pub(super) pace: Pace,
    pub(super) open: SessionMicros,
    pub(super) close: SessionMicros,
}

impl Calendar {
    /// Open and close on the wall clock.
    pub(super) fn times(&self) -> (TimestampMicros, TimestampMicros) {
        let at = |session| TimestampMicros::new(self.pace.clock_at(session));
        (at(self.open), at(self.close))
    }
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        let (published, _) = watch::channel(state.ring.next_sequence());
        Arc::new(Self {
            state: Mutex::new(state),
            published,
            failure: Mutex::new(None),
            failed: Notify::new(),
            clock: Clock,
        })
    }

    pub(super) fn now(&self) -> TimestampMicros {
        self.clock.now()
    }

    /// A reader's notice of new lines.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Looks without changing.
    pub(super) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the venue, then writes the journal, then publishes the lines. `None`: the journal
    /// cannot be written, nothing was told, and the exchange is about to stop.
    pub(super) fn change<R>(
        &self,
        change: impl FnOnce(&mut State, TimestampMicros) -> R,
    ) -> Option<R> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.poisoned {
            return None;
        }
        let result = change(&mut state, now);
        if let Err(error) = state.commit(now) {
            state.poisoned = true;
            drop(state);
            self.fail(error);
            return None;
        }
        let next = state.ring.next_sequence();
        drop(state);
        self.published.send_if_modified(|published| std::mem::replace(published, next) != next);
        Some(result)
    }

    /// Changes the queues of the webhooks, which nothing else depends on.
    pub(super) fn with_webhooks<R>(&self, change: impl FnOnce(&mut Webhooks) -> R) -> R {
        change(&mut self.lock().webhooks)
    }

    /// Waits for a failure that ends the exchange.
    pub(super) async fn failure(&self) -> SimError {
        loop {
            let failed = self.failed.notified();
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(error) = failure {
                return error;
            }
            failed.await;
        }
    }

    fn fail(&self, error: SimError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.failed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic with the lock held ends the only thread that there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens the journal, brings the orders back and begins a new feed session.
    pub(super) fn open(
        mut venue: Venue,
        data_dir: Option<&std::path::Path>,
        feed_retained_bytes: usize,
        (calendar, symbols): (Calendar, Vec<SymbolInfo>),
    ) -> Result<Self, SimError> {
        let now = Clock.now();
        let (mut journal, mut webhooks) = (None, Webhooks::default());
        // Without a memory the clock makes sure that no two runs share a session.
        let mut session = now.micros() / 1_000_000;
        if let Some(directory) = data_dir {
            let mut last_session = 0;
            let (opened, loaded) = Journal::open(directory, &mut |entry| match entry {
                Entry::Started { session } => last_session = last_session.max(session),
                Entry::Webhook { url, secret } => {
                    webhooks.register(url, secret, now);
                }
                Entry::Accepted { .. }
                | Entry::Rejected { .. }
                | Entry::Executed { .. }
                | Entry::Ended { .. } => venue.restore(&entry),
            })?;
            session = last_session + 1;
            if loaded.torn_bytes > 0 {
                tracing::warn!(bytes = loaded.torn_bytes, "the exchange journal had a torn end");
            }
            journal = Some(opened);
        }
        venue.begin_session(session);
        let ring = FeedRing::new(feed_retained_bytes);
        let poisoned = false;
        let mut state = Self { venue, ring, webhooks, journal, poisoned, calendar, symbols };
        state.rewrite_journal(now)?;
        state.venue.journal.clear(); // the snapshot has the new session
        Ok(state)
    }

    /// Registers a webhook, durably.
    pub(super) fn register_webhook(
        &mut self,
        url: &str,
        secret: &str,
        now: TimestampMicros,
    ) -> Registered {
        let registered = self.webhooks.register(url, secret, now);
        if registered != Registered::TooMany {
            Entry::Webhook { url, secret }.put(&mut self.venue.journal);
        }
        registered
    }

    fn commit(&mut self, now: TimestampMicros) -> Result<(), SimError> {
        if let Some(journal) = &mut self.journal {
            if !self.venue.journal.is_empty() {
                journal.append(&self.venue.journal)?;
            }
            if journal.wants_rewrite() {
                self.rewrite_journal(now)?;
            }
        }
        self.venue.journal.clear();
        if !self.venue.lines.marks.is_empty() {
            self.ring.push(&mut self.venue.lines);
            self.webhooks.push(self.ring.order_lines_of_newest());
        }
        Ok(())
    }

    fn rewrite_journal(&mut self, now: TimestampMicros) -> Result<(), SimError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut frames = self.venue.snapshot(forget_before(now));
        self.webhooks.put(&mut frames);
        journal.rewrite(&frames)
    }
}

fn forget_before(now: TimestampMicros) -> TimestampMicros {
    TimestampMicros::new(now.micros().saturating_sub(REMEMBER_FINISHED_MICROS))
}

//! What the parts of the running exchange share: the venue, its journal, the kept feed lines. One
//! lock around all of it; the exchange is one thread, so nobody ever waits for it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::SimError;
use super::entry::Entry;
use super::faults::{Faults, Later, repeat_renumbered};
use super::feed_ring::FeedRing;
use super::journal::Journal;
use super::records::FeedPlaces;
use super::replay::{Pace, SessionMicros};
use super::venue::Venue;
use super::webhook::{Registered, WebhookSenders};
use crate::exchange::wire::SymbolInfo;
use crate::types::{SteadyClock, TimestampMicros};

/// Finished orders are remembered at least this long (while there is room): a day.
const REMEMBER_FINISHED_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// The running exchange.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Sequence that the next feed line will have.
    published: watch::Sender<u64>,
    /// Why the exchange ends, or ends to begin again.
    ending: Mutex<Option<Ending>>,
    ended: Notify,
    pub(super) faults: Arc<Faults>,
    pub(super) later: Later,
    clock: SteadyClock,
}

/// Why a run of the exchange ends.
#[derive(Debug)]
pub(super) enum Ending {
    Failed(SimError),
    /// It was told to begin again, without so much of its memory.
    Restart {
        forget: Duration,
        /// The feed keeps the name of its session though its numbering begins again.
        feed_session: Option<u64>,
    },
}

/// What of its journal the exchange forgets as it opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forget {
    Nothing,
    /// What happened at or after this time.
    Since(TimestampMicros),
    /// What happened in so many microseconds before the newest entry, and that.
    LastMicros(u64),
}

/// All that changes.
pub(super) struct State {
    pub(super) venue: Venue,
    pub(super) ring: FeedRing,
    pub(super) webhooks: WebhookSenders,
    journal: Option<Journal>,
    /// Set when the journal could not be written: what memory has and the disk does not must not
    /// be told to anybody.
    poisoned: bool,
    pub(super) calendar: Calendar,
    /// How far the feed had come, and when.
    pub(super) places: FeedPlaces,
    /// What the feed calls its session: that of the venue, unless it was told to keep its name.
    pub(super) feed_session: u64,
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
    /// End of the session before, where there was one: none opens earlier.
    pub(super) not_before: TimestampMicros,
}

impl Calendar {
    /// Open and close on the wall clock.
    pub(super) fn times(&self) -> (TimestampMicros, TimestampMicros) {
        let at = |session| TimestampMicros::new(self.pace.clock_at(session));
        (at(self.open).max(self.not_before), at(self.close))
    }
}

impl Shared {
    pub(super) fn new(state: State, faults: Arc<Faults>, clock: SteadyClock) -> Arc<Self> {
        let (published, _) = watch::channel(state.ring.next_sequence());
        Arc::new(Self {
            state: Mutex::new(state),
            published,
            ending: Mutex::new(None),
            ended: Notify::new(),
            faults,
            later: Later::default(),
            clock,
        })
    }

    /// What the exchange takes for the time.
    pub(super) fn now(&self) -> TimestampMicros {
        self.faults.clock(self.clock.now())
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
        let now = self.now();
        let mut state = self.lock();
        if state.poisoned {
            return None;
        }
        let result = change(&mut state, now);
        if self.faults.is_active() {
            self.later.note_fills(&self.faults, &state.venue.fills);
            repeat_renumbered(&self.faults, &mut state.venue.lines);
        }
        if let Err(error) = state.commit(now) {
            state.poisoned = true;
            drop(state);
            self.end(Ending::Failed(error));
            return None;
        }
        let next = state.ring.next_sequence();
        drop(state);
        self.published.send_if_modified(|published| std::mem::replace(published, next) != next);
        Some(result)
    }

    /// Changes the queues of the webhooks, which nothing else depends on.
    pub(super) fn with_webhooks<R>(&self, change: impl FnOnce(&mut WebhookSenders) -> R) -> R {
        change(&mut self.lock().webhooks)
    }

    /// Waits for what ends this run.
    pub(super) async fn ending(&self) -> Ending {
        loop {
            let ended = self.ended.notified();
            let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(ending) = ending {
                return ending;
            }
            ended.await;
        }
    }

    /// Asks for a restart without the last `forget` of its memory. `keeps_session`: the feed's
    /// numbering begins again under the name that it has.
    pub(super) fn request_restart(&self, forget: Duration, keeps_session: bool) {
        let feed_session = keeps_session.then(|| self.look(|state| state.feed_session));
        self.end(Ending::Restart { forget, feed_session });
    }

    fn end(&self, why: Ending) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.get_or_insert(why);
        self.ended.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic with the lock held ends the only thread that there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens the journal, brings the orders back (but for those to forget) and begins a new feed
    /// session.
    pub(super) fn open(
        mut venue: Venue,
        data_dir: Option<&Path>,
        feed_retained_bytes: usize,
        (calendar, symbols): (Calendar, Vec<SymbolInfo>),
        (forget, now): (Forget, TimestampMicros),
    ) -> Result<Self, SimError> {
        let (mut journal, mut webhooks) = (None, WebhookSenders::default());
        // Without a memory the clock makes sure that no two runs share a session.
        let mut session = now.micros() / 1_000_000;
        if let Some(directory) = data_dir {
            let mut last_session = 0;
            let forget_since = forget_since(directory, forget)?;
            let is_forgotten = |entry: &Entry<'_>| {
                forget_since.zip(entry.at()).is_some_and(|(since, at)| at >= since)
            };
            let (opened, loaded) = Journal::open(directory, &mut |entry| match entry {
                Entry::Started { session } => last_session = last_session.max(session),
                Entry::Webhook { url, secret } => {
                    webhooks.register(url, secret, now);
                }
                Entry::Accepted { .. }
                | Entry::Rejected { .. }
                | Entry::Executed { .. }
                | Entry::Busted { .. }
                | Entry::Ended { .. } => {
                    if !is_forgotten(&entry) {
                        venue.restore(&entry);
                    }
                }
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
        let feed_session = session;
        let places = FeedPlaces::default();
        let mut state = Self {
            venue,
            ring,
            webhooks,
            journal,
            poisoned,
            calendar,
            places,
            feed_session,
            symbols,
        };
        state.rewrite_journal(now)?;
        state.venue.journal.clear(); // the snapshot has the new session
        Ok(state)
    }

    /// The session that is being replayed has ended and the next one begins: what was the last price
    /// is its previous close.
    pub(super) fn begin_day(&mut self, now: TimestampMicros) {
        let (_, close) = self.calendar.times();
        self.calendar.not_before = now.max(close);
        for (place, symbol) in (0_u16..).zip(&mut self.symbols) {
            let last = self.venue.begin_day(place);
            symbol.previous_close_in_cents = last.or(symbol.previous_close_in_cents);
        }
    }

    /// The symbols as they are listed now.
    pub(super) fn listed_symbols(&self) -> Vec<SymbolInfo> {
        let (session_open, session_close) = self.calendar.times();
        let mut symbols = self.symbols.clone();
        for (place, symbol) in (0_u16..).zip(&mut symbols) {
            (symbol.session_open, symbol.session_close) = (session_open, session_close);
            if symbol.synthetic {
                // Nobody knows where a random walk begins before it has.
                symbol.open_in_cents = self.venue.open_price(place);
            }
        }
        symbols
    }

    /// Whether there is a journal to open again.
    pub(super) const fn has_journal(&self) -> bool {
        self.journal.is_some()
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
        self.venue.fills.clear();
        if !self.venue.lines.marks.is_empty() {
            self.ring.push(&mut self.venue.lines);
            self.places.note(self.venue.latest(), self.ring.next_sequence() - 1);
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

/// From when on entries are forgotten.
fn forget_since(directory: &Path, forget: Forget) -> Result<Option<TimestampMicros>, SimError> {
    match forget {
        Forget::Nothing => Ok(None),
        Forget::Since(since) => Ok(Some(since)),
        Forget::LastMicros(micros) => {
            let mut newest = TimestampMicros::default();
            // Let go of again at once: this is a first look.
            let _journal = Journal::open(directory, &mut |entry| {
                newest = newest.max(entry.at().unwrap_or_default());
            })?;
            Ok(Some(TimestampMicros::new(newest.micros().saturating_sub(micros))))
        }
    }
}

fn forget_before(now: TimestampMicros) -> TimestampMicros {
    TimestampMicros::new(now.micros().saturating_sub(REMEMBER_FINISHED_MICROS))
}

//! State shared by the parts of the running exchange: the venue, its journal and the retained feed
//! lines, under one lock. The exchange is one thread, so the lock is never contended.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::SimError;
use super::entry::Entry;
use super::faults::{Faults, PendingActions, repeat_renumbered};
use super::feed_positions::FeedPositions;
use super::feed_ring::FeedRing;
use super::journal::Journal;
use super::replay::{Pace, SessionMicros};
use super::venue::Venue;
use super::webhook::{Registered, WebhookSenders};
use crate::exchange::wire::SymbolInfo;
use crate::types::{SteadyClock, TimestampMicros};

/// Time between attempts to write a journal that could not be written.
const WRITE_AGAIN: Duration = Duration::from_millis(100);

/// Finished orders are remembered for at least a day, while there is room.
const REMEMBER_FINISHED_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// The running exchange.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Sequence of the next feed line.
    published: watch::Sender<u64>,
    /// Why this run ends, or restarts.
    ending: Mutex<Option<Ending>>,
    ended: Notify,
    pub(super) faults: Arc<Faults>,
    pub(super) pending_actions: PendingActions,
    clock: SteadyClock,
}

/// Why a run of the exchange ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// Restart requested, without this much of the journal.
    Restart {
        forget: Duration,
        /// The session name that the feed keeps although its numbering restarts.
        feed_session: Option<u64>,
    },
}

/// What the exchange forgets when it opens its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forget {
    Nothing,
    /// Everything at or after this time.
    Since(TimestampMicros),
    /// Everything within this many microseconds before the newest entry, that entry included.
    LastMicros(u64),
}

/// The mutable state.
pub(super) struct State {
    pub(super) venue: Venue,
    pub(super) ring: FeedRing,
    pub(super) webhooks: WebhookSenders,
    journal: Option<Journal>,
    /// The journal could not be written: what memory has and the disk does not must not be reported
    /// to anybody, and nothing else happens until it is written.
    is_unwritten: bool,
    pub(super) calendar: Calendar,
    /// The feed's position over time.
    pub(super) positions: FeedPositions,
    /// The feed's session name: the venue's, unless a restart kept an older one.
    pub(super) feed_session: u64,
    /// Every symbol by index; the session times are filled in on request.
    pub(super) symbols: Vec<SymbolInfo>,
}

/// Opening and closing times of the replayed session on the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    /// Maps microseconds since the epoch to the session.
    pub(super) pace: Pace,
    pub(super) open: SessionMicros,
    pub(super) close: SessionMicros,
    /// End of the previous session, if any: this one does not open earlier.
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
            pending_actions: PendingActions::default(),
            clock,
        })
    }

    /// The exchange's time.
    pub(super) fn now(&self) -> TimestampMicros {
        self.faults.clock(self.clock.now())
    }

    /// Signals new lines to a feed reader.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Waits until the journal can be written, if it could not.
    pub(super) async fn writable(&self) {
        while !self.is_written() {
            tokio::time::sleep(WRITE_AGAIN).await;
        }
    }

    /// Writes what could not be written before, and publishes it. False if it still cannot be.
    pub(super) fn is_written(&self) -> bool {
        let mut state = self.lock();
        !state.is_unwritten || self.commit(&mut state, self.now())
    }

    /// Reads the state.
    pub(super) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the venue, writes the journal, then publishes the lines. `None` if the journal
    /// cannot be written: nothing was published. Either nothing was changed, or the change is
    /// published once it can be written.
    pub(super) fn change<R>(
        &self,
        change: impl FnOnce(&mut State, TimestampMicros) -> R,
    ) -> Option<R> {
        let now = self.now();
        let mut state = self.lock();
        if state.is_unwritten && !self.commit(&mut state, now) {
            return None;
        }
        let result = change(&mut state, now);
        if self.faults.is_active() {
            self.pending_actions.note_fills(&self.faults, &state.venue.fills);
            repeat_renumbered(&self.faults, &mut state.venue.lines);
        }
        self.commit(&mut state, now).then_some(result)
    }

    /// Writes the journal, then publishes the lines. False if the journal cannot be written.
    fn commit(&self, state: &mut State, now: TimestampMicros) -> bool {
        let was_unwritten = state.is_unwritten;
        match state.commit(now) {
            Ok(()) => state.is_unwritten = false,
            Err(error) => {
                state.is_unwritten = true;
                if !was_unwritten {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    let reason = reason.unwrap_or_default();
                    tracing::error!(%error, reason, "the simulated exchange stands still until its journal can be written");
                }
                return false;
            }
        }
        if was_unwritten {
            tracing::info!("the simulated exchange goes on: its journal can be written again");
        }
        let next = state.ring.next_sequence();
        self.published.send_if_modified(|published| std::mem::replace(published, next) != next);
        true
    }

    /// Changes the webhook queues, on which nothing else depends.
    pub(super) fn with_webhooks<R>(&self, change: impl FnOnce(&mut WebhookSenders) -> R) -> R {
        change(&mut self.lock().webhooks)
    }

    /// Waits until this run ends; returns why.
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

    /// Requests a restart that forgets the last `forget` of the journal. With `keeps_session` the
    /// feed restarts its numbering under its current session name.
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
        // A panic with the lock held ends the only thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens the journal, restores the orders except those to forget, and begins a new feed
    /// session.
    pub(super) fn open(
        mut venue: Venue,
        data_dir: Option<&Path>,
        feed_retained_bytes: usize,
        (calendar, symbols): (Calendar, Vec<SymbolInfo>),
        (forget, now): (Forget, TimestampMicros),
    ) -> Result<Self, SimError> {
        let (mut journal, mut webhooks) = (None, WebhookSenders::default());
        // Without a journal, the clock gives every run its own session.
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
        let is_unwritten = false;
        let feed_session = session;
        let positions = FeedPositions::default();
        let mut state = Self {
            venue,
            ring,
            webhooks,
            journal,
            is_unwritten,
            calendar,
            positions,
            feed_session,
            symbols,
        };
        state.rewrite_journal(now)?;
        state.venue.journal.clear(); // the snapshot contains the new session
        Ok(state)
    }

    /// Ends the replayed session and begins the next: the last price becomes the previous close.
    pub(super) fn begin_day(&mut self, now: TimestampMicros) {
        let (_, close) = self.calendar.times();
        self.calendar.not_before = now.max(close);
        for (place, symbol) in (0_u16..).zip(&mut self.symbols) {
            let last = self.venue.begin_day(place);
            symbol.previous_close_in_cents = last.or(symbol.previous_close_in_cents);
        }
    }

    /// The symbols as currently listed.
    pub(super) fn listed_symbols(&self) -> Vec<SymbolInfo> {
        let (session_open, session_close) = self.calendar.times();
        let mut symbols = self.symbols.clone();
        for (place, symbol) in (0_u16..).zip(&mut symbols) {
            (symbol.session_open, symbol.session_close) = (session_open, session_close);
            if symbol.synthetic {
                // A random walk has no open before its first print.
                symbol.open_in_cents = self.venue.open_price(place);
            }
        }
        symbols
    }

    /// Whether there is a journal to reopen.
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
            if journal.wants_rewrite()
                && let Err(error) = self.rewrite_journal(now)
            {
                tracing::warn!(%error, "the simulated exchange cannot shorten its journal");
                if let Some(journal) = &mut self.journal {
                    journal.put_rewrite_off();
                }
            }
        }
        self.venue.journal.clear();
        self.venue.fills.clear();
        if !self.venue.lines.marks.is_empty() {
            self.ring.push(&mut self.venue.lines);
            self.positions.note(self.venue.latest(), self.ring.next_sequence() - 1);
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

/// The time from which entries are forgotten.
fn forget_since(directory: &Path, forget: Forget) -> Result<Option<TimestampMicros>, SimError> {
    match forget {
        Forget::Nothing => Ok(None),
        Forget::Since(since) => Ok(Some(since)),
        Forget::LastMicros(micros) => {
            let mut newest = TimestampMicros::default();
            // Dropped at once: this pass only finds the newest entry.
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

//! The feed thread: one connection to the exchange's trade feed, the only writer of the market.
//! Prices go to the ring and the last-value table, order lines to the orders thread; neither waits
//! for the other.

mod checkpoints;
mod connection;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod lines;
mod lists;
#[cfg(feature = "simulation")]
pub(super) mod manual;
mod metrics;
mod numbering;
#[cfg(test)]
mod odd_tests;
mod symbols;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use compact_str::{CompactString, format_compact};

use crate::market::{MAX_SEQUENCE, MarketWriter};
use crate::shutdown::Shutdown;
use crate::sync::Sender;
use crate::types::{Backoff, MonotonicMicros, Spell};

use super::address::ExchangeAddress;
use super::blocking_http::{GetOptions, Response, get, is_timeout};
use super::clock::{Beats, ExchangeClock};
use super::dial::Dialer;
use super::feed_line::{MAX_LINE_BYTES, SkipCause};
use super::feed_types::OrderFeedMessage;
use super::wire::FeedSession;
use checkpoints::{CheckpointSender, CheckpointWriter};
use connection::{Connection, Resume};
use lines::BEATS_BETWEEN_COMPARISONS;
use lists::ListReader;
use metrics::Spells;
use numbering::Numbering;
use symbols::Symbols;

pub use metrics::FeedMetrics;

/// Longest name of a feed session. It is part of the ids that price streams send.
const MAX_SESSION_BYTES: usize = 64;
/// First wait before connecting again; doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// Time between two checkpoints: so many lines are read again after a crash.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// How long after one message about a gap, or a numbering that begins again, the next may follow.
const LOG_PACE: Duration = Duration::from_secs(10);

/// Where the feed is and how long it may be silent.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// The exchange.
    pub exchange: ExchangeAddress,
    /// Local address to connect from; the system chooses without one.
    pub source: Option<IpAddr>,
    /// Longest wait for a connection and the whole answer to a request; of the feed's own answer up
    /// to the line that names its session.
    pub request_timeout: Duration,
    /// Silence that means the connection is dead; the exchange beats once a second. Blank lines and
    /// pieces of a line are silence too.
    pub silence_timeout: Duration,
    /// Session and next sequence to go on from, as the log remembers them.
    pub resume: Option<(CompactString, u64)>,
    /// Is told the time of each heartbeat.
    pub exchange_clock: ExchangeClock,
}

/// Why one connection ended. The thread connects again.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("{0}")]
    Unexpected(String),
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("the orders thread was behind and reads again from {0}")]
    Reread(u64),
    #[error("the exchange no longer keeps the position asked for")]
    PositionGone,
    #[error("a stop was asked for")]
    Stop,
}

/// The feed thread's state.
pub struct Feed {
    options: FeedOptions,
    dialer: Dialer,
    market: MarketWriter,
    orders: Sender<OrderFeedMessage>,
    shutdown: Shutdown,
    metrics: FeedMetrics,
    symbols: Symbols,
    checkpoints: Option<CheckpointSender>,
    next_checkpoint: Instant,
    /// Last sequence that the newest checkpoint of this session has.
    checkpointed: Option<u64>,
    session: Option<CompactString>,
    /// The last session of the process before this one, and the last sequence that its figures have.
    before: Option<(CompactString, u64)>,
    /// How often the numbering of this session began again.
    renumberings: u32,
    /// An exchange that numbers nothing right does not fill the log.
    renumber_spell: Spell,
    gap_spell: Spell,
    /// Last sequence that has changed prices.
    last_sequence: u64,
    /// Last sequence that this connection has brought: lower where lines are read again.
    last_read: u64,
    /// Order lines below were handed over by the process before this one.
    orders_from: u64,
    /// Where order lines must be read again: the orders thread had no room from here on.
    orders_behind_from: Option<u64>,
    numbering: Numbering,
    /// Lines since the last one with a sequence that may have had one: no gap is longer than they are
    /// many.
    unnumbered: u64,
    /// A line was skipped that may have named any order.
    is_order_doubted: bool,
    /// Heartbeats since all orders were compared because of such lines.
    beats_since_comparison: u32,
    spells: Spells,
    beats: Beats,
    /// When the bytes came that are being taken.
    received: MonotonicMicros,
}

impl Feed {
    /// A feed that has not connected yet.
    pub fn new(
        options: FeedOptions,
        market: MarketWriter,
        orders: Sender<OrderFeedMessage>,
        shutdown: Shutdown,
        metrics: FeedMetrics,
    ) -> Self {
        Self {
            dialer: Dialer::new(options.exchange.clone()),
            beats: Beats::new(options.exchange_clock.clone()),
            received: MonotonicMicros::default(),
            before: options.resume.as_ref().map(|(session, _)| (session.clone(), 0)),
            options,
            market,
            orders,
            shutdown,
            symbols: Symbols::new(metrics.clone()),
            metrics,
            checkpoints: None,
            next_checkpoint: Instant::now(),
            checkpointed: None,
            session: None,
            renumberings: 0,
            renumber_spell: Spell::new(LOG_PACE),
            gap_spell: Spell::new(LOG_PACE),
            last_sequence: 0,
            last_read: 0,
            orders_from: 0,
            orders_behind_from: None,
            numbering: Numbering::new(),
            unnumbered: 0,
            is_order_doubted: false,
            beats_since_comparison: BEATS_BETWEEN_COMPARISONS,
            spells: Spells::default(),
        }
    }

    /// What reads the list of symbols, on a thread of its own. Without it nobody does.
    pub fn list_reader(&mut self) -> ListReader {
        let lists = self.symbols.read_lists();
        ListReader { lists, dialer: self.dialer.clone(), options: self.get_options() }
    }

    /// Goes on from the figures of the day that this file remembers. Gives what writes them there,
    /// on a thread of its own.
    pub fn remember_in(&mut self, path: PathBuf) -> CheckpointWriter {
        if let Some(checkpoint) = checkpoints::read(&path) {
            let (session, sequence) = (checkpoint.session.clone(), checkpoint.sequence);
            self.before = Some((session.clone(), sequence));
            match &mut self.options.resume {
                // Prices and orders are remembered apart: what either lacks is read again.
                Some((of_orders, from)) if *of_orders == session => {
                    self.orders_from = *from;
                    *from = (*from).min(sequence + 1);
                }
                Some(_) => {}
                resume @ None => *resume = Some((session, sequence + 1)),
            }
            self.market.restore(checkpoint);
        }
        self.checkpoints.insert(CheckpointSender::default()).writer(path)
    }

    /// Reads the feed until the process stops, reconnecting for as long as it takes.
    pub fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
        let mut resume = self.options.resume.take();
        while !self.shutdown.is_requested() {
            let (connected, read_before) = (Instant::now(), self.metrics.lines.get());
            let ended = self.connect_and_read(resume.as_ref());
            self.market.set_up(false);
            self.metrics.up.set(0);
            if self.shutdown.is_requested() || matches!(ended, Ended::Stop) {
                break;
            }
            // Without a position there is none that could be gone: that is no reason to hurry.
            let had_position = resume.is_some();
            resume = self.resume_after(&ended, resume);
            match ended {
                Ended::Reread(_) => self.metrics.rereads.inc(),
                _ => self.metrics.disconnects.inc(),
            };
            // At once after a connection that worked, slower and slower while none does.
            let has_worked =
                self.metrics.lines.get() > read_before || connected.elapsed() > LAST_BACKOFF;
            if has_worked || (had_position && matches!(ended, Ended::PositionGone)) {
                backoff.reset();
            }
            tracing::warn!(reason = %ended, exchange = %self.options.exchange, "the feed ended");
            self.shutdown.wait_timeout(backoff.advance());
        }
        self.put_checkpoint();
    }

    /// What the next connection asks for, after one that asked for `resume`.
    fn resume_after(&self, ended: &Ended, resume: Resume) -> Resume {
        match (ended, &self.session) {
            (Ended::PositionGone, _) => None,
            (_, Some(session)) => Some((session.clone(), self.next_sequence())),
            (_, None) => resume,
        }
    }

    /// Where order lines go on: at what the orders thread has not had.
    fn next_sequence(&self) -> u64 {
        self.orders_behind_from.unwrap_or(self.last_read + 1)
    }

    fn connect_and_read(&mut self, resume: Option<&(CompactString, u64)>) -> Ended {
        let Self { options, shutdown, .. } = self;
        let (timeout, is_stopped) = (options.request_timeout, || shutdown.is_requested());
        // Without a list there are no prices yet, but order lines come all the same.
        self.symbols.wait_for_list(&mut self.market, timeout, &is_stopped);
        match self.open(resume) {
            Ok(response) => self.read(response, resume.cloned()),
            Err(ended) => ended,
        }
    }

    fn get_options(&self) -> GetOptions {
        let FeedOptions { source, request_timeout, .. } = self.options;
        GetOptions { source, timeout: request_timeout, shutdown: self.shutdown.clone() }
    }

    fn open(&self, resume: Option<&(CompactString, u64)>) -> Result<Response, Ended> {
        let path = match resume {
            Some((session, from)) => {
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                query.append_pair("session", session).append_pair("from", &from.to_string());
                format!("/v1/feed?{}", query.finish())
            }
            None => "/v1/feed".to_owned(),
        };
        let response = get(&self.dialer, &path, &self.get_options())?;
        match response.status {
            200 => Ok(response),
            410 => Err(Ended::PositionGone),
            status => Err(Ended::Unexpected(format!("GET /v1/feed answered {status}"))),
        }
    }

    /// Reads lines until the connection ends.
    fn read(&mut self, response: Response, asked: Resume) -> Ended {
        let mut response = response.without_deadline();
        let mut connection = Connection::new(asked);
        let opened = Instant::now();
        let mut last_heard = opened;
        loop {
            match response.read_more(&mut connection.body) {
                Ok(true) => self.received = MonotonicMicros::now(),
                Ok(false) => return Ended::Unexpected("the exchange ended the feed".into()),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return error.into(),
            }
            if self.shutdown.is_requested() {
                return Ended::Stop;
            }
            if let Err(ended) = self.take_lines(&mut connection).and_then(|()| self.end_batch()) {
                return ended;
            }
            let now = Instant::now();
            if std::mem::take(&mut connection.is_heard) {
                last_heard = now;
            }
            let patience = self.options.request_timeout;
            if !connection.session_known && now.duration_since(opened) > patience {
                let problem = format!("no line that names the session came within {patience:?}");
                return Ended::Unexpected(problem);
            }
            if now.duration_since(last_heard) > self.options.silence_timeout {
                return Ended::Silent(self.options.silence_timeout);
            }
            self.symbols.keep_up(now, &mut self.market, self.last_sequence);
            if now >= self.next_checkpoint {
                self.next_checkpoint = now + CHECKPOINT_INTERVAL;
                self.put_checkpoint();
            }
        }
    }

    fn put_checkpoint(&mut self) {
        let (Some(checkpoints), Some(session)) = (&self.checkpoints, &self.session) else { return };
        if self.checkpointed != Some(self.last_sequence) {
            self.checkpointed = Some(self.last_sequence);
            checkpoints.put(self.market.checkpoint(session, self.last_sequence));
        }
    }

    /// Lets readers see the prices, and goes back to what the orders thread had no room for once
    /// it has some.
    fn end_batch(&mut self) -> Result<(), Ended> {
        self.market.end_batch(self.last_sequence);
        match self.orders_behind_from {
            Some(behind_from) if !self.orders.is_full() => Err(Ended::Reread(behind_from)),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes every whole line of a connection and leaves the rest of it there.
    fn take_lines(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        connection.take_lines(|connection, line| {
            if connection.session_known {
                return self.take_line(line);
            }
            if line.len() <= MAX_LINE_BYTES
                && let Ok(first) = serde_json::from_slice::<FeedSession>(line)
            {
                connection.session_known = true;
                return self.take_session(connection.asked.as_ref(), first);
            }
            self.count_skipped(SkipCause::BeforeSession, line);
            Ok(())
        })
    }

    /// The line that names the session of a connection, or another one in the middle of it.
    fn take_session(
        &mut self,
        asked: Option<&(CompactString, u64)>,
        FeedSession { session, sequence }: FeedSession,
    ) -> Result<(), Ended> {
        check_session(&session)?;
        check_sequence(sequence)?;
        let going_on = asked.filter(|(asked, _)| *asked == session).map(|(_, from)| *from);
        if let Some((asked, _)) = asked.filter(|_| going_on.is_none()) {
            self.metrics.other_sessions.inc();
            tracing::error!(%asked, %session, "the feed has another session than was asked for");
        }
        let is_known = self.session.as_ref() == Some(&session);
        // The line before those that follow: behind what was read before, the numbering is another.
        let read = going_on.or_else(|| is_known.then_some(self.last_read + 1)).or_else(|| {
            let before = self.before.as_ref().filter(|(of, _)| *of == session);
            before.map(|(_, last)| last + 1)
        });
        if read.is_some_and(|read| sequence + 1 < read) {
            return self.renumber(session, sequence);
        }
        let before = going_on.map_or(sequence, |from| from.saturating_sub(1));
        tracing::info!(%session, sequence = before, "the feed is up");
        if is_known && going_on.is_some() {
            self.follow(session, before);
            return Ok(());
        }
        let last = self.session.as_ref().or(self.before.as_ref().map(|(session, _)| session));
        if last.is_some_and(|last| *last != session) {
            self.renumberings = 0;
            self.symbols.begin_numbering(&mut self.market);
        }
        let message = |session, sequence| OrderFeedMessage::Session { session, sequence };
        self.begin(session, before, message)
    }

    /// The numbering began again under the session's own name, and goes on from `sequence`: to
    /// everybody that is a new session.
    fn renumber(&mut self, session: CompactString, sequence: u64) -> Result<(), Ended> {
        self.metrics.renumberings.inc();
        self.renumberings += 1;
        let last_read = self.last_read;
        if let Some(count) = self.renumber_spell.note(self.received) {
            tracing::error!(
                %session, sequence, last_read, count,
                "the feed's numbering began again under the same name: all orders are asked about"
            );
        }
        self.before = None;
        self.symbols.begin_numbering(&mut self.market);
        let message = |session, sequence| OrderFeedMessage::Renumbered { session, sequence };
        self.begin(session, sequence, message)
    }

    /// Begins a session whose lines follow `before`, and tells the orders thread by `message`.
    fn begin(
        &mut self,
        session: CompactString,
        before: u64,
        message: impl FnOnce(CompactString, u64) -> OrderFeedMessage,
    ) -> Result<(), Ended> {
        let counted = self.before.take().filter(|(of, _)| *of == session).map(|(_, last)| last);
        self.last_sequence = before.max(counted.unwrap_or(0));
        if counted.is_none() {
            self.orders_from = 0;
        }
        let name = match self.renumberings {
            0 => session.clone(),
            // Ids of streams that were sent before must not be taken for ones of this numbering.
            times => format_compact!("{session}~{times}"),
        };
        self.market.begin_session(&name, self.last_sequence + 1);
        self.numbering.begin();
        let handed_over = before.max(self.orders_from.saturating_sub(1));
        let message = message(session.clone(), handed_over);
        self.is_order_doubted = false;
        self.follow(session, before);
        // At once: whatever follows can be read again from here.
        (self.checkpointed, self.next_checkpoint) = (None, Instant::now());
        self.put_checkpoint();
        if self.orders.try_send(message).is_err() {
            // The session stays unknown, so the next connection tells it again.
            self.session = None;
            return Err(Ended::Unexpected("the orders thread takes nothing".into()));
        }
        Ok(())
    }

    /// Lines of a session follow `before`.
    fn follow(&mut self, session: CompactString, before: u64) {
        // Whatever was owed to the orders thread is part of what follows, or of another session.
        self.orders_behind_from = None;
        (self.last_read, self.unnumbered) = (before, 0);
        self.numbering.connect(before);
        self.session = Some(session);
        self.market.set_up(true);
        self.metrics.up.set(1);
    }
}

/// Names go out to clients within a line of their streams: nothing in them may end it.
fn check_session(session: &str) -> Result<(), Ended> {
    let printable = session.bytes().all(|byte| byte.is_ascii_graphic());
    if session.is_empty() || session.len() > MAX_SESSION_BYTES || !printable {
        let given: String = session.chars().take(MAX_SESSION_BYTES).collect();
        return Err(Ended::Unexpected(format!(
            "the feed session {given:?} is not 1 to {MAX_SESSION_BYTES} printable ASCII characters"
        )));
    }
    Ok(())
}

/// The next one has to be a sequence as well.
fn check_sequence(sequence: u64) -> Result<(), Ended> {
    if sequence < MAX_SEQUENCE {
        Ok(())
    } else {
        Err(Ended::Unexpected(format!("the feed sequence {sequence} is not below {MAX_SEQUENCE}")))
    }
}

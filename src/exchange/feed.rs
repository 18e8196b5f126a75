//! The feed thread: holds one connection to the exchange's trade feed and is the only writer of the
//! market. Prices go to the ring and the last-value table, order lines to the orders thread;
//! neither waits for the other.

mod checkpoints;
pub(crate) mod connection;
mod following;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod lines;
mod lists;
mod metrics;
mod numbering;
#[cfg(test)]
mod odd_tests;
mod order_lines;
mod symbols;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use compact_str::CompactString;

use crate::market::{MAX_SEQUENCE, MarketWriter};
use crate::shutdown::Shutdown;
use crate::sync::Sender;
use crate::types::{Backoff, LogThrottle, MonotonicMicros, quoted};

use super::address::ExchangeAddress;
use super::blocking_http::{GetOptions, Response, get, is_timeout};
use super::clock::{Beats, ExchangeClock};
use super::dial::Dialer;
use super::feed_line::{MAX_LINE_BYTES, SkipCause};
use super::feed_role::FeedRole;
use super::feed_types::OrderFeedMessage;
use super::wire::FeedSession;
use checkpoints::{CheckpointSender, CheckpointWriter};
use connection::{Connection, Resume};
use following::shown_name;
use lines::BEATS_BETWEEN_RECONCILIATIONS;
use lists::ListReader;
use metrics::SkipLog;
use numbering::Numbering;
use order_lines::OrderLines;
use symbols::Symbols;

pub use following::HandedPositions;
pub use metrics::FeedMetrics;

/// Longest session name. It becomes part of the event ids of price streams.
const MAX_SESSION_BYTES: usize = 64;
/// Reconnect backoff: from the first, doubling, to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// Time between two checkpoints; after a crash the lines of at most this time are read again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Most sessions and numberings that begin on one connection. Each has all orders reconciled, so an
/// exchange that begins more is connected to again, ever more slowly.
const MAX_SESSIONS_PER_CONNECTION: u32 = 4;

/// Lines in a row with sequences beyond what a feed reaches that end a connection: prices stand still,
/// which must show. A lone one is skipped.
const MAX_BEYOND_IN_ROW: u32 = 8;

/// Least time between two log lines about gaps, or about a numbering that restarted.
const LOG_PACE: Duration = Duration::from_secs(10);

/// Options of the feed thread.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// The exchange.
    pub exchange: ExchangeAddress,
    /// Local address to connect from; `None` lets the system choose.
    pub source: Option<IpAddr>,
    /// Time limit for a connection and its whole response; on the feed connection, up to its
    /// session line.
    pub request_timeout: Duration,
    /// Silence after which the connection counts as dead; the exchange sends a heartbeat each
    /// second. Blank lines and parts of lines count as silence.
    pub silence_timeout: Duration,
    /// Session and next sequence to resume from, as the log knows them.
    pub resume: Option<(CompactString, u64)>,
    /// The clock that the feed's heartbeats set.
    pub exchange_clock: ExchangeClock,
}

/// Why a connection ended. The thread connects again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("{0}")]
    Unexpected(String),
    #[error("{0} lines in a row have sequences from {MAX_SEQUENCE} on, which no feed reaches")]
    Beyond(u32),
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error(
        "it began more than {MAX_SESSIONS_PER_CONNECTION} sessions or numberings on one connection"
    )]
    TooManySessions,
    #[error("the orders queue was full; reading again from {0}")]
    Reread(u64),
    #[error("the exchange no longer keeps the requested position")]
    PositionGone,
    #[error("another process reads the feed now")]
    NotLeading,
    #[error("a stop was requested")]
    Stop,
}

/// State of the feed thread.
pub struct Feed {
    options: FeedOptions,
    dialer: Dialer,
    pub(crate) market: MarketWriter,
    orders: OrderLines,
    /// Whether this process reads the feed, and with which epoch it began to.
    role: FeedRole,
    epoch: u64,
    /// The orders threads must hear that lines may have been missed.
    must_announce: bool,
    shutdown: Shutdown,
    metrics: FeedMetrics,
    symbols: Symbols,
    checkpoints: Option<CheckpointSender>,
    next_checkpoint: Instant,
    /// The last sequence in the newest checkpoint of this session.
    checkpointed: Option<u64>,
    session: Option<CompactString>,
    /// The last session of the previous process, and the last sequence in its checkpoint.
    previous: Option<(CompactString, u64)>,
    /// How often the numbering of this session restarted.
    renumberings: u32,
    /// Lines since the last readable one whose sequences are beyond what a feed reaches.
    beyond_in_row: u32,
    /// Sessions and numberings that began on this connection.
    begun: u32,
    /// Limits log lines about an exchange that keeps restarting its numbering.
    renumber_log: LogThrottle,
    gap_log: LogThrottle,
    /// The last sequence that changed prices.
    last_sequence: u64,
    /// The last sequence on this connection; lower than `last_sequence` while lines are read again.
    last_read: u64,
    /// Lines below this sequence were handed over by the previous process.
    orders_from: u64,
    /// First order line to read again: the orders queue had no room for it.
    reread_from: Option<u64>,
    numbering: Numbering,
    /// Unreadable lines since the last numbered one that may themselves have had a number. A gap no
    /// longer than this may consist of them.
    unnumbered: u64,
    /// A skipped line may have belonged to any order.
    must_reconcile_all: bool,
    /// Heartbeats since all orders were last reconciled because of such a line.
    beats_since_reconciliation: u32,
    skip_log: SkipLog,
    beats: Beats,
    /// When the bytes being parsed were received.
    pub(crate) received: MonotonicMicros,
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
        let options = FeedOptions { resume: credible_resume(options.resume), ..options };
        Self {
            dialer: Dialer::new(options.exchange.clone()),
            beats: Beats::new(options.exchange_clock.clone()),
            received: MonotonicMicros::default(),
            previous: options.resume.as_ref().map(|(session, _)| (session.clone(), 0)),
            options,
            market,
            orders: OrderLines::new(orders),
            role: FeedRole::alone(),
            epoch: 0,
            must_announce: false,
            shutdown,
            symbols: Symbols::new(metrics.clone()),
            metrics,
            checkpoints: None,
            next_checkpoint: Instant::now(),
            checkpointed: None,
            session: None,
            renumberings: 0,
            beyond_in_row: 0,
            begun: 0,
            renumber_log: LogThrottle::new(LOG_PACE),
            gap_log: LogThrottle::new(LOG_PACE),
            last_sequence: 0,
            last_read: 0,
            orders_from: 0,
            reread_from: None,
            numbering: Numbering::new(),
            unnumbered: 0,
            must_reconcile_all: false,
            beats_since_reconciliation: BEATS_BETWEEN_RECONCILIATIONS,
            skip_log: SkipLog::default(),
        }
    }

    /// The reader of the symbol list, to run on a thread of its own. If it is never created, no
    /// list is read.
    pub fn list_reader(&mut self) -> ListReader {
        let lists = self.symbols.read_lists();
        ListReader { lists, dialer: self.dialer.clone(), options: self.get_options() }
    }

    /// Resumes from the day's figures in this file, if it has any. Returns the writer of later
    /// checkpoints, to run on a thread of its own.
    pub fn remember_in(&mut self, path: PathBuf) -> CheckpointWriter {
        if let Some(checkpoint) = checkpoints::read(&path) {
            let (session, sequence) = (checkpoint.session.clone(), checkpoint.sequence);
            self.previous = Some((session.clone(), sequence));
            match &mut self.options.resume {
                // Prices and orders resume separately: whichever is behind is read again.
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

    /// Reads the feed until the process stops, reconnecting without limit.
    pub fn run(mut self) {
        let resume = self.options.resume.take();
        self.read_while_leading(resume);
        self.put_checkpoint();
    }

    /// Reads the feed, from `resume` on, until the process stops or does not lead any more.
    fn read_while_leading(&mut self, mut resume: Resume) {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
        while !self.shutdown.is_requested() && self.is_leading() {
            let (connected, read_before) = (Instant::now(), self.metrics.lines.get());
            let ended = self.connect_and_read(resume.as_ref());
            self.market.set_up(false);
            self.metrics.up.set(0);
            if self.shutdown.is_requested() || matches!(ended, Ended::Stop | Ended::NotLeading) {
                break;
            }
            // `PositionGone` without a position is no reason to retry at once.
            let had_position = resume.is_some();
            resume = self.resume_after(&ended, resume);
            match ended {
                Ended::Reread(_) => self.metrics.rereads.inc(),
                _ => self.metrics.disconnects.inc(),
            };
            // Reconnect at once after a connection that worked, ever more slowly while none does.
            let has_worked = !matches!(ended, Ended::TooManySessions)
                && (self.metrics.lines.get() > read_before || connected.elapsed() > LAST_BACKOFF);
            if has_worked || (had_position && matches!(ended, Ended::PositionGone)) {
                backoff.reset();
            }
            tracing::warn!(reason = %ended, exchange = %self.options.exchange, "the feed connection ended");
            self.shutdown.wait_timeout(backoff.advance());
        }
    }

    /// What to request on the next connection, after one that requested `resume`.
    pub(crate) fn resume_after(&self, ended: &Ended, resume: Resume) -> Resume {
        match (ended, &self.session) {
            (Ended::PositionGone, _) => None,
            (_, Some(session)) => Some((session.clone(), self.next_sequence())),
            (_, None) => resume,
        }
    }

    /// The next sequence to request: the first that the orders thread has not received.
    fn next_sequence(&self) -> u64 {
        self.reread_from.unwrap_or(self.last_read + 1)
    }

    fn connect_and_read(&mut self, resume: Option<&(CompactString, u64)>) -> Ended {
        let Self { options, shutdown, .. } = self;
        let (timeout, is_stopped) = (options.request_timeout, || shutdown.is_requested());
        // Without a symbol list there are no prices yet, but order lines still arrive.
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
            if !self.is_leading() {
                return Ended::NotLeading;
            }
            if let Err(ended) = self.take_lines(&mut connection).and_then(|()| self.end_batch()) {
                return ended;
            }
            let now = Instant::now();
            if std::mem::take(&mut connection.is_heard) {
                last_heard = now;
            }
            let session_timeout = self.options.request_timeout;
            if !connection.session_known && now.duration_since(opened) > session_timeout {
                let problem = format!("no session line within {session_timeout:?}");
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

    /// Publishes the batch to readers, and reconnects to read lines again once the orders queue has
    /// room.
    pub(crate) fn end_batch(&mut self) -> Result<(), Ended> {
        self.market.end_batch(self.last_sequence);
        match self.reread_from {
            Some(reread_from) if !self.orders.is_full() => Err(Ended::Reread(reread_from)),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes every complete line and leaves the rest in the connection.
    pub(crate) fn take_lines(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        connection.take_lines(|connection, line| {
            if connection.session_known {
                return self.take_line(line);
            }
            if line.len() <= MAX_LINE_BYTES
                && let Ok(first) = serde_json::from_slice::<FeedSession>(line)
            {
                connection.session_known = true;
                self.begun = 0;
                return self.take_session(connection.asked.as_ref(), first);
            }
            self.count_skipped(SkipCause::BeforeSession, line);
            Ok(())
        })
    }

    /// Takes the session line: the first of a connection, or a new session in the middle of one.
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
            tracing::error!(%asked, %session, "the feed has another session than the requested one");
        }
        let is_known = self.session.as_ref() == Some(&session);
        // The first sequence expected. A session line below it means that the numbering restarted.
        let read = going_on.or_else(|| is_known.then_some(self.last_read + 1)).or_else(|| {
            let before = self.previous.as_ref().filter(|(of, _)| *of == session);
            before.map(|(_, last)| last + 1)
        });
        if read.is_some_and(|read| sequence + 1 < read) {
            let may_repeat = is_known && going_on.is_some();
            if !(may_repeat && self.numbering.remembers(sequence + 1)) {
                return self.renumber(session, sequence);
            }
            // More than was asked for, or the numbering restarted: the lines tell, since those that
            // were taken are remembered.
            tracing::info!(%session, sequence, "the feed begins with lines that were taken before");
        }
        let before = going_on.map_or(sequence, |from| from.saturating_sub(1));
        tracing::info!(%session, sequence = before, "the feed is up");
        if is_known && going_on.is_some() {
            self.follow(session, before);
            self.numbering.connect(sequence.min(before));
            return match self.announce(before) {
                true => Ok(()),
                false => Err(Ended::Unexpected("the orders queue is full".into())),
            };
        }
        self.count_begun()?;
        let last = self.session.as_ref().or(self.previous.as_ref().map(|(session, _)| session));
        if last.is_some_and(|last| *last != session) {
            self.renumberings = 0;
            self.symbols.begin_numbering(&mut self.market);
        }
        let message = |session, sequence| OrderFeedMessage::Session { session, sequence };
        self.begin(session, before, message)
    }

    /// The numbering restarted under the session's own name and goes on from `sequence`. Everything
    /// downstream sees a new session.
    fn renumber(&mut self, session: CompactString, sequence: u64) -> Result<(), Ended> {
        self.count_begun()?;
        self.metrics.renumberings.inc();
        self.renumberings += 1;
        let last_read = self.last_read;
        if let Some(count) = self.renumber_log.note(self.received) {
            tracing::error!(
                %session, sequence, last_read, count,
                "the feed's numbering restarted under the same session; reconciling all orders"
            );
        }
        self.previous = None;
        self.symbols.begin_numbering(&mut self.market);
        let message = |session, sequence| OrderFeedMessage::Renumbered { session, sequence };
        self.begin(session, sequence, message)
    }

    /// Counts a session or numbering that is about to begin.
    fn count_begun(&mut self) -> Result<(), Ended> {
        if self.begun == MAX_SESSIONS_PER_CONNECTION {
            return Err(Ended::TooManySessions);
        }
        self.begun += 1;
        Ok(())
    }

    /// Begins a session whose lines follow `before`, and sends `message` to the orders thread.
    fn begin(
        &mut self,
        session: CompactString,
        before: u64,
        message: impl FnOnce(CompactString, u64) -> OrderFeedMessage,
    ) -> Result<(), Ended> {
        let counted = self.previous.take().filter(|(of, _)| *of == session).map(|(_, last)| last);
        self.last_sequence = before.max(counted.unwrap_or(0));
        if counted.is_none() {
            self.orders_from = 0;
        }
        let name = shown_name(&session, self.renumberings);
        self.market.begin_session(&name, self.last_sequence + 1);
        self.numbering.begin();
        let handed_over = before.max(self.orders_from.saturating_sub(1));
        let message = message(session.clone(), handed_over);
        self.must_reconcile_all = false;
        self.follow(session, before);
        // At once: what follows can be read again from here.
        (self.checkpointed, self.next_checkpoint) = (None, Instant::now());
        self.put_checkpoint();
        if self.orders.try_send(message).is_err() {
            // The session stays unset, so the next connection sends it again.
            self.session = None;
            return Err(Ended::Unexpected("the orders queue is full".into()));
        }
        self.must_announce = false;
        Ok(())
    }

    /// Lines of a session follow `before`.
    fn follow(&mut self, session: CompactString, before: u64) {
        // Lines still to be read again follow now, or belong to another session.
        self.reread_from = None;
        (self.last_read, self.unnumbered) = (before, 0);
        self.numbering.connect(before);
        self.session = Some(session);
        self.market.set_up(true);
        self.metrics.up.set(1);
    }
}

/// The logged position, unless it has a sequence that no feed reaches.
fn credible_resume(resume: Resume) -> Resume {
    resume.filter(|(session, from)| {
        let is_possible = *from <= MAX_SEQUENCE;
        if !is_possible {
            tracing::error!(
                %session, from,
                "the logged position in the feed is impossible and is not used: the feed is read \
                 from where it stands and all orders are reconciled; there is nothing to do"
            );
        }
        is_possible
    })
}

/// The session name is sent to clients inside a line of an SSE stream, so nothing in it may end a
/// line.
fn check_session(session: &str) -> Result<(), Ended> {
    let printable = session.bytes().all(|byte| byte.is_ascii_graphic());
    if session.is_empty() || session.len() > MAX_SESSION_BYTES || !printable {
        let given = quoted(session);
        return Err(Ended::Unexpected(format!(
            "the feed session {given} is not 1 to {MAX_SESSION_BYTES} printable ASCII characters without spaces"
        )));
    }
    Ok(())
}

/// The next sequence must be valid as well.
fn check_sequence(sequence: u64) -> Result<(), Ended> {
    if sequence < MAX_SEQUENCE {
        Ok(())
    } else {
        Err(Ended::Unexpected(format!("the feed sequence {sequence} is not below {MAX_SEQUENCE}")))
    }
}

//! The feed thread: holds one connection to the exchange's trade feed and is the only writer of the
//! market. Prices go to the ring and the last-value table, order lines to the orders thread;
//! neither waits for the other.

mod candle_events;
mod checkpoints;
pub(crate) mod connection;
mod ended;
mod following;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod lines;
mod lists;
mod metrics;
mod numbering;
#[cfg(test)]
mod odd_tests;
pub(crate) mod order_lines;
mod sessions;
mod symbols;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use compact_str::CompactString;

use crate::market::{MAX_SEQUENCE, MarketWriter};
use crate::shutdown::Shutdown;
use crate::sync::Sender;
use crate::types::{Backoff, LogThrottle, MonotonicMicros};

use super::address::ExchangeAddress;
use super::blocking_http::{GetOptions, Response, get, is_timeout};
use super::clock::{Beats, ExchangeClock};
use super::dial::Dialer;
use super::feed_line::{MAX_LINE_BYTES, SkipCause};
use super::feed_role::FeedRole;
use super::feed_types::OrderFeedMessage;
use super::wire::FeedSession;
use candle_events::CandleEvents;
use checkpoints::{CheckpointSender, CheckpointWriter};
use connection::{Connection, Resume};
use lines::BEATS_BETWEEN_RECONCILIATIONS;
use lists::ListReader;
use metrics::SkipLog;
use numbering::Numbering;
use order_lines::OrderLines;
use symbols::Symbols;

pub(crate) use ended::Ended;
pub use following::HandedPositions;
pub use metrics::FeedMetrics;

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
    /// Where every print is told for candles, if anybody makes them.
    candles: Option<CandleEvents>,
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
            candles: None,
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

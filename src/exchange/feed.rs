//! The feed thread: one connection to the exchange's trade feed, the only writer of the market.
//! Prices go to the ring and the last-value table, order lines to the orders thread; neither waits
//! for the other.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
#[cfg(feature = "simulation")]
pub(super) mod stepped;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use prometheus_client::registry::Registry;

use crate::market::{Listing, MAX_SEQUENCE, MarketWriter, Print};
use crate::metrics::{Counter, Gauge};
use crate::shutdown::Shutdown;
use crate::sync::{Refused, Sender};
use crate::types::MonotonicMicros;

use super::address::ExchangeAddress;
use super::blocking_http::{Response, get};
use super::clock::{Beats, ExchangeClock};
use super::feed_types::OrderFeed;
use super::wire::{FeedLine, FeedLineType, FeedSession, SymbolsResponse};

/// Longest feed line; a longer one means that something else speaks.
const MAX_LINE_BYTES: usize = 4 * 1024;
/// Longest name of a feed session. It is part of the ids that price streams send.
const MAX_SESSION_BYTES: usize = 64;
/// Longest answer of `GET /v1/symbols`: 16,384 symbols of under 400 bytes.
const MAX_SYMBOLS_BYTES: usize = 8 * 1024 * 1024;
/// How often a silent connection is looked at, so that a stop is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// First wait before connecting again; doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(2);

/// Where the feed is and how long it may be silent.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// The exchange.
    pub exchange: ExchangeAddress,
    /// Local address to connect from; the system chooses without one.
    pub source: Option<IpAddr>,
    /// Longest wait for a connection or an answer.
    pub request_timeout: Duration,
    /// Silence that means the connection is dead; the exchange beats once a second.
    pub silence_timeout: Duration,
    /// Session and next sequence to go on from, as the log remembers them.
    pub resume: Option<(CompactString, u64)>,
    /// Is told the time of each heartbeat.
    pub exchange_clock: ExchangeClock,
}

/// What the feed thread counts.
#[derive(Debug, Clone, Default)]
pub struct FeedMetrics {
    lines: Counter,
    unknown_symbols: Counter,
    unreadable_lines: Counter,
    gaps: Counter,
    disconnects: Counter,
    order_lines: Counter,
    rereads: Counter,
    up: Gauge,
}

impl FeedMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("feed_up", "1 while the exchange feed is up", self.up.clone());
        let counters = [
            ("feed_lines", "Lines read from the feed", &self.lines),
            ("feed_unknown_symbols", "Lines of symbols that are not listed", &self.unknown_symbols),
            ("feed_unreadable_lines", "Lines that are not the contract's", &self.unreadable_lines),
            ("feed_gaps", "Jumps of the sequence", &self.gaps),
            ("feed_disconnects", "Connections lost", &self.disconnects),
            ("feed_order_lines", "Lines handed to the orders thread", &self.order_lines),
            ("feed_rereads", "Reconnections because orders were behind", &self.rereads),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
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
    market: MarketWriter,
    orders: Sender<OrderFeed>,
    shutdown: Shutdown,
    metrics: FeedMetrics,
    session: Option<CompactString>,
    /// Last sequence that has changed prices.
    last_sequence: u64,
    /// Last sequence that this connection has brought: lower where lines are read again.
    last_read: u64,
    /// Where order lines must be read again: the orders thread had no room from here on.
    orders_behind_from: Option<u64>,
    beats: Beats,
    /// When the bytes came that are being taken.
    received: MonotonicMicros,
}

impl Feed {
    /// A feed that has not connected yet.
    pub fn new(
        options: FeedOptions,
        market: MarketWriter,
        orders: Sender<OrderFeed>,
        shutdown: Shutdown,
        metrics: FeedMetrics,
    ) -> Self {
        Self {
            beats: Beats::new(options.exchange_clock.clone()),
            received: MonotonicMicros::default(),
            options,
            market,
            orders,
            shutdown,
            metrics,
            session: None,
            last_sequence: 0,
            last_read: 0,
            orders_behind_from: None,
        }
    }

    /// Reads the feed until the process stops, reconnecting for as long as it takes.
    pub fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        let mut resume = self.options.resume.take();
        while !self.shutdown.is_requested() {
            let (connected, read_before) = (Instant::now(), self.metrics.lines.get());
            let ended = self.connect_and_read(resume.as_ref());
            self.market.set_up(false);
            self.metrics.up.set(0);
            if matches!(ended, Ended::Stop) {
                return;
            }
            resume = self.resume_after(&ended, resume);
            match ended {
                Ended::Reread(_) => self.metrics.rereads.inc(),
                _ => self.metrics.disconnects.inc(),
            };
            // At once after a connection that worked, slower and slower while none does.
            let has_worked =
                self.metrics.lines.get() > read_before || connected.elapsed() > LAST_BACKOFF;
            if has_worked || matches!(ended, Ended::PositionGone) {
                backoff = FIRST_BACKOFF;
            }
            tracing::warn!(reason = %ended, exchange = %self.options.exchange, "the feed ended");
            self.shutdown.wait_timeout(backoff);
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// What the next connection asks for, after one that asked for `resume`.
    fn resume_after(
        &self,
        ended: &Ended,
        resume: Option<(CompactString, u64)>,
    ) -> Option<(CompactString, u64)> {
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
        match self.list_symbols().and_then(|()| self.open(resume)) {
            Ok(response) => self.read(response, resume.map(|(_, from)| *from)),
            Err(ended) => ended,
        }
    }

    fn list_symbols(&mut self) -> Result<(), Ended> {
        let response = self.get("/v1/symbols")?;
        if response.status != 200 {
            let status = response.status;
            return Err(Ended::Unexpected(format!("GET /v1/symbols answered {status}")));
        }
        let body = response.read_to_end(MAX_SYMBOLS_BYTES)?;
        let answer: SymbolsResponse = serde_json::from_slice(&body)
            .map_err(|error| Ended::Unexpected(format!("GET /v1/symbols: {error}")))?;
        let listings: Vec<Listing> = answer
            .symbols
            .into_iter()
            .map(|info| Listing {
                symbol: info.symbol,
                previous_close: info.previous_close_in_cents,
                source: Arc::from(info.source),
                synthetic: info.synthetic,
            })
            .collect();
        if let Err(full) = self.market.list(&listings) {
            tracing::error!(%full, "symbols are missing");
        }
        Ok(())
    }

    fn get(&self, path: &str) -> io::Result<Response> {
        let FeedOptions { exchange, source, request_timeout, .. } = &self.options;
        get(exchange, *source, path, *request_timeout)
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
        let response = self.get(&path)?;
        match response.status {
            200 => Ok(response),
            410 => Err(Ended::PositionGone),
            status => Err(Ended::Unexpected(format!("GET /v1/feed answered {status}"))),
        }
    }

    /// Reads lines until the connection ends.
    fn read(&mut self, mut response: Response, from: Option<u64>) -> Ended {
        if let Err(error) = response.set_read_timeout(LOOK_INTERVAL) {
            return error.into();
        }
        let mut body = Vec::new();
        let mut last_heard = Instant::now();
        let mut session_known = false;
        loop {
            match response.read_more(&mut body) {
                Ok(true) => {
                    last_heard = Instant::now();
                    self.received = MonotonicMicros::now();
                }
                Ok(false) => return Ended::Unexpected("the exchange ended the feed".into()),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return error.into(),
            }
            if self.shutdown.is_requested() {
                return Ended::Stop;
            }
            if last_heard.elapsed() > self.options.silence_timeout {
                return Ended::Silent(self.options.silence_timeout);
            }
            if let Err(ended) = self.take_lines(&mut body, &mut session_known, from) {
                return ended;
            }
            if let Err(ended) = self.end_batch() {
                return ended;
            }
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

    /// Takes every whole line of `body` and leaves the rest of it there.
    fn take_lines(
        &mut self,
        body: &mut Vec<u8>,
        session_known: &mut bool,
        from: Option<u64>,
    ) -> Result<(), Ended> {
        let mut taken = 0;
        for end in memchr::memchr_iter(b'\n', body) {
            let line = body.get(taken..end).unwrap_or_default();
            taken = end + 1;
            if *session_known {
                self.take_line(line)?;
            } else {
                *session_known = true;
                self.take_session(line, from)?;
            }
        }
        body.drain(..taken);
        if body.len() > MAX_LINE_BYTES {
            return Err(Ended::Unexpected(format!("a line of over {MAX_LINE_BYTES} bytes")));
        }
        Ok(())
    }

    /// The first line names the session.
    fn take_session(&mut self, line: &[u8], from: Option<u64>) -> Result<(), Ended> {
        let FeedSession { session, sequence } = serde_json::from_slice(line)
            .map_err(|error| Ended::Unexpected(format!("the first feed line: {error}")))?;
        check_session(&session)?;
        check_sequence(sequence)?;
        let first_sequence = from.unwrap_or(sequence + 1);
        let is_known = from.is_some() && self.session.as_ref() == Some(&session);
        if !is_known {
            self.market.begin_session(&session, first_sequence);
            self.last_sequence = first_sequence.saturating_sub(1);
        }
        // Whatever was owed to the orders thread is part of what follows, or of another session.
        self.orders_behind_from = None;
        let before = first_sequence.saturating_sub(1);
        self.last_read = before;
        tracing::info!(%session, sequence = before, "the feed is up");
        if !is_known {
            let message = OrderFeed::Session { session: session.clone(), sequence: before };
            if self.orders.try_send(message).is_err() {
                // The session stays unknown, so the next connection tells it again.
                self.session = None;
                return Err(Ended::Unexpected("the orders thread takes nothing".into()));
            }
        }
        self.session = Some(session);
        self.market.set_up(true);
        self.metrics.up.set(1);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Ended> {
        self.metrics.lines.inc();
        let line: FeedLine = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => {
                self.metrics.unreadable_lines.inc();
                return Err(Ended::Unexpected(format!("an unreadable feed line: {error}")));
            }
        };
        let sequence = line.sequence;
        check_sequence(sequence)?;
        if line.line_type == FeedLineType::Heartbeat {
            self.beats.heard(line.timestamp, self.received);
            if sequence > self.last_read {
                self.note_gap(sequence);
                self.last_read = sequence;
                self.last_sequence = self.last_sequence.max(sequence);
            }
            if self.orders_behind_from.is_none() {
                // Told again with the next beat if there is no room now.
                let _told_later = self.orders.try_send(OrderFeed::Position { sequence });
            }
            return Ok(());
        }
        if sequence > self.last_read + 1 {
            self.note_gap(sequence - 1);
        }
        let has_come_before = sequence <= self.last_read;
        self.last_read = self.last_read.max(sequence);
        // A line that was read again changes no price: newer ones have.
        if sequence > self.last_sequence {
            self.last_sequence = sequence;
            self.take_print(&line);
        }
        if line.order_id.is_some() && self.orders_behind_from.is_none() {
            self.hand_over(line, has_come_before)?;
        }
        Ok(())
    }

    fn take_print(&mut self, line: &FeedLine) {
        let (FeedLineType::Trade, Some(symbol), Some(price)) =
            (line.line_type, &line.symbol, line.price_in_cents)
        else {
            return;
        };
        let Some(index) = self.market.index_of(symbol) else {
            self.metrics.unknown_symbols.inc();
            return;
        };
        self.market.print(&Print {
            symbol: index,
            price,
            num_shares: line.num_shares.unwrap_or(0),
            counts_volume: line.volume,
            timestamp: line.timestamp,
            sequence: line.sequence,
        });
    }

    fn hand_over(&mut self, line: FeedLine, has_come_before: bool) -> Result<(), Ended> {
        match self.orders.try_send(OrderFeed::Line(line)) {
            Ok(()) => {
                self.metrics.order_lines.inc();
                Ok(())
            }
            // It was handed over then, or is part of a gap that was told. To go back for it could be
            // to go back behind what the exchange keeps.
            Err(Refused::Full(_)) if has_come_before => Ok(()),
            Err(Refused::Full(refused)) => {
                if let OrderFeed::Line(line) = refused {
                    self.orders_behind_from = Some(line.sequence);
                }
                Ok(())
            }
            Err(Refused::Closed(_)) => Err(Ended::Stop),
        }
    }

    /// Lines are missing up to `last_missing`: orders are compared with the exchange.
    fn note_gap(&mut self, last_missing: u64) {
        self.metrics.gaps.inc();
        let first_missing = self.last_read + 1;
        tracing::error!(first_missing, last_missing, "the feed has a gap");
        if self.orders_behind_from.is_some() {
            // To say that all up to here is settled would pass lines that are still owed. They are
            // read again, and with them the gap if it is there then.
            return;
        }
        if let Some(session) = self.session.clone() {
            let message = OrderFeed::Session { session, sequence: last_missing };
            if self.orders.try_send(message).is_err() {
                self.orders_behind_from.get_or_insert(first_missing);
            }
        }
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

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

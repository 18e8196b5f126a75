//! The exchange's end of a feed connection, and the real reader at ours: bytes of lines that are
//! lost, repeated and swapped, and connections that break and begin elsewhere.

use super::exchange::{Exchange, PublishedLine};
use crate::exchange::wire::{FeedLine, FeedLineType, FeedSession};
use crate::exchange::{ExchangeClock, OrderFeed, Resume, SteppedFeed};
use crate::market::MarketWriter;
use crate::sync::Sender;
use crate::types::{MonotonicMicros, TimestampMicros};

/// A feed connection, and who reads it.
pub(super) struct FeedLink {
    reader: SteppedFeed,
    /// The session of the connection.
    session: String,
    /// Sequence of the line that comes next on it.
    next: u64,
    /// When it was last served.
    now: MonotonicMicros,
    /// What happened, for the trace.
    pub(super) notes: Vec<String>,
}

impl FeedLink {
    /// Not connected yet; the first connection asks for `resume`.
    pub(super) fn new(
        market: MarketWriter,
        to_orders: Sender<OrderFeed>,
        resume: Resume,
        exchange_clock: ExchangeClock,
    ) -> Self {
        let reader = SteppedFeed::new(market, to_orders, resume, exchange_clock);
        let now = MonotonicMicros::default();
        Self { reader, session: String::new(), next: 1, now, notes: Vec::new() }
    }

    /// What comes from here on comes at this time.
    pub(super) fn at(&mut self, now: MonotonicMicros) {
        self.now = now;
    }

    /// Brings at most so many lines, or connects first. False when there was nothing to do.
    pub(super) fn bring(&mut self, exchange: &Exchange, count: u64) -> bool {
        if !self.is_connected(exchange) {
            self.connect(exchange);
            return true;
        }
        let first = self.next;
        for _ in 0..count {
            let Some(line) = line_at(exchange, self.next) else { break };
            self.next += 1;
            if !self.take(&line.clone()) {
                break;
            }
        }
        if self.next > first {
            self.notes.push(format!("the feed brings lines {first} to {}", self.next - 1));
        }
        self.next > first
    }

    /// Brings a heartbeat, which comes when every line has come.
    pub(super) fn beat(&mut self, exchange: &Exchange, timestamp: TimestampMicros) -> bool {
        let sequence = exchange.lines().len() as u64;
        if !self.is_connected(exchange) || self.next != sequence + 1 {
            return false;
        }
        self.notes.push(format!("the feed beats at {sequence}"));
        self.take(&FeedLine {
            sequence,
            line_type: FeedLineType::Heartbeat,
            execution_id: None,
            symbol: None,
            price_in_cents: None,
            num_shares: None,
            order_id: None,
            volume: true,
            timestamp,
        });
        true
    }

    /// Brings a line that has come before.
    pub(super) fn repeat(&mut self, exchange: &Exchange, back: u64) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        let sequence = self.next.saturating_sub(back + 1);
        let Some(line) = line_at(exchange, sequence).cloned() else { return false };
        self.notes.push(format!("the feed repeats line {sequence}"));
        self.take(&line);
        true
    }

    /// Loses at most so many lines, as long as they may be lost.
    pub(super) fn lose(
        &mut self,
        exchange: &Exchange,
        count: u64,
        may_be_lost: impl Fn(&PublishedLine) -> bool,
    ) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        let first = self.next;
        while self.next < first + count
            && published_at(exchange, self.next).is_some_and(&may_be_lost)
        {
            self.next += 1;
        }
        if self.next > first {
            self.notes.push(format!("the feed loses lines {first} to {}", self.next - 1));
        }
        self.next > first
    }

    /// Brings the next two lines in the wrong order.
    pub(super) fn swap(&mut self, exchange: &Exchange) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        let lines = (published_at(exchange, self.next), published_at(exchange, self.next + 1));
        let (Some(first), Some(second)) = lines else { return false };
        if first.only_here {
            return false;
        }
        let (first, second) = (first.line.clone(), second.line.clone());
        self.notes.push(format!("the feed brings line {} before its predecessor", second.sequence));
        self.next += 2;
        if self.take(&second) {
            self.take(&first);
        }
        true
    }

    /// Breaks the connection.
    pub(super) fn cut(&mut self) -> bool {
        let was_connected = self.reader.is_connected();
        if was_connected {
            self.notes.push("the feed connection breaks".to_owned());
            self.reader.cut();
        }
        was_connected
    }

    /// Whether every line has been handed over.
    pub(super) fn is_at_end(&self, exchange: &Exchange) -> bool {
        self.reader.is_connected()
            && self.session == exchange.session()
            && self.next == exchange.lines().len() as u64 + 1
    }

    /// The market, for the next process.
    pub(super) fn into_market(self) -> MarketWriter {
        self.reader.into_market()
    }

    /// Whether lines may follow at once. An exchange that has started again has closed all
    /// connections.
    fn is_connected(&mut self, exchange: &Exchange) -> bool {
        if self.reader.is_connected() && self.session != exchange.session() {
            self.cut();
        }
        self.reader.is_connected()
    }

    /// What `GET /v1/feed` does.
    fn connect(&mut self, exchange: &Exchange) {
        let session = exchange.session();
        let after_all = exchange.lines().len() as u64 + 1;
        let first = match self.reader.resume() {
            Some((of, from)) if *of != session || !exchange.keeps(*from) => {
                self.notes.push(format!("the feed has no {of} from {from} on any more"));
                self.reader.refuse();
                return;
            }
            Some((_, from)) => *from,
            None => after_all,
        };
        self.notes.push(format!("the feed connects to {session} from {first} on"));
        self.reader.connect();
        self.session = session.to_string();
        self.next = first;
        let first_line = FeedSession { session, sequence: first - 1 };
        self.send(serde_json::to_vec(&first_line).unwrap_or_default());
    }

    fn take(&mut self, line: &FeedLine) -> bool {
        self.send(serde_json::to_vec(line).unwrap_or_default())
    }

    /// False when the reader ends the connection with this.
    fn send(&mut self, mut line: Vec<u8>) -> bool {
        line.push(b'\n');
        match self.reader.take(&line, self.now) {
            None => true,
            Some(reason) => {
                self.notes.push(format!("the feed reader hangs up: {reason}"));
                false
            }
        }
    }
}

fn published_at(exchange: &Exchange, sequence: u64) -> Option<&PublishedLine> {
    let place = usize::try_from(sequence.checked_sub(1)?).ok()?;
    exchange.lines().get(place)
}

fn line_at(exchange: &Exchange, sequence: u64) -> Option<&FeedLine> {
    published_at(exchange, sequence).map(|published| &published.line)
}

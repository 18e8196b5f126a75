//! A feed connection: the exchange's end, and the real reader at ours. Lines may be lost, repeated
//! or swapped, and connections may break and resume elsewhere.

use super::exchange::Exchange;
use super::garble;
use super::published::{Published, PublishedLine};
use crate::exchange::feed::connection::Resume;
use crate::exchange::wire::{FeedLine, FeedSession};
use crate::exchange::{ExchangeClock, OrderFeedMessage};
use crate::market::MarketWriter;
use crate::sync::Sender;
use crate::testing::ManualFeed;
use crate::types::{MonotonicMicros, TimestampMicros};

pub(super) struct FeedLink {
    reader: ManualFeed,
    /// The session of the connection, and its numbering.
    session: String,
    numbering: u32,
    /// Sequence of the next line on it.
    next: u64,
    /// Pieces of junk since the last numbered line that may be taken for numbered lines.
    junk: usize,
    /// Lines that this connection lost since then.
    lost: Vec<u64>,
    /// Lines that may not have been taken, and whose loss may have gone unnoticed.
    pub(super) unsure: Vec<u64>,
    /// Lines where only the order could be read.
    pub(super) unread: Vec<u64>,
    /// Lines that were taken.
    pub(super) taken: Vec<u64>,
    /// It asked for lines of this session that are beyond the present numbering.
    pub(super) saw_restart: bool,
    /// The time of the current step.
    now: MonotonicMicros,
    /// What happened, for the trace.
    pub(super) notes: Vec<String>,
}

impl FeedLink {
    /// Not connected yet; the first connection asks for `resume`.
    pub(super) fn new(
        market: MarketWriter,
        to_orders: Sender<OrderFeedMessage>,
        resume: Resume,
        exchange_clock: ExchangeClock,
    ) -> Self {
        let reader = ManualFeed::new(market, to_orders, resume, exchange_clock);
        let now = MonotonicMicros::default();
        Self {
            reader,
            session: String::new(),
            numbering: 0,
            next: 1,
            junk: 0,
            lost: Vec::new(),
            unsure: Vec::new(),
            unread: Vec::new(),
            taken: Vec::new(),
            saw_restart: false,
            now,
            notes: Vec::new(),
        }
    }

    /// Sets the time of what comes next.
    pub(super) fn at(&mut self, now: MonotonicMicros) {
        self.now = now;
    }

    /// Brings at most `count` lines, or connects first. False if there was nothing to do.
    pub(super) fn bring(&mut self, exchange: &Exchange, count: u64, answer: OddAnswer) -> bool {
        if !self.is_connected(exchange) {
            self.connect(exchange.feed(), answer);
            return true;
        }
        let first = self.next;
        for _ in 0..count {
            let Some(published) = exchange.feed().at(self.next) else { break };
            self.next += 1;
            if !self.take(&published.line) {
                break;
            }
            self.taken.push(published.line.sequence);
        }
        if self.next > first {
            self.notes.push(format!("the feed brings lines {first} to {}", self.next - 1));
        }
        self.next > first
    }

    /// Brings a heartbeat, which comes only after every line.
    pub(super) fn beat(&mut self, exchange: &Exchange, timestamp: TimestampMicros) -> bool {
        let sequence = exchange.feed().last();
        if !self.is_connected(exchange) || self.next != sequence + 1 {
            return false;
        }
        self.notes.push(format!("the feed beats at {sequence}"));
        self.take(&exchange.feed().beat(timestamp));
        true
    }

    /// Repeats a line that has come before.
    pub(super) fn repeat(&mut self, exchange: &Exchange, back: u64) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        let sequence = self.next.saturating_sub(back + 1);
        let Some(published) = exchange.feed().at(sequence) else { return false };
        self.notes.push(format!("the feed repeats line {sequence}"));
        self.send(serde_json::to_vec(&published.line).unwrap_or_default());
        true
    }

    /// Loses at most `count` lines, as long as `may_be_lost` holds.
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
        while self.next < first + count && exchange.feed().at(self.next).is_some_and(&may_be_lost) {
            self.lost.push(self.next);
            self.next += 1;
        }
        if self.next > first {
            self.notes.push(format!("the feed loses lines {first} to {}", self.next - 1));
        }
        self.next > first
    }

    /// Brings the next line garbled, if `may_be_lost` holds.
    pub(super) fn garble(
        &mut self,
        exchange: &Exchange,
        may_be_lost: impl Fn(&PublishedLine) -> bool,
        garble: impl FnOnce(&PublishedLine) -> Vec<u8>,
    ) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        let published = exchange.feed().at(self.next).filter(|published| may_be_lost(published));
        let Some(published) = published else { return false };
        let bytes = garble(published);
        let shown = String::from_utf8_lossy(&bytes).chars().take(160).collect::<String>();
        self.notes.push(format!("the feed brings line {} as {shown:?}", self.next));
        if garble::shows_sequence(&bytes, &published.line) {
            self.end_gap();
        }
        let names_order = garble::names_order(&bytes, &published.line);
        if names_order { &mut self.unread } else { &mut self.unsure }.push(self.next);
        self.next += 1;
        self.send(bytes);
        true
    }

    /// Brings something that is not a line, and may be taken for a numbered one.
    pub(super) fn bring_junk(
        &mut self,
        exchange: &Exchange,
        (junk, may_be_numbered): (&str, bool),
    ) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        self.notes.push(format!("the feed brings {junk:?}"));
        self.junk += usize::from(may_be_numbered);
        self.send(junk.as_bytes().to_vec());
        true
    }

    /// A numbered line reveals a gap before it. As many missing lines as there were pieces of junk
    /// may be taken for those.
    fn end_gap(&mut self) {
        if self.lost.len() <= self.junk {
            self.unsure.append(&mut self.lost);
        }
        self.forget_gap();
    }

    fn forget_gap(&mut self) {
        self.junk = 0;
        self.lost.clear();
    }

    /// Brings the next two lines in the wrong order.
    pub(super) fn swap(&mut self, exchange: &Exchange) -> bool {
        if !self.is_connected(exchange) {
            return false;
        }
        let feed = exchange.feed();
        let lines = (feed.at(self.next), feed.at(self.next + 1));
        let (Some(first), Some(second)) = lines else { return false };
        if first.only_on_feed {
            return false;
        }
        let (first, second) = (&first.line, &second.line);
        self.notes.push(format!("the feed brings line {} before its predecessor", second.sequence));
        self.next += 2;
        if self.take(second) {
            self.taken.push(second.sequence);
            self.take(first);
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

    /// Whether the next line is about an order.
    pub(super) fn is_before_order(&self, exchange: &Exchange) -> bool {
        exchange.feed().at(self.next).is_some_and(|published| published.order.is_some())
    }

    /// Whether every line was handed over.
    pub(super) fn is_at_end(&self, exchange: &Exchange) -> bool {
        self.reader.is_connected()
            && self.numbering == exchange.feed().numbering()
            && self.session == exchange.feed().session()
            && self.next == exchange.feed().last() + 1
    }

    /// The market, for the next process.
    pub(super) fn into_market(self) -> MarketWriter {
        self.reader.into_market()
    }

    /// Whether lines may follow at once. A restarted exchange has closed all connections; a renamed
    /// session is announced.
    fn is_connected(&mut self, exchange: &Exchange) -> bool {
        let feed = exchange.feed();
        if self.reader.is_connected() && self.numbering != feed.numbering() {
            self.cut();
        }
        if self.reader.is_connected() && self.session != feed.session() {
            self.notes.push(format!(
                "the feed goes on as {} in place of {}",
                feed.session(),
                self.session
            ));
            self.name(feed, self.next);
        }
        self.reader.is_connected()
    }

    /// Does what `GET /v1/feed` does.
    fn connect(&mut self, feed: &Published, odd: OddAnswer) {
        let session = feed.session();
        let after_all = feed.last() + 1;
        let resume = self.reader.resume().as_ref();
        self.saw_restart = resume.is_some_and(|(of, from)| *of == session && *from > after_all);
        let first = match (self.reader.resume(), odd) {
            (Some((of, from)), _) if *of == session && feed.keeps(*from) => *from,
            (None, _) | (Some(_), OddAnswer::FromEnd) => after_all,
            (Some(_), OddAnswer::FromBeginning) => feed.first_kept(),
            (Some((of, from)), OddAnswer::Gone) => {
                self.notes.push(format!("the feed has no {of} from {from} on any more"));
                self.reader.refuse();
                return;
            }
        };
        self.notes.push(format!("the feed connects to {session} from {first} on"));
        self.reader.connect();
        self.numbering = feed.numbering();
        self.next = first;
        self.forget_gap();
        self.name(feed, first);
    }

    /// Brings the line that names the session, before line `first`.
    fn name(&mut self, feed: &Published, first: u64) {
        let session = feed.session();
        self.session = session.to_string();
        let line = FeedSession { session, sequence: first - 1 };
        self.send(serde_json::to_vec(&line).unwrap_or_default());
    }

    fn take(&mut self, line: &FeedLine) -> bool {
        self.end_gap();
        self.send(serde_json::to_vec(line).unwrap_or_default())
    }

    /// False if the reader closes the connection because of this line.
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

/// The answer of an exchange that does not have what was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum OddAnswer {
    /// `410`: it is gone.
    Gone,
    /// `200`, from now on.
    FromEnd,
    /// `200`, from the oldest line it has.
    FromBeginning,
}

//! Feed lines, formatted by hand into one buffer: the replay makes 100,000 a second and more. The
//! bytes equal what `serde_json` makes of the same [`FeedLine`] (tested).
//!
//! [`FeedLine`]: crate::exchange::wire::FeedLine

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::types::{PriceCents, TimestampMicros};

/// The end of one line, and its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineMark {
    /// First byte after the line, counted from the beginning of its chunk.
    pub(super) end: u32,
    /// Index of the symbol; [`NO_SYMBOL`] for one that no longer trades.
    pub(super) symbol: u16,
    /// Whether the line belongs to an order.
    pub(super) of_order: bool,
}

/// Index of a symbol that this run does not trade, of an order from an earlier run.
pub(super) const NO_SYMBOL: u16 = u16::MAX;

/// Numbers the lines of a feed session, and holds those not published yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    session: u64,
    /// Sequence of the last line made.
    sequence: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) marks: Vec<LineMark>,
}

/// The symbol of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineSymbol<'a> {
    pub(super) place: u16,
    pub(super) name: &'a str,
}

/// The trade of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineTrade<'a> {
    pub(super) symbol: LineSymbol<'a>,
    pub(super) price: PriceCents,
    pub(super) shares: u64,
}

/// Identifies an order or an execution; unique as long as feed sessions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    /// The feed session in which it was created.
    pub(super) session: u64,
    /// Its number in that session.
    pub(super) number: u64,
}

impl Lines {
    /// No lines yet; the first gets sequence 1.
    pub(super) fn new(session: u64) -> Self {
        Self { session, ..Self::default() }
    }

    pub(super) const fn session(&self) -> u64 {
        self.session
    }

    /// Sequence of the first unpublished line.
    pub(super) const fn first_sequence(&self) -> u64 {
        self.sequence + 1 - self.marks.len() as u64
    }

    /// Makes the line of a print and returns the execution's key.
    pub(super) fn print(&mut self, trade: LineTrade<'_>, at: TimestampMicros) -> Key {
        self.begin("trade");
        let execution = Key { session: self.session, number: self.sequence };
        self.trade(execution, trade);
        self.end(trade.symbol.place, false, at);
        execution
    }

    /// Makes the line of one order's share of a print. The print's own line counts the volume.
    pub(super) fn fill(
        &mut self,
        execution: Key,
        order: Key,
        trade: LineTrade<'_>,
        at: TimestampMicros,
    ) {
        self.begin("trade");
        self.trade(execution, trade);
        self.order(order);
        self.text(r#","volume":false"#);
        self.end(trade.symbol.place, true, at);
    }

    /// Makes the line that busts one order's share of a print.
    pub(super) fn bust(
        &mut self,
        execution: Key,
        order: Key,
        trade: LineTrade<'_>,
        at: TimestampMicros,
    ) {
        self.begin("bust");
        self.trade(execution, trade);
        self.order(order);
        self.end(trade.symbol.place, true, at);
    }

    /// Repeats an unpublished line under a sequence of its own.
    pub(super) fn repeat(&mut self, index: usize) {
        let before = index.checked_sub(1).and_then(|before| self.marks.get(before));
        let start = before.map_or(0, |mark| mark.end as usize);
        let Some(&mark) = self.marks.get(index) else { return };
        let line = self.bytes.get(start..mark.end as usize).unwrap_or_default();
        // Every line starts with its sequence.
        let Some(comma) = memchr::memchr(b',', line) else { return };
        let rest = line.get(comma..).unwrap_or_default().to_vec();
        self.sequence += 1;
        self.text(r#"{"sequence":"#);
        self.number(self.sequence);
        self.bytes.extend_from_slice(&rest);
        self.mark(mark.symbol, mark.of_order);
    }

    /// Makes the line of an order that was cancelled or expired.
    pub(super) fn order_end(
        &mut self,
        order: Key,
        expired: bool,
        symbol: LineSymbol<'_>,
        at: TimestampMicros,
    ) {
        self.begin(if expired { "expired" } else { "cancelled" });
        self.symbol(symbol);
        self.order(order);
        self.end(symbol.place, true, at);
    }

    fn begin(&mut self, kind: &str) {
        self.sequence += 1;
        self.text(r#"{"sequence":"#);
        self.number(self.sequence);
        self.text(r#","type":""#);
        self.text(kind);
        self.text(r#"""#);
    }

    fn trade(&mut self, execution: Key, trade: LineTrade<'_>) {
        self.text(r#","executionId":"e"#);
        self.key(execution);
        self.symbol(trade.symbol);
        self.text(r#","priceInCents":"#);
        self.number(trade.price.cents().unsigned_abs());
        self.text(r#","numShares":"#);
        self.number(trade.shares);
    }

    fn symbol(&mut self, symbol: LineSymbol<'_>) {
        // Symbols contain no character that JSON escapes.
        self.text(r#","symbol":""#);
        self.text(symbol.name);
        self.text(r#"""#);
    }

    fn order(&mut self, order: Key) {
        self.text(r#","orderId":"o"#);
        self.key(order);
    }

    fn key(&mut self, key: Key) {
        self.number(key.session);
        self.text("-");
        self.number(key.number);
        self.text(r#"""#);
    }

    fn end(&mut self, symbol: u16, of_order: bool, at: TimestampMicros) {
        self.text(r#","timestamp":"#);
        self.number(at.micros());
        self.text("}\n");
        self.mark(symbol, of_order);
    }

    fn mark(&mut self, symbol: u16, of_order: bool) {
        let Ok(end) = u32::try_from(self.bytes.len()) else {
            unreachable!("a chunk is published long before 4 GiB: see the limits in `driver`")
        };
        self.marks.push(LineMark { end, symbol, of_order });
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// A heartbeat: everything up to `sequence` has been sent.
pub(super) fn heartbeat(sequence: u64, at: TimestampMicros) -> Vec<u8> {
    let mut line = Vec::with_capacity(96);
    let micros = at.micros();
    let written =
        writeln!(line, r#"{{"sequence":{sequence},"type":"heartbeat","timestamp":{micros}}}"#);
    debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::wire::{FeedLine, FeedLineType};

    const AT: TimestampMicros = TimestampMicros::new(1_732_400_000_123_456);
    const SPY: LineSymbol<'_> = LineSymbol { place: 3, name: "SPY" };

    fn parsed(line: &[u8]) -> FeedLine {
        let parsed: FeedLine = serde_json::from_slice(line).unwrap();
        let again = serde_json::to_string(&parsed).unwrap() + "\n";
        assert_eq!(again, String::from_utf8_lossy(line), "the same bytes as serde_json makes");
        parsed
    }

    #[test]
    fn every_kind_of_line_is_valid_json_of_the_contract() {
        let price = PriceCents::new(16_740).unwrap();
        let trade = LineTrade { symbol: SPY, price, shares: 300 };
        let order = Key { session: 2, number: 5 };
        let mut lines = Lines::new(4);
        let execution = lines.print(trade, AT);
        lines.fill(execution, order, LineTrade { shares: 100, ..trade }, AT);
        lines.order_end(order, true, SPY, AT);
        lines.bust(execution, order, LineTrade { shares: 100, ..trade }, AT);
        lines.repeat(1);
        assert_eq!(lines.first_sequence(), 1);
        let all: Vec<FeedLine> = lines.bytes.split_inclusive(|&b| b == b'\n').map(parsed).collect();
        assert_eq!(all.len(), 5);
        let sequences: Vec<u64> = all.iter().map(|line| line.sequence).collect();
        assert_eq!(sequences, [1, 2, 3, 4, 5]);
        assert_eq!(lines.marks.last().map(|mark| mark.end as usize), Some(lines.bytes.len()));
        assert_eq!(all[0].execution_id.as_ref().unwrap().as_str(), "e4-1");
        assert!(all[0].order_id.is_none() && all[0].volume);
        assert_eq!(all[1].execution_id, all[0].execution_id, "one trade, one line a side");
        assert_eq!(all[1].order_id.as_ref().unwrap().as_str(), "o2-5");
        assert!(!all[1].volume && all[1].num_shares == Some(100));
        assert_eq!(all[2].line_type, FeedLineType::Expired);
        assert_eq!(all[3].line_type, FeedLineType::Bust);
        assert_eq!(all[3].execution_id, all[1].execution_id);
        assert_eq!(all[4], FeedLine { sequence: 5, ..all[1].clone() });
        assert_eq!(parsed(&heartbeat(11, AT)).line_type, FeedLineType::Heartbeat);
    }
}

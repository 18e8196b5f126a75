//! The retained feed lines: chunks of whole lines, the oldest dropped first. Readers are cursors;
//! nothing is queued for any of them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::line::{LineMark, Lines};

/// Most retained lines.
const MAX_RETAINED_LINES: usize = 1_000_000;
/// Memory of a chunk beside its lines, roughly: its own struct and two heap blocks.
const CHUNK_OVERHEAD_BYTES: usize = 128;

/// Lines published together.
#[derive(Debug)]
struct Chunk {
    first_sequence: u64,
    bytes: Bytes,
    marks: Box<[LineMark]>,
}

impl Chunk {
    fn end_sequence(&self) -> u64 {
        self.first_sequence + self.marks.len() as u64
    }

    fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.marks.len() * size_of::<LineMark>() + CHUNK_OVERHEAD_BYTES
    }

    /// First byte of the `index`-th line.
    fn line_start(&self, index: usize) -> usize {
        let before = index.checked_sub(1).and_then(|before| self.marks.get(before));
        before.map_or(0, |mark| mark.end as usize)
    }
}

/// The retained lines of one feed session.
#[derive(Debug)]
pub(super) struct FeedRing {
    chunks: VecDeque<Chunk>,
    /// Sequence of the next line.
    next_sequence: u64,
    bytes: usize,
    lines: usize,
    max_bytes: usize,
}

/// What a reader finds at its position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Whole lines, perhaps none if all were of other symbols, and the position after them.
    Lines { bytes: Bytes, next: u64 },
    /// No line yet.
    AtEnd,
    /// The position is no longer retained, or was never reached.
    Gone,
}

impl FeedRing {
    /// An empty ring; the first line of the session gets sequence 1.
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), next_sequence: 1, bytes: 0, lines: 0, max_bytes }
    }

    /// Sequence of the next line.
    pub(super) const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Retains the lines and clears them.
    pub(super) fn push(&mut self, lines: &mut Lines) {
        if lines.marks.is_empty() {
            return;
        }
        debug_assert_eq!(lines.first_sequence(), self.next_sequence, "sequences have no gap");
        let chunk = Chunk {
            first_sequence: lines.first_sequence(),
            bytes: Bytes::copy_from_slice(&lines.bytes), // exact size; the buffer is reused
            marks: Box::from(lines.marks.as_slice()),
        };
        lines.bytes.clear();
        lines.marks.clear();
        self.next_sequence = chunk.end_sequence();
        self.bytes += chunk.cost_bytes();
        self.lines += chunk.marks.len();
        self.chunks.push_back(chunk);
        // The newest chunk stays, however large.
        while self.chunks.len() > 1
            && (self.bytes > self.max_bytes || self.lines > MAX_RETAINED_LINES)
        {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.cost_bytes();
            self.lines -= oldest.marks.len();
        }
    }

    /// Whether a reader can begin at this sequence.
    pub(super) fn can_begin_at(&self, sequence: u64) -> bool {
        let oldest = self.chunks.front().map_or(self.next_sequence, |chunk| chunk.first_sequence);
        (oldest..=self.next_sequence).contains(&sequence)
    }

    /// The lines from `position` on, of the symbols in `filter`; `None` for all.
    pub(super) fn read(&self, position: u64, filter: Option<&[bool]>) -> Read {
        if position == self.next_sequence {
            return Read::AtEnd;
        }
        let after = self.chunks.partition_point(|chunk| chunk.end_sequence() <= position);
        let Some(chunk) = self.chunks.get(after) else { return Read::Gone };
        let Some(skip) = position.checked_sub(chunk.first_sequence) else { return Read::Gone };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let next = chunk.end_sequence();
        let bytes = match filter {
            None => chunk.bytes.slice(chunk.line_start(skip)..),
            Some(symbols) => filtered(chunk, skip, symbols),
        };
        Read::Lines { bytes, next }
    }

    /// The order lines of the newest chunk.
    pub(super) fn order_lines_of_newest(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.back().into_iter().flat_map(|chunk| {
            let lines = chunk.marks.iter().enumerate().filter(|(_, mark)| mark.of_order);
            lines.filter_map(|(index, mark)| {
                chunk.bytes.get(chunk.line_start(index)..mark.end as usize)
            })
        })
    }
}

fn filtered(chunk: &Chunk, skip: usize, symbols: &[bool]) -> Bytes {
    let mut out = Vec::new();
    for (index, mark) in chunk.marks.iter().enumerate().skip(skip) {
        if symbols.get(usize::from(mark.symbol)).copied().unwrap_or(false) {
            let line = chunk.bytes.get(chunk.line_start(index)..mark.end as usize);
            out.extend_from_slice(line.unwrap_or_default());
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::super::line::{LineSymbol, LineTrade};
    use super::*;
    use crate::types::{PriceCents, TimestampMicros};

    fn push(ring: &mut FeedRing, lines: &mut Lines, count: u64) {
        for sequence in ring.next_sequence()..ring.next_sequence() + count {
            let even = sequence % 2 == 0;
            let (place, name) = if even { (0, "EVEN") } else { (1, "ODD") };
            let price = PriceCents::new(5).unwrap();
            let trade = LineTrade { symbol: LineSymbol { place, name }, price, shares: 1 };
            lines.print(trade, TimestampMicros::new(0));
        }
        ring.push(lines);
    }

    fn sequences(bytes: &[u8]) -> Vec<u64> {
        let line = |line: &str| {
            serde_json::from_str::<crate::exchange::wire::FeedLine>(line).unwrap().sequence
        };
        std::str::from_utf8(bytes).unwrap().lines().map(line).collect()
    }

    fn read_all(ring: &FeedRing, mut position: u64, filter: Option<&[bool]>) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            match ring.read(position, filter) {
                Read::Lines { bytes, next } => {
                    all.extend(sequences(&bytes));
                    position = next;
                }
                Read::AtEnd => return all,
                Read::Gone => panic!("position {position} is gone"),
            }
        }
    }

    #[test]
    fn reading_from_any_position_has_no_gap_and_no_repeat() {
        let (mut ring, mut lines) = (FeedRing::new(1 << 20), Lines::new(1));
        assert_eq!(ring.read(1, None), Read::AtEnd);
        for count in [1, 3, 0, 5, 2] {
            push(&mut ring, &mut lines, count);
        }
        for from in 1..=12 {
            assert!(ring.can_begin_at(from));
            assert_eq!(read_all(&ring, from, None), (from..12).collect::<Vec<_>>());
        }
        assert!(!ring.can_begin_at(0) && !ring.can_begin_at(13));
        assert_eq!(ring.read(13, None), Read::Gone);
        assert_eq!(read_all(&ring, 4, Some(&[true, false])), [4, 6, 8, 10]);
    }

    #[test]
    fn the_oldest_lines_are_dropped_beyond_the_byte_limit() {
        let (mut ring, mut lines) = (FeedRing::new(4_096), Lines::new(1));
        for _ in 0..100 {
            push(&mut ring, &mut lines, 3);
        }
        assert!(ring.bytes <= 4_096);
        assert_eq!(ring.read(1, None), Read::Gone);
        assert!(!ring.can_begin_at(1) && ring.can_begin_at(301));
    }
}

//! A cheap parser of Server-Sent Events for load clients: it finds the blocks and the timestamps of
//! price events, and leaves everything else unparsed.

use memchr::memmem;

/// Longest accepted block. An `open` event lists all symbols of a stream; no block of the contract
/// comes near this.
const MAX_BLOCK_BYTES: usize = 256 * 1024;

/// One block of the stream, as far as a load client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// `event: price`, with the time of the price in microseconds since the Unix epoch.
    Price {
        /// The `timestamp` of its data.
        timestamp_micros: u64,
    },
    /// `event: open`, alone or after the first `retry:`.
    Open,
    /// A comment: the heartbeat of a silent stream.
    Heartbeat,
    /// A block with just an `id:`.
    Id,
    /// `event: gap`: a stream with every print has lost some.
    Gap,
    /// Any other event, or a price without a readable timestamp.
    Other,
}

/// A stream sent a block that never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndlessBlock;

/// Finds block ends and timestamps. Its searchers are prepared once for all streams of a thread.
#[derive(Debug)]
pub(crate) struct FrameParser {
    block_end: memmem::Finder<'static>,
    timestamp: memmem::Finder<'static>,
    open: memmem::Finder<'static>,
}

impl Default for FrameParser {
    fn default() -> Self {
        Self {
            block_end: memmem::Finder::new(b"\n\n"),
            timestamp: memmem::Finder::new(b"\"timestamp\":"),
            open: memmem::Finder::new(b"event: open"),
        }
    }
}

impl FrameParser {
    /// Visits every complete block of `tail` followed by `data`, and leaves the incomplete rest in
    /// `tail`. Each stream has its own tail, which is nearly always empty.
    ///
    /// # Errors
    /// [`EndlessBlock`] when a single block grows over the limit.
    pub(crate) fn feed(
        &self,
        tail: &mut Vec<u8>,
        data: &[u8],
        mut visit: impl FnMut(Block),
    ) -> Result<(), EndlessBlock> {
        if tail.is_empty() {
            let consumed = self.blocks(data, &mut visit);
            tail.extend_from_slice(data.get(consumed..).unwrap_or_default());
        } else {
            tail.extend_from_slice(data);
            let consumed = self.blocks(tail, &mut visit);
            tail.drain(..consumed);
        }
        if tail.len() > MAX_BLOCK_BYTES { Err(EndlessBlock) } else { Ok(()) }
    }

    /// Visits the complete blocks of `data`; returns how many bytes they took.
    fn blocks(&self, data: &[u8], visit: &mut impl FnMut(Block)) -> usize {
        let mut start = 0;
        while let Some(rest) = data.get(start..) {
            let Some(length) = self.block_end.find(rest) else { break };
            visit(self.classify(rest.get(..length).unwrap_or_default()));
            start += length + 2;
        }
        start
    }

    /// Longbow's prices are `event: price`; nchan's events have no name and begin with an id.
    fn classify(&self, block: &[u8]) -> Block {
        if block.starts_with(b"event: price\n") || block.starts_with(b"data: ") {
            return self.price(block);
        }
        if block.starts_with(b":") {
            // In Longbow's streams a comment is not a block of its own.
            return match block.iter().position(|&byte| byte == b'\n') {
                Some(end) => self.classify(block.get(end + 1..).unwrap_or_default()),
                None => Block::Heartbeat,
            };
        }
        if block.starts_with(b"id:") {
            return if block.contains(&b'\n') { self.price(block) } else { Block::Id };
        }
        if block.starts_with(b"event: gap\n") {
            return Block::Gap;
        }
        if self.open.find(block).is_some() { Block::Open } else { Block::Other }
    }

    fn price(&self, block: &[u8]) -> Block {
        match timestamp_at_end(block).or_else(|| self.timestamp_of(block)) {
            Some(timestamp_micros) => Block::Price { timestamp_micros },
            None => Block::Other,
        }
    }

    fn timestamp_of(&self, block: &[u8]) -> Option<u64> {
        let at = self.timestamp.find(block)? + self.timestamp.needle().len();
        let digits = block.get(at..)?;
        let mut value: u64 = 0;
        let mut length = 0;
        for byte in digits {
            if !byte.is_ascii_digit() {
                break;
            }
            value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            length += 1;
        }
        (length > 0).then_some(value)
    }
}

/// The timestamp as the last member, where all measured servers write it. This is cheaper than
/// searching each price for it.
fn timestamp_at_end(block: &[u8]) -> Option<u64> {
    let data = block.strip_suffix(b"}")?;
    let (mut value, mut power, mut digits) = (0_u64, 1_u64, 0);
    for byte in data.iter().rev() {
        if !byte.is_ascii_digit() {
            break;
        }
        value = value.checked_add(power.checked_mul(u64::from(byte - b'0'))?)?;
        power = power.checked_mul(10)?;
        digits += 1;
    }
    let before = data.get(..data.len() - digits)?;
    (digits > 0 && before.ends_with(b"\"timestamp\":")).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: &str = "event: price\ndata: {\"symbol\":\"META\",\"priceInCents\":52210,\"timestamp\":1732400000123456}\n\n";
    const STREAM: &str = "retry: 3140\nevent: open\ndata: {\"streamId\":\"x\",\"symbols\":[\"META\"],\"heartbeatMs\":15000}\n\n";

    fn read_in_pieces(text: &str, piece: usize) -> Vec<Block> {
        let parser = FrameParser::default();
        let (mut tail, mut blocks) = (Vec::new(), Vec::new());
        for data in text.as_bytes().chunks(piece) {
            parser.feed(&mut tail, data, |block| blocks.push(block)).unwrap();
        }
        assert!(tail.is_empty(), "every block was complete");
        blocks
    }

    #[test]
    fn every_block_is_seen_however_the_bytes_are_cut() {
        let text = format!(
            "{STREAM}{PRICE}id: 7-184467\n\n: hb\n\n: hb\n: hb\n{PRICE}event: feed\ndata: {{\"up\":false}}\n\n"
        );
        let price = Block::Price { timestamp_micros: 1_732_400_000_123_456 };
        let expected = [Block::Open, price, Block::Id, Block::Heartbeat, price, Block::Other];
        for piece in [1, 2, 3, 7, 50, 89, text.len()] {
            assert_eq!(read_in_pieces(&text, piece), expected, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn an_incomplete_block_waits() {
        let parser = FrameParser::default();
        let mut tail = Vec::new();
        let (start, end) = PRICE.split_at(PRICE.len() - 1);
        parser.feed(&mut tail, start.as_bytes(), |_| panic!("incomplete")).unwrap();
        let mut seen = 0;
        parser.feed(&mut tail, end.as_bytes(), |_| seen += 1).unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_price_without_a_timestamp_is_not_counted_as_a_price() {
        for data in ["{}", "{\"timestamp\":}", "{\"timestamp\":99999999999999999999}"] {
            let text = format!("event: price\ndata: {data}\n\n");
            assert_eq!(read_in_pieces(&text, text.len()), [Block::Other]);
        }
    }

    #[test]
    fn a_timestamp_is_found_wherever_it_stands() {
        for data in ["{\"timestamp\":12,\"symbol\":\"A\"}", "{\"symbol\":\"A\",\"timestamp\":12}"] {
            let text = format!("event: price\ndata: {data}\n\n");
            assert_eq!(read_in_pieces(&text, 9), [Block::Price { timestamp_micros: 12 }], "{data}");
        }
    }

    #[test]
    fn events_of_nchan_are_prices_and_lost_prints_are_seen() {
        let text = ": hi\n\nid: 1795725474:0,[0],-\ndata: {\"symbol\":\"A\",\"timestamp\":7}\n\n\
            event: gap\ndata: {\"from\":\"1-2\",\"to\":\"1-5\"}\n\n";
        let expected = [Block::Heartbeat, Block::Price { timestamp_micros: 7 }, Block::Gap];
        assert_eq!(read_in_pieces(text, 11), expected);
    }

    #[test]
    fn a_block_that_never_ends_is_refused() {
        let parser = FrameParser::default();
        let mut tail = Vec::new();
        let piece = [b'x'; 64 * 1024];
        let refused = (0..8).any(|_| parser.feed(&mut tail, &piece, |_| ()).is_err());
        assert!(refused);
    }
}

use crate::market::{Directory, LastValue, LastValueTable, SymbolMap};
use crate::types::SymbolIndex;

use super::feed::FeedPosition;
use super::frame::{MAX_FRAME_BYTES, PriceFrame, write_price};

/// The newest price frame of each watched symbol, encoded when it is first wanted after a change and
/// shared by all streams.
#[derive(Debug)]
pub(super) struct FrameCache {
    frames: SymbolMap<Option<Box<Newest>>>,
    scratch: Vec<u8>,
}

/// The newest price of one symbol.
#[derive(Debug, Default)]
struct Newest {
    /// Encoded; empty when it must be encoded again, and where the symbol has never traded.
    frame: PriceFrame,
    /// Where its tick stands in the feed.
    position: FeedPosition,
}

impl FrameCache {
    /// An empty cache.
    pub(super) fn new() -> Self {
        let frames = SymbolMap::filled_with(|| None);
        Self { frames, scratch: Vec::with_capacity(MAX_FRAME_BYTES) }
    }

    /// The symbol has changed: the next call of [`get`](Self::get) encodes it again.
    pub(super) fn invalidate(&mut self, symbol: SymbolIndex) {
        // Otherwise no stream has wanted it yet.
        if let Some(newest) = &mut self.frames[symbol] {
            newest.frame.clear();
        }
    }

    /// No stream watches the symbol any longer: frees its memory.
    pub(super) fn forget(&mut self, symbol: SymbolIndex) {
        self.frames[symbol] = None;
    }

    /// The frame of a watched symbol, and the price in it if this call has encoded it. Empty for a
    /// symbol that has never traded.
    #[inline]
    pub(super) fn get(
        &mut self,
        symbol: SymbolIndex,
        table: &LastValueTable,
        directory: &Directory,
    ) -> (&[u8], Option<i64>) {
        let Newest { frame, position } = &mut **self.frames[symbol].get_or_insert_default();
        if !frame.bytes().is_empty() {
            return (frame.bytes(), None);
        }
        let value = table.get(symbol);
        encode(&mut self.scratch, symbol, &value, directory);
        *frame = PriceFrame::new(&self.scratch);
        *position = FeedPosition { ordinal: value.last_ordinal, sequence: value.last_sequence };
        debug_assert!(
            frame.bytes().is_empty() != value.has_price(),
            "a symbol has a frame as long as it has a price"
        );
        (frame.bytes(), value.has_price().then_some(value.price_cents))
    }

    /// Where the price that [`get`](Self::get) returned last stands in the feed.
    pub(super) fn position(&self, symbol: SymbolIndex) -> FeedPosition {
        let Some(newest) = &self.frames[symbol] else {
            unreachable!("a price is encoded before its position is asked for")
        };
        newest.position
    }
}

/// Encodes the symbol's newest price; nothing where it has never traded.
fn encode(out: &mut Vec<u8>, symbol: SymbolIndex, value: &LastValue, directory: &Directory) {
    out.clear();
    if !value.has_price() {
        return;
    }
    let Some(listing) = directory.listing(symbol) else {
        unreachable!("a symbol is listed before it is watched, and its listing stays")
    };
    write_price(out, &listing.symbol, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MAX_PRICE_CENTS, Symbol, TimestampMicros};

    #[test]
    fn the_longest_frame_fits() {
        let mut out = Vec::new();
        let value = LastValue {
            price_cents: MAX_PRICE_CENTS,
            timestamp: TimestampMicros::new(u64::MAX),
            ..LastValue::default()
        };
        write_price(&mut out, &Symbol::new("ABCDEFGHIJKLMNO").unwrap(), &value);
        assert_eq!(PriceFrame::new(&out).bytes(), out);
    }
}

use crate::market::{Directory, LastValueTable};
use crate::types::{MAX_SYMBOLS, SymbolIndex};

use super::frame::{MAX_FRAME_BYTES, write_price};

/// One symbol's newest price frame, encoded once and sent to everybody who wants it.
#[derive(Debug)]
struct Frame {
    bytes: [u8; MAX_FRAME_BYTES],
    length: u8,
}

/// The newest price frame of each symbol that somebody watches, encoded when it is first wanted
/// after a change.
#[derive(Debug)]
pub(super) struct FrameCache {
    frames: Vec<Option<Box<Frame>>>,
    scratch: Vec<u8>,
}

impl FrameCache {
    pub fn new() -> Self {
        let frames = std::iter::repeat_with(|| None).take(MAX_SYMBOLS).collect();
        Self { frames, scratch: Vec::with_capacity(MAX_FRAME_BYTES) }
    }

    /// The symbol changed: its frame is encoded anew when somebody wants it.
    pub fn invalidate(&mut self, index: SymbolIndex) {
        if let Some(Some(frame)) = self.frames.get_mut(index.get()) {
            frame.length = 0;
        }
    }

    /// Nobody watches the symbol any longer: its memory goes.
    pub fn forget(&mut self, index: SymbolIndex) {
        if let Some(slot) = self.frames.get_mut(index.get()) {
            *slot = None;
        }
    }

    /// The frame of a symbol, and the price in it when it was encoded by this call. Empty for a
    /// symbol that has never traded.
    pub fn get(
        &mut self,
        index: SymbolIndex,
        table: &LastValueTable,
        directory: &Directory,
    ) -> (&[u8], Option<i64>) {
        let Some(slot) = self.frames.get_mut(index.get()) else { return (&[], None) };
        let frame =
            slot.get_or_insert_with(|| Box::new(Frame { bytes: [0; MAX_FRAME_BYTES], length: 0 }));
        let mut encoded_price = None;
        if frame.length == 0 {
            let value = table.get(index);
            if let (true, Some(listing)) = (value.has_price(), directory.listing(index)) {
                self.scratch.clear();
                write_price(&mut self.scratch, &listing.symbol, &value);
                debug_assert!(self.scratch.len() <= MAX_FRAME_BYTES, "the longest frame fits");
                for (to, from) in frame.bytes.iter_mut().zip(&self.scratch) {
                    *to = *from;
                }
                frame.length = u8::try_from(self.scratch.len()).unwrap_or(0);
                encoded_price = Some(value.price_cents);
            }
        }
        (frame.bytes.get(..usize::from(frame.length)).unwrap_or_default(), encoded_price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::LastValue;
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
        assert!(out.len() <= MAX_FRAME_BYTES, "{}", out.len());
    }
}

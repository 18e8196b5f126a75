//! The prices that a shard has encoded for its streams, and which of them are news.

use crate::market::{Directory, LastValueTable, SymbolMap, Tick};
use crate::types::SymbolIndex;

use super::feed::FeedPosition;
use super::frame::{MAX_FRAME_BYTES, write_print};
use super::frame_cache::FrameCache;
use super::history::History;
use super::symbol_set::SymbolSet;

/// What the streams of a shard are sent from: the newest price of each watched symbol, and the
/// history of prints for the streams that want each of them.
#[derive(Debug)]
pub(super) struct Prices {
    frames: FrameCache,
    /// The newest price of each symbol that a tick or a frame has shown; another one is news.
    known_cents: SymbolMap<i64>,
    /// Symbols whose newest price is news.
    changed: SymbolSet,
    history: History,
    /// Symbols with new prints in the history.
    printed: SymbolSet,
    scratch: Vec<u8>,
}

impl Prices {
    /// Nothing is known, and at most `kept_prints` will be kept.
    pub(super) fn new(kept_prints: u32) -> Self {
        Self {
            frames: FrameCache::new(),
            known_cents: SymbolMap::filled_with(|| 0),
            changed: SymbolSet::new(),
            history: History::new(kept_prints),
            printed: SymbolSet::new(),
            scratch: Vec::with_capacity(MAX_FRAME_BYTES),
        }
    }

    /// The kept prints.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// A stream is the first to want the newest price of this symbol.
    pub(super) fn begin(&mut self, symbol: SymbolIndex, table: &LastValueTable) {
        self.known_cents[symbol] = table.get(symbol).price_cents;
        self.frames.invalidate(symbol);
    }

    /// Notes the newest price of a watched symbol.
    #[inline]
    pub(super) fn note(&mut self, symbol: SymbolIndex, price_cents: i64) {
        let known = &mut self.known_cents[symbol];
        if *known != price_cents {
            *known = price_cents;
            self.changed.insert(symbol);
        }
    }

    /// Keeps a print of a symbol that some stream wants every print of.
    pub(super) fn keep(&mut self, tick: &Tick, directory: &Directory) {
        let Some(listing) = directory.listing(tick.symbol) else {
            unreachable!("a symbol is listed before it is watched, and its listing stays")
        };
        self.scratch.clear();
        write_print(&mut self.scratch, &listing.symbol, tick.price_cents, tick.timestamp);
        let position = FeedPosition { ordinal: tick.ordinal, sequence: tick.sequence };
        self.history.push(tick.symbol, position, &self.scratch);
        self.printed.insert(tick.symbol);
    }

    /// A symbol whose newest price is news. Its frame is encoded again when it is next wanted.
    pub(super) fn pop_changed(&mut self) -> Option<SymbolIndex> {
        let symbol = self.changed.pop()?;
        self.frames.invalidate(symbol);
        Some(symbol)
    }

    /// A symbol with new prints. Its frame is encoded again too: a snapshot is as new as the prints.
    pub(super) fn pop_printed(&mut self) -> Option<SymbolIndex> {
        let symbol = self.printed.pop()?;
        self.frames.invalidate(symbol);
        Some(symbol)
    }

    /// The symbol's frame is encoded again when it is next wanted.
    pub(super) fn invalidate(&mut self, symbol: SymbolIndex) {
        self.frames.invalidate(symbol);
    }

    /// The frame with the newest price of a watched symbol; empty where it has never traded.
    #[inline]
    pub(super) fn newest(
        &mut self,
        symbol: SymbolIndex,
        table: &LastValueTable,
        directory: &Directory,
    ) -> &[u8] {
        let (frame, encoded_cents) = self.frames.get(symbol, table, directory);
        if let Some(price_cents) = encoded_cents {
            self.known_cents[symbol] = price_cents;
        }
        frame
    }

    /// Where the price that [`newest`](Self::newest) returned last stands in the feed. The shard may
    /// not have followed the feed up to there.
    pub(super) fn newest_position(&self, symbol: SymbolIndex) -> FeedPosition {
        self.frames.position(symbol)
    }

    /// No stream wants every print of the symbol any longer.
    pub(super) fn forget_prints(&mut self, symbol: SymbolIndex) {
        self.history.forget(symbol);
    }

    /// No stream watches the symbol any longer.
    pub(super) fn forget(&mut self, symbol: SymbolIndex) {
        self.frames.forget(symbol);
    }
}

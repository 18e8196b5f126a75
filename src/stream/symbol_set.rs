use crate::market::SymbolMap;
use crate::types::SymbolIndex;

/// A set of symbols: each is in it once, however often it was inserted.
#[derive(Debug)]
pub(super) struct SymbolSet {
    symbols: Vec<SymbolIndex>,
    is_in: SymbolMap<bool>,
}

impl SymbolSet {
    /// An empty set.
    pub(super) fn new() -> Self {
        Self { symbols: Vec::new(), is_in: SymbolMap::filled_with(|| false) }
    }

    /// Puts a symbol in.
    pub(super) fn insert(&mut self, symbol: SymbolIndex) {
        if !std::mem::replace(&mut self.is_in[symbol], true) {
            self.symbols.push(symbol);
        }
    }

    /// Takes one out, the last one first.
    pub(super) fn pop(&mut self) -> Option<SymbolIndex> {
        let symbol = self.symbols.pop()?;
        assert!(std::mem::take(&mut self.is_in[symbol]), "a symbol in the list is in the set");
        Some(symbol)
    }
}

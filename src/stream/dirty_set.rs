use crate::types::{MAX_SYMBOLS, SymbolIndex};

/// Symbols with news, each once however often it had some.
#[derive(Debug)]
pub(super) struct DirtySet {
    symbols: Vec<SymbolIndex>,
    is_in: Vec<bool>,
}

impl DirtySet {
    pub fn new() -> Self {
        Self { symbols: Vec::new(), is_in: vec![false; MAX_SYMBOLS] }
    }

    pub fn insert(&mut self, symbol: SymbolIndex) {
        if let Some(is_in) = self.is_in.get_mut(symbol.get())
            && !std::mem::replace(is_in, true)
        {
            self.symbols.push(symbol);
        }
    }

    pub fn pop(&mut self) -> Option<SymbolIndex> {
        let symbol = self.symbols.pop()?;
        if let Some(is_in) = self.is_in.get_mut(symbol.get()) {
            *is_in = false;
        }
        Some(symbol)
    }
}

use std::ops::{Index, IndexMut};

use crate::types::{MAX_SYMBOLS, SymbolIndex};

/// One value per [`SymbolIndex`]. Every index has its value from the start, so a lookup cannot
/// fail.
#[derive(Debug)]
pub struct SymbolMap<T>(Box<[T]>);

impl<T> SymbolMap<T> {
    /// A map with the value of `initial` at every index.
    pub fn filled_with(initial: impl FnMut() -> T) -> Self {
        Self(std::iter::repeat_with(initial).take(MAX_SYMBOLS).collect())
    }
}

#[expect(clippy::indexing_slicing, reason = "a SymbolIndex is below MAX_SYMBOLS, the length")]
impl<T> Index<SymbolIndex> for SymbolMap<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: SymbolIndex) -> &T {
        &self.0[index.get()]
    }
}

#[expect(clippy::indexing_slicing, reason = "a SymbolIndex is below MAX_SYMBOLS, the length")]
impl<T> IndexMut<SymbolIndex> for SymbolMap<T> {
    #[inline]
    fn index_mut(&mut self, index: SymbolIndex) -> &mut T {
        &mut self.0[index.get()]
    }
}

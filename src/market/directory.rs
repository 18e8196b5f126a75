use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::types::{MAX_SYMBOLS, PriceCents, Symbol, SymbolIndex};

/// One symbol as the exchange lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The name.
    pub symbol: Symbol,
    /// Last price of the previous session.
    pub previous_close: PriceCents,
    /// Where its prints come from, in the exchange's words.
    pub source: Arc<str>,
    /// Whether its prices are made up.
    pub synthetic: bool,
}

/// The exchange lists more symbols than the last-value table has slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the exchange lists more than {MAX_SYMBOLS} symbols; the rest is left out")]
pub struct DirectoryFull;

/// All symbols at one moment. Immutable; an index never changes its meaning.
#[derive(Debug, Default)]
pub struct Directory {
    listings: Vec<Listing>,
    by_name: BTreeMap<Symbol, SymbolIndex>,
}

impl Directory {
    /// Place of a symbol, `None` for an unknown one.
    pub fn index_of(&self, symbol: &Symbol) -> Option<SymbolIndex> {
        self.by_name.get(symbol).copied()
    }

    /// What the exchange says of a symbol.
    pub fn listing(&self, index: SymbolIndex) -> Option<&Listing> {
        self.listings.get(index.get())
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.listings.len()
    }

    /// Whether the exchange has not told its symbols yet.
    pub fn is_empty(&self) -> bool {
        self.listings.is_empty()
    }

    /// Listings in the order of their names, from the first name after `after`.
    pub fn listings_after(&self, after: Option<Symbol>) -> impl Iterator<Item = &Listing> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range((start, Bound::Unbounded)).filter_map(|(_, &index)| self.listing(index))
    }

    /// This directory with listings added; known symbols take their new description.
    fn extended(&self, added: &[Listing]) -> (Self, Result<(), DirectoryFull>) {
        let (mut listings, mut by_name) = (self.listings.clone(), self.by_name.clone());
        let mut outcome = Ok(());
        for listing in added {
            if let Some(known) =
                by_name.get(&listing.symbol).and_then(|index| listings.get_mut(index.get()))
            {
                known.clone_from(listing);
            } else if let Some(index) = SymbolIndex::new(listings.len()) {
                by_name.insert(listing.symbol, index);
                listings.push(listing.clone());
            } else {
                outcome = Err(DirectoryFull);
            }
        }
        (Self { listings, by_name }, outcome)
    }
}

/// The directory that everybody reads, replaced as a whole when symbols are added.
#[derive(Debug, Default)]
pub struct SharedDirectory(ArcSwap<Directory>);

impl SharedDirectory {
    /// The directory as it is now.
    pub fn load(&self) -> Arc<Directory> {
        self.0.load_full()
    }

    /// Adds or renews listings. Called by the feed thread alone.
    ///
    /// # Errors
    /// Some did not fit; those that did are there.
    pub fn extend(&self, added: &[Listing]) -> Result<(), DirectoryFull> {
        let (directory, outcome) = self.0.load().extended(added);
        self.0.store(Arc::new(directory));
        outcome
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn listing(name: &str) -> Listing {
        Listing {
            symbol: Symbol::new(name).unwrap(),
            previous_close: PriceCents::new(100).unwrap(),
            source: Arc::from("test"),
            synthetic: false,
        }
    }

    #[test]
    fn an_index_keeps_its_meaning_while_symbols_are_added() {
        let shared = SharedDirectory::default();
        shared.extend(&[listing("B"), listing("A")]).unwrap();
        let before = shared.load().index_of(&Symbol::new("B").unwrap()).unwrap();
        shared.extend(&[listing("AA"), listing("B")]).unwrap();
        let directory = shared.load();
        assert_eq!(directory.index_of(&Symbol::new("B").unwrap()), Some(before));
        let names: Vec<_> =
            directory.listings_after(None).map(|listing| listing.symbol.to_string()).collect();
        assert_eq!(names, ["A", "AA", "B"]);
        let after_a: Vec<_> = directory
            .listings_after(Symbol::new("A").ok())
            .map(|listing| listing.symbol.to_string())
            .collect();
        assert_eq!(after_a, ["AA", "B"]);
    }

    #[test]
    fn symbols_beyond_the_table_are_left_out() {
        let shared = SharedDirectory::default();
        let all: Vec<_> = (0..=MAX_SYMBOLS).map(|n| listing(&format!("S{n}"))).collect();
        assert_eq!(shared.extend(&all), Err(DirectoryFull));
        assert_eq!(shared.load().len(), MAX_SYMBOLS);
    }
}

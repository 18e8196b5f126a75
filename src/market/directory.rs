use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::types::{MAX_SYMBOLS, PriceCents, Symbol, SymbolIndex, TimestampMicros};

/// One symbol as the exchange lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub symbol: Symbol,
    /// Last price of the previous trading session; a new symbol has none.
    pub previous_close: Option<PriceCents>,
    /// First price of the trading session, if the exchange tells it.
    pub open: Option<PriceCents>,
    /// The trading session, if the exchange tells it.
    pub session: Option<TradingSession>,
    /// Where its prints come from, as the exchange puts it.
    pub source: Arc<str>,
    /// Whether its prices are synthetic.
    pub synthetic: bool,
}

/// One trading day of a symbol. Ordered by its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TradingSession {
    /// When it begins.
    pub open: TimestampMicros,
    /// When it ends, which is later.
    pub close: TimestampMicros,
}

/// The exchange lists more symbols than this process can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the exchange lists more than {MAX_SYMBOLS} symbols; the rest is left out")]
pub struct DirectoryFull;

/// All symbols at one moment. Immutable. An index stands for the same symbol for good: a symbol that
/// is delisted keeps it in case it comes back.
#[derive(Debug, Default)]
pub struct Directory {
    /// Every symbol that was ever listed, by index.
    listings: Vec<Listing>,
    by_name: BTreeMap<Symbol, SymbolIndex>,
    delisted: BTreeMap<Symbol, SymbolIndex>,
    /// The trading sessions of the listed symbols, by time, each with the number of its symbols.
    sessions: Vec<(TradingSession, usize)>,
}

impl Directory {
    /// The trading sessions that the exchange tells of the listed symbols, by time, each with the number of
    /// its symbols.
    pub fn sessions(&self) -> &[(TradingSession, usize)] {
        &self.sessions
    }

    fn count_sessions(&mut self) {
        let mut counts: BTreeMap<TradingSession, usize> = BTreeMap::new();
        for session in self.listed().filter_map(|(_, listing)| listing.session) {
            *counts.entry(session).or_default() += 1;
        }
        self.sessions = counts.into_iter().collect();
    }

    /// The index of a listed symbol.
    pub fn index_of(&self, symbol: &Symbol) -> Option<SymbolIndex> {
        self.by_name.get(symbol).copied()
    }

    /// What the exchange says of a symbol, or last said of one that it no longer lists.
    pub fn listing(&self, index: SymbolIndex) -> Option<&Listing> {
        self.listings.get(index.get())
    }

    /// How many symbols are listed.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether no symbol is listed, as before the first list.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The index of every symbol that was ever listed.
    pub fn indexes(&self) -> impl Iterator<Item = SymbolIndex> + use<> {
        (0..self.listings.len()).filter_map(SymbolIndex::new)
    }

    /// Listed symbols by name, from the first one after `after`.
    pub fn listings_after(&self, after: Option<Symbol>) -> impl Iterator<Item = &Listing> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range((start, Bound::Unbounded)).map(|(_, &index)| self.known(index))
    }

    /// Listed symbols by name, with their indexes.
    pub fn listed(&self) -> impl Iterator<Item = (SymbolIndex, &Listing)> {
        self.by_name.values().map(|&index| (index, self.known(index)))
    }

    #[expect(clippy::indexing_slicing, reason = "an index is given to a symbol with its listing")]
    fn known(&self, index: SymbolIndex) -> &Listing {
        &self.listings[index.get()]
    }

    /// This directory with listings added. Those of known symbols are replaced.
    fn extended(&self, added: &[Listing]) -> (Self, Result<(), DirectoryFull>) {
        let mut next = Self {
            listings: self.listings.clone(),
            by_name: self.by_name.clone(),
            delisted: self.delisted.clone(),
            sessions: Vec::new(),
        };
        let mut outcome = Ok(());
        for listing in added {
            outcome = outcome.and(next.add(listing));
        }
        next.count_sessions();
        next.assert_invariants();
        (next, outcome)
    }

    fn assert_invariants(&self) {
        assert!(self.listings.len() <= MAX_SYMBOLS, "every symbol has an index");
        assert_eq!(
            self.by_name.len() + self.delisted.len(),
            self.listings.len(),
            "a symbol that was ever listed is listed, or delisted"
        );
    }

    fn add(&mut self, listing: &Listing) -> Result<(), DirectoryFull> {
        let symbol = listing.symbol;
        if let Some(index) = self.delisted.remove(&symbol) {
            self.by_name.insert(symbol, index);
        }
        if let Some(index) = self.by_name.get(&symbol) {
            let Some(known) = self.listings.get_mut(index.get()) else {
                unreachable!("an index is given to a symbol with its listing")
            };
            assert_eq!(known.symbol, symbol, "an index stands for the same symbol for good");
            known.clone_from(listing);
            return Ok(());
        }
        let index = SymbolIndex::new(self.listings.len()).ok_or(DirectoryFull)?;
        self.by_name.insert(symbol, index);
        self.listings.push(listing.clone());
        Ok(())
    }

    /// Delists every symbol for which `stays` is false.
    fn delist(&mut self, stays: impl Fn(&Symbol) -> bool) {
        let gone = self.by_name.extract_if(.., |symbol, _| !stays(symbol));
        self.delisted.extend(gone);
        self.count_sessions();
        self.assert_invariants();
    }
}

/// The current directory, replaced as a whole by each list.
#[derive(Debug, Default)]
pub struct SharedDirectory(ArcSwap<Directory>);

impl SharedDirectory {
    /// The current directory.
    pub fn load(&self) -> Arc<Directory> {
        self.0.load_full()
    }

    /// Adds or replaces listings. Only the feed thread calls this.
    ///
    /// # Errors
    /// Some did not fit; those that did are there.
    pub fn extend(&self, added: &[Listing]) -> Result<(), DirectoryFull> {
        let (directory, outcome) = self.0.load().extended(added);
        self.0.store(Arc::new(directory));
        outcome
    }

    /// Lists these symbols and no others. Only the feed thread calls this.
    ///
    /// # Errors
    /// Some did not fit; those that did are there.
    pub fn replace(&self, listed: &[Listing]) -> Result<(), DirectoryFull> {
        let (mut directory, outcome) = self.0.load().extended(listed);
        let names: BTreeSet<Symbol> = listed.iter().map(|listing| listing.symbol).collect();
        directory.delist(|symbol| names.contains(symbol));
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
            previous_close: PriceCents::new(100).ok(),
            open: None,
            session: None,
            source: Arc::from("test"),
            synthetic: false,
        }
    }

    #[test]
    fn an_index_stands_for_one_symbol_while_others_are_added() {
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
    fn a_symbol_that_is_delisted_keeps_its_index_for_when_it_comes_back() {
        let shared = SharedDirectory::default();
        shared.replace(&[listing("A"), listing("B")]).unwrap();
        let b = Symbol::new("B").unwrap();
        let before = shared.load().index_of(&b).unwrap();
        shared.replace(&[listing("A"), listing("C")]).unwrap();
        let without = shared.load();
        assert_eq!((without.index_of(&b), without.len()), (None, 2));
        assert_eq!(without.listing(before).map(|listing| listing.symbol), Some(b));
        assert!(without.listings_after(None).all(|listing| listing.symbol != b));
        assert_eq!(without.indexes().count(), 3, "a delisted symbol may still be watched");
        shared.replace(&[listing("B")]).unwrap();
        assert_eq!(shared.load().index_of(&b), Some(before));
    }

    #[test]
    fn the_sessions_are_those_of_the_listed_symbols() {
        let session = |open| {
            let (open, close) = (TimestampMicros::new(open), TimestampMicros::new(open + 5));
            TradingSession { open, close }
        };
        let of = |name, open| Listing { session: Some(session(open)), ..listing(name) };
        let shared = SharedDirectory::default();
        shared.replace(&[of("A", 20), of("B", 10), of("C", 20), listing("D")]).unwrap();
        assert_eq!(shared.load().sessions(), [(session(10), 1), (session(20), 2)]);
        shared.replace(&[of("A", 30), of("C", 20)]).unwrap();
        assert_eq!(shared.load().sessions(), [(session(20), 1), (session(30), 1)]);
        shared.extend(&[of("C", 30)]).unwrap();
        assert_eq!(shared.load().sessions(), [(session(30), 2)]);
    }

    #[test]
    fn symbols_beyond_the_table_are_left_out() {
        let shared = SharedDirectory::default();
        let all: Vec<_> = (0..=MAX_SYMBOLS).map(|n| listing(&format!("S{n}"))).collect();
        assert_eq!(shared.extend(&all), Err(DirectoryFull));
        assert_eq!(shared.load().len(), MAX_SYMBOLS);
    }
}

//! Which symbols a node follows: decided from what its streams watch and its requests ask for, without
//! I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::types::SymbolIndex;

/// How long a symbol is followed after nobody watches it any longer, or after it was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// The symbols that are followed, each with when it was last watched or asked for.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(BTreeMap<SymbolIndex, Followed>);

#[derive(Debug, Clone, Copy)]
struct Followed {
    wanted_at: Instant,
    /// Redis has confirmed the subscription, and the last value was read after that.
    is_current: bool,
}

impl Subscriptions {
    /// Notes which symbols are watched or asked for now.
    pub(super) fn want(&mut self, symbols: impl Iterator<Item = SymbolIndex>, now: Instant) {
        for symbol in symbols {
            let followed = Followed { wanted_at: now, is_current: false };
            self.0.entry(symbol).or_insert(followed).wanted_at = now;
        }
    }

    /// The symbols that are to be subscribed to, at most `limit`.
    pub(super) fn missing(&self, limit: usize) -> Vec<SymbolIndex> {
        let missing = self.0.iter().filter(|(_, followed)| !followed.is_current);
        missing.map(|(symbol, _)| *symbol).take(limit).collect()
    }

    /// The symbol is subscribed to.
    pub(super) fn confirm(&mut self, symbol: SymbolIndex) {
        if let Some(followed) = self.0.get_mut(&symbol) {
            followed.is_current = true;
        }
    }

    /// Takes out the symbols that nobody has wanted for a while, as far as they are subscribed to.
    pub(super) fn take_unwanted(&mut self, now: Instant) -> Vec<SymbolIndex> {
        let is_unwanted =
            |followed: &Followed| now.saturating_duration_since(followed.wanted_at) >= GRACE;
        let taken = self.0.extract_if(.., |_, followed| is_unwanted(followed));
        taken.filter(|(_, followed)| followed.is_current).map(|(symbol, _)| symbol).collect()
    }

    /// The connection is lost, and every subscription with it.
    pub(super) fn lose(&mut self) {
        for followed in self.0.values_mut() {
            followed.is_current = false;
        }
    }

    /// Whether a symbol is subscribed to.
    pub(super) fn has(&self, symbol: SymbolIndex) -> bool {
        self.0.get(&symbol).is_some_and(|followed| followed.is_current)
    }

    /// Whether all that are wanted are subscribed to.
    pub(super) fn are_complete(&self) -> bool {
        self.0.values().all(|followed| followed.is_current)
    }

    /// Those that are subscribed to.
    pub(super) fn current(&self) -> Vec<SymbolIndex> {
        let current = self.0.iter().filter(|(_, followed)| followed.is_current);
        current.map(|(symbol, _)| *symbol).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(numbers: &[usize]) -> Vec<SymbolIndex> {
        numbers.iter().map(|number| SymbolIndex::new(*number).unwrap()).collect()
    }

    #[test]
    fn a_symbol_is_followed_until_a_while_after_it_was_last_wanted() {
        let (mut subscriptions, start) = (Subscriptions::default(), Instant::now());
        subscriptions.want(symbols(&[1, 2, 3]).into_iter(), start);
        assert_eq!(subscriptions.missing(2), symbols(&[1, 2]));
        for symbol in symbols(&[1, 2]) {
            subscriptions.confirm(symbol);
        }
        assert!(!subscriptions.are_complete());
        assert_eq!(subscriptions.missing(9), symbols(&[3]));
        subscriptions.want(symbols(&[2]).into_iter(), start + GRACE);
        let gone = subscriptions.take_unwanted(start + GRACE);
        assert_eq!(gone, symbols(&[1]), "the third was never subscribed to");
        assert_eq!(subscriptions.current(), symbols(&[2]));
        assert!(subscriptions.are_complete());
        subscriptions.lose();
        assert_eq!(subscriptions.missing(9), symbols(&[2]));
        assert_eq!(subscriptions.take_unwanted(start + 3 * GRACE), symbols(&[]));
    }
}

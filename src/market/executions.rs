//! The newest executions of all symbols, for busts.

use super::day::DayPrint;
use crate::types::SymbolIndex;

/// Busts of prints that are not remembered of which a repetition is noticed.
const UNMATCHED: usize = 1_024;

#[derive(Debug, Clone, Copy)]
struct Remembered {
    execution: u64,
    /// Its position among all prints of this process.
    position: u64,
    cents: i64,
    /// Shares that still count.
    shares: u64,
    symbol: SymbolIndex,
    is_taken_back: bool,
}

/// What a bust takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakenBack {
    /// Shares that no longer count.
    pub(super) shares: u64,
    /// The price, unless an earlier bust of the same execution has taken it back.
    pub(super) cents: Option<i64>,
    /// Whether it was a print of the current day.
    pub(super) is_of_day: bool,
    /// The new last print, if this was the last.
    pub(super) new_last: Option<DayPrint>,
}

/// A bounded memory of executions. Its room is allocated at once, so a print allocates nothing.
#[derive(Debug)]
pub(super) struct Executions {
    ring: Vec<Remembered>,
    /// Most prints that are remembered.
    limit: usize,
    /// Prints so far.
    position: u64,
    unmatched: Vec<u64>,
}

impl Executions {
    /// A memory of the newest `limit` prints.
    pub(super) fn new(limit: usize) -> Self {
        assert!(limit > 0, "the newest print is remembered");
        Self { ring: Vec::with_capacity(limit), limit, position: 0, unmatched: Vec::new() }
    }

    /// Remembers a print.
    pub(super) fn note(&mut self, execution: u64, symbol: SymbolIndex, cents: i64, shares: u64) {
        let position = self.position;
        let is_taken_back = false;
        let print = Remembered { execution, position, cents, shares, symbol, is_taken_back };
        if self.ring.len() < self.limit {
            self.ring.push(print);
        } else {
            let limit = self.limit as u64;
            let oldest = std::mem::replace(self.oldest_mut(), print);
            debug_assert!(oldest.position + limit == position, "the oldest print gives way");
        }
        self.position += 1;
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a remainder is below the limit, the length of a full ring"
    )]
    fn oldest_mut(&mut self) -> &mut Remembered {
        &mut self.ring[(self.position % self.limit as u64) as usize]
    }

    /// The position of the next print.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Whether all prints from `position` on are remembered.
    pub(super) fn remembers_since(&self, position: u64) -> bool {
        assert!(position <= self.position, "a day does not begin after the next print");
        self.position - position <= self.ring.len() as u64
    }

    /// Takes an execution back, or `shares` of it. It is a print of the day if its position is at least
    /// `day_begin`. `None` when it is not remembered.
    pub(super) fn take_back(
        &mut self,
        execution: u64,
        symbol: SymbolIndex,
        shares: Option<u64>,
        day_begin: u64,
    ) -> Option<TakenBack> {
        let is_meant =
            |print: &&mut Remembered| print.execution == execution && print.symbol == symbol;
        let print = self.ring.iter_mut().find(is_meant)?;
        let taken = shares.unwrap_or(print.shares).min(print.shares);
        print.shares -= taken;
        let is_first = !std::mem::replace(&mut print.is_taken_back, true);
        let cents = is_first.then_some(print.cents);
        let is_of_day = print.position >= day_begin;
        Some(TakenBack { shares: taken, cents, is_of_day, new_last: None })
    }

    /// Whether this is the first bust of an execution that is not remembered.
    pub(super) fn is_first_unmatched(&mut self, execution: u64) -> bool {
        if self.unmatched.contains(&execution) {
            return false;
        }
        if self.unmatched.len() == UNMATCHED {
            self.unmatched.remove(0);
        }
        self.unmatched.push(execution);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64;

    #[test]
    fn an_execution_is_taken_back_once_and_never_more_than_it_had() {
        let (spy, ibm) = (SymbolIndex::new(0).unwrap(), SymbolIndex::new(1).unwrap());
        let mut executions = Executions::new(LIMIT);
        executions.note(7, spy, 100, 50);
        executions.note(7, ibm, 200, 10);
        let first = executions.take_back(7, spy, Some(30), 0).unwrap();
        assert_eq!((first.shares, first.cents), (30, Some(100)));
        let second = executions.take_back(7, spy, Some(30), 0).unwrap();
        assert_eq!((second.shares, second.cents), (20, None));
        assert_eq!(executions.take_back(7, ibm, None, 2).unwrap().shares, 10);
        assert_eq!(executions.take_back(8, spy, None, 0), None);
        assert!(executions.is_first_unmatched(8) && !executions.is_first_unmatched(8));
    }

    #[test]
    fn the_oldest_are_forgotten_and_that_is_known() {
        let spy = SymbolIndex::new(0).unwrap();
        let mut executions = Executions::new(LIMIT);
        for execution in 0..=LIMIT as u64 {
            executions.note(execution, spy, 1, 1);
        }
        assert_eq!(executions.take_back(0, spy, None, 0), None);
        assert!(executions.take_back(1, spy, None, 0).is_some());
        assert!(executions.remembers_since(1) && !executions.remembers_since(0));
    }
}

//! The newest prints, for busts.

use std::collections::{HashMap, VecDeque};

use super::book::CandleKey;
use super::candle::Candle;
use crate::types::Symbol;

/// A print that a bust may name.
#[derive(Debug, Clone, Copy)]
pub(super) struct RememberedPrint {
    execution: u64,
    key: CandleKey,
    cents: i64,
    /// Shares that still count.
    shares: u64,
    is_taken_back: bool,
}

/// What a bust takes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakenBack {
    pub(super) key: CandleKey,
    /// The price, unless an earlier bust has taken it out.
    pub(super) cents: Option<i64>,
    pub(super) shares: u64,
}

/// A remembered print that a bust names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// `None`: nothing that an earlier bust has not taken out.
    pub(super) news: Option<TakenBack>,
}

/// A bounded memory of prints.
#[derive(Debug)]
pub(super) struct RememberedPrints {
    prints: VecDeque<RememberedPrint>,
    limit: usize,
    /// Prints so far.
    next: u64,
    /// The newest print of each execution.
    by_execution: HashMap<u64, u64>,
}

impl RememberedPrint {
    pub(super) fn new(execution: u64, key: CandleKey, cents: i64, shares: u64) -> Self {
        Self { execution, key, cents, shares, is_taken_back: false }
    }
}

impl RememberedPrints {
    pub(super) fn new(limit: usize) -> Self {
        assert!(limit > 0, "the newest print is remembered");
        Self { prints: VecDeque::new(), limit, next: 0, by_execution: HashMap::new() }
    }

    /// Remembers a print; returns its position.
    pub(super) fn note(&mut self, print: RememberedPrint) -> u64 {
        if self.prints.len() == self.limit
            && let Some(oldest) = self.prints.pop_front()
        {
            let position = self.next - self.limit as u64;
            if self.by_execution.get(&oldest.execution) == Some(&position) {
                self.by_execution.remove(&oldest.execution);
            }
        }
        let position = self.next;
        // Others are named by no bust.
        if print.execution != 0 {
            self.by_execution.insert(print.execution, position);
        }
        self.prints.push_back(print);
        self.next += 1;
        assert!(self.prints.len() <= self.limit, "the memory of prints is bounded");
        position
    }

    pub(super) fn next_position(&self) -> u64 {
        self.next
    }

    /// Whether all prints from a position on are remembered.
    pub(super) fn has_since(&self, position: u64) -> bool {
        position >= self.next - self.prints.len() as u64
    }

    pub(super) fn has(&self, execution: u64, symbol: Symbol) -> bool {
        let place = self.place(execution).and_then(|place| self.prints.get(place));
        place.is_some_and(|print| print.key.0 == symbol)
    }

    fn place(&self, execution: u64) -> Option<usize> {
        let position = self.by_execution.get(&execution)?;
        let first = self.next - self.prints.len() as u64;
        usize::try_from(position.checked_sub(first)?).ok()
    }

    /// Takes an execution back, or `shares` of it. `None`: it is not remembered.
    pub(super) fn take_back(
        &mut self,
        execution: u64,
        symbol: Symbol,
        shares: Option<u64>,
    ) -> Option<Named> {
        let place = self.place(execution)?;
        let print = self.prints.get_mut(place).filter(|print| print.key.0 == symbol)?;
        let taken = shares.unwrap_or(print.shares).min(print.shares);
        print.shares -= taken;
        let is_first = !std::mem::replace(&mut print.is_taken_back, true);
        let cents = is_first.then_some(print.cents);
        let taken = TakenBack { key: print.key, cents, shares: taken };
        Some(Named { news: (is_first || taken.shares > 0).then_some(taken) })
    }

    /// The candle of the prints that still count, of those from a position on; `None` without any.
    pub(super) fn candle_of(&self, key: CandleKey, first: u64) -> Option<Candle> {
        let before = first.saturating_sub(self.next - self.prints.len() as u64);
        let of_key = self
            .prints
            .iter()
            .skip(usize::try_from(before).unwrap_or(usize::MAX))
            .filter(|print| print.key == key);
        let mut candle: Option<Candle> = None;
        let mut left = 0_u64;
        for print in of_key {
            if print.is_taken_back {
                // Of a bust of some of its shares.
                left = left.saturating_add(print.shares);
                continue;
            }
            let of_print = Candle::of(print.cents, print.shares);
            match &mut candle {
                Some(candle) => candle.add(&of_print),
                None => candle = Some(of_print),
            }
        }
        let candle = candle?;
        Some(Candle { volume: candle.volume.saturating_add(left), ..candle })
    }
}

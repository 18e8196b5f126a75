use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::market::candles::{DAY_MINUTES, MINUTE_MICROS};

/// Room for the prints of these tests, or for few of them.
const MANY: usize = 10_000;
const FEW: usize = 5;
/// A minute of some day.
const FIRST: u32 = 20_000 * DAY_MINUTES + 600;

/// What is stored, and what symbols are called.
#[derive(Default)]
struct Stored(RefCell<BTreeMap<CandleKey, Candle>>);

impl Lookups for Stored {
    fn name(&self, symbol: SymbolIndex) -> Option<Symbol> {
        ["A", "B"].get(symbol.get()).map(|name| Symbol::new(name).unwrap())
    }

    fn stored(&self, key: CandleKey) -> Option<Candle> {
        self.0.borrow().get(&key).copied()
    }
}

impl Stored {
    fn take(&self, changed: ChangedCandles) -> BookState {
        for (key, candle) in changed.candles {
            match candle {
                Some(candle) => drop(self.0.borrow_mut().insert(key, candle)),
                None => drop(self.0.borrow_mut().remove(&key)),
            }
        }
        changed.state
    }

    fn all(&self) -> BTreeMap<CandleKey, Candle> {
        self.0.borrow().clone()
    }
}

fn time(minute: u32, micros: u64) -> TimestampMicros {
    TimestampMicros::new(u64::from(minute) * MINUTE_MICROS + micros)
}

fn trade(symbol: usize, execution: u64, cents: i64, num_shares: u64) -> CandleTrade {
    let symbol = SymbolIndex::new(symbol).unwrap();
    CandleTrade { symbol, cents, num_shares, counts_volume: true, execution }
}

fn event(sequence: u64, at: TimestampMicros, kind: CandleEventKind) -> CandleEvent {
    CandleEvent { mark: FeedMark { numbering: 7, sequence }, at, kind }
}

/// The candles of the prints that are left.
fn of_prints(prints: &[(usize, u32, i64, u64)]) -> BTreeMap<CandleKey, Candle> {
    let mut candles: BTreeMap<CandleKey, Candle> = BTreeMap::new();
    for &(symbol, minute, cents, shares) in prints {
        let name = Stored::default().name(SymbolIndex::new(symbol).unwrap()).unwrap();
        let one = Candle::of(cents, shares);
        let sum = candles.entry((name, Minute(minute)));
        sum.and_modify(|candle| candle.add(&one)).or_insert(one);
    }
    candles
}

proptest! {
    /// Against the list of all prints, with busts, restarts of the store's side, and lines that come again.
    #[test]
    fn candles_are_those_of_the_prints_that_count(
        prints in prop::collection::vec((0..2_usize, 0..4_u32, 1..20_i64, 1..9_u64), 1..40),
        busts in prop::collection::btree_set(0..40_usize, 0..8),
        stores in prop::collection::btree_set(0..48_usize, 0..10),
    ) {
        let stored = Stored::default();
        let mut book = CandleBook::new(BookState::default(), MANY);
        let mut events = Vec::new();
        for (number, &(symbol, minute, cents, shares)) in (1..).zip(&prints) {
            // Each minute's prints come mostly in its turn.
            let at = time(FIRST + minute, number);
            events.push((at, CandleEventKind::Print(trade(symbol, number, cents, shares))));
        }
        for &bust in busts.iter().filter(|bust| **bust < prints.len()) {
            let (symbol, ..) = prints[bust];
            let at = time(FIRST + 9, bust as u64);
            events.push((at, CandleEventKind::Bust(trade(symbol, bust as u64 + 1, 0, 0))));
        }
        for (place, (at, kind)) in events.iter().enumerate() {
            let event = event(place as u64 + 1, *at, *kind);
            book.take(&event, &stored);
            // Read again.
            book.take(&event, &stored);
            if stores.contains(&place) {
                stored.take(book.take_changed());
            }
        }
        let state = stored.take(book.take_changed());
        prop_assert_eq!(state.mark.sequence, events.len() as u64);
        let left: Vec<_> = (0..prints.len())
            .filter(|number| !busts.contains(number))
            .map(|number| {
                let (symbol, minute, cents, shares) = prints[number];
                (symbol, FIRST + minute, cents, shares)
            })
            .collect();
        let expected = of_prints(&left);
        let mut found = stored.all();
        // A minute that left memory before a bust is not made anew: its figures are right or marked.
        for (key, candle) in &mut found {
            if let Some(expected) = expected.get(key) {
                prop_assert_eq!((candle.volume, candle.trades), (expected.volume, expected.trades));
                if candle.is_partial {
                    *candle = *expected;
                }
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_bust_makes_its_minute_anew_or_marks_it() {
    for (limit, expected) in [
        (
            MANY,
            Candle {
                open: 100,
                high: 110,
                low: 100,
                close: 110,
                volume: 4,
                trades: 2,
                is_partial: false,
            },
        ),
        // The others of the minute are not remembered.
        (
            FEW,
            Candle {
                open: 100,
                high: 130,
                low: 100,
                close: 110,
                volume: 4,
                trades: 2,
                is_partial: true,
            },
        ),
    ] {
        let stored = Stored::default();
        let mut book = CandleBook::new(BookState::default(), limit);
        let mut sequence = 0;
        let mut take = |book: &mut CandleBook, micros, kind| {
            sequence += 1;
            book.take(&event(sequence, time(FIRST, micros), kind), &stored);
        };
        for (execution, cents) in [(1, 100), (2, 130), (3, 110)] {
            take(&mut book, execution, CandleEventKind::Print(trade(0, execution, cents, 2)));
        }
        for execution in 10..13 {
            take(&mut book, execution, CandleEventKind::Print(trade(1, execution, 5, 1)));
        }
        // Twice: it counts once.
        for _ in 0..2 {
            take(&mut book, 50, CandleEventKind::Bust(trade(0, 2, 130, 2)));
        }
        stored.take(book.take_changed());
        let key = (Symbol::new("A").unwrap(), Minute(FIRST));
        assert_eq!(stored.all()[&key], expected, "{limit}");
    }
}

#[test]
fn a_minute_without_trades_left_is_gone() {
    let stored = Stored::default();
    let mut book = CandleBook::new(BookState::default(), MANY);
    book.take(&event(1, time(FIRST, 0), CandleEventKind::Print(trade(0, 1, 100, 2))), &stored);
    stored.take(book.take_changed());
    assert_eq!(stored.all().len(), 1);
    book.take(&event(2, time(FIRST, 1), CandleEventKind::Bust(trade(0, 1, 100, 2))), &stored);
    stored.take(book.take_changed());
    assert!(stored.all().is_empty());
}

#[test]
fn the_other_side_of_a_trade_counts_nothing() {
    let stored = Stored::default();
    let mut book = CandleBook::new(BookState::default(), MANY);
    let other = CandleTrade { counts_volume: false, ..trade(0, 1, 100, 2) };
    book.take(&event(1, time(FIRST, 0), CandleEventKind::Print(trade(0, 1, 100, 2))), &stored);
    book.take(&event(2, time(FIRST, 0), CandleEventKind::Print(other)), &stored);
    stored.take(book.take_changed());
    let key = (Symbol::new("A").unwrap(), Minute(FIRST));
    assert_eq!(stored.all()[&key], Candle::of(100, 2));
}

/// The stretches that are missing, in micros since the first minute.
fn missing(book: &CandleBook) -> Vec<(u64, u64)> {
    let since = |at: TimestampMicros| at.micros().saturating_sub(time(FIRST, 0).micros());
    book.state().missing.iter().map(|one| (since(one.from), since(one.to))).collect()
}

#[test]
fn what_was_not_seen_is_missing_and_nothing_else() {
    let stored = Stored::default();
    let mut book = CandleBook::new(BookState::default(), MANY);
    let print = |n| CandleEventKind::Print(trade(0, n, 100, 1));
    book.take(&event(5, time(FIRST, 10), print(1)), &stored);
    // The day before the first line ever.
    assert_eq!(missing(&book), [(0, 10)]);
    assert_eq!(book.state().missing.iter().next().unwrap().from, time(FIRST - 600, 0));
    let state = book.take_changed().state;

    // A restart that goes on with the next line, and reads some again.
    let mut book = CandleBook::new(state, MANY);
    book.take(&event(4, time(FIRST, 9), CandleEventKind::Gap), &stored);
    book.take(&event(5, time(FIRST, 10), print(1)), &stored);
    book.take(&event(6, time(FIRST, 20), CandleEventKind::Seen), &stored);
    assert_eq!(missing(&book).len(), 1);
    // A gap, from the last line before to the first one after.
    book.take(&event(8, time(FIRST, 25), CandleEventKind::Gap), &stored);
    book.take(&event(9, time(FIRST, 30), print(2)), &stored);
    assert_eq!(missing(&book)[1], (20, 30));
    book.miss();
    book.take(&event(10, time(FIRST, 40), print(3)), &stored);
    assert_eq!(missing(&book)[1], (20, 40), "they touch");
    // Another numbering.
    let other = FeedMark { numbering: 8, sequence: 1 };
    book.take(&CandleEvent { mark: other, at: time(FIRST, 70), kind: print(4) }, &stored);
    assert_eq!(missing(&book)[1], (20, 70));
    let key = (Symbol::new("A").unwrap(), Minute(FIRST));
    stored.take(book.take_changed());
    assert_eq!(stored.all()[&key].trades, 3, "the first one's process did not store it");
}

#[test]
fn a_bust_of_an_unknown_print_marks_the_last_day_of_its_symbol() {
    let stored = Stored::default();
    let mut book = CandleBook::new(BookState::default(), MANY);
    let at = time(FIRST + DAY_MINUTES, 0);
    book.take(&event(1, at, CandleEventKind::Seen), &stored);
    book.take(&event(2, at, CandleEventKind::Bust(trade(1, 9, 5, 1))), &stored);
    let last = *book.state().missing.iter().find(|one| one.symbol.is_some()).unwrap();
    let (a, b) = (Symbol::new("A").unwrap(), Symbol::new("B").unwrap());
    let (day_before, earlier) = (time(FIRST + 1, 0), time(FIRST - 1, 0));
    assert!(last.touches(b, day_before, day_before) && !last.touches(b, earlier, earlier));
    assert!(!last.touches(a, day_before, day_before));
    assert_eq!(book.unknown_busts(), 1);
}

#[test]
fn what_the_exchange_tells_later_is_missing_no_more() {
    let stored = Stored::default();
    let mut book = CandleBook::new(BookState::default(), MANY);
    book.take(&event(1, time(FIRST, 0), CandleEventKind::Print(trade(0, 1, 100, 2))), &stored);
    let first = *book.state().missing.iter().next().unwrap();
    let key = (Symbol::new("A").unwrap(), Minute(FIRST));
    let whole = Candle { low: 50, volume: 9, trades: 3, ..Candle::of(100, 2) };
    book.replace(key, Some(whole));
    let since = time(FIRST - 100, 0);
    book.filled(&first, Some(since));
    let rest = Stretch { to: since, ..first };
    assert_eq!(book.state().missing.iter().copied().collect::<Vec<_>>(), [rest]);
    // That one is no longer there.
    book.filled(&first, None);
    assert_eq!(book.state().missing.iter().count(), 1);
    book.filled(&rest, None);
    assert_eq!(book.state().missing.iter().count(), 0);
    // Later prints add to it.
    book.take(&event(2, time(FIRST, 5), CandleEventKind::Print(trade(0, 2, 40, 1))), &stored);
    stored.take(book.take_changed());
    assert_eq!(stored.all()[&key], Candle { low: 40, close: 40, volume: 10, trades: 4, ..whole });
}

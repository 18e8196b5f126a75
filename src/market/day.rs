//! One symbol's trading day as far as a bust can change it: first, highest and lowest price, and the
//! newest prints. Bounded, however much the symbol trades.

/// Prices remembered at each end of the day's range.
const END_PRICES: usize = 8;
/// First prints of the day that are remembered.
const FIRST_PRINTS: usize = 4;
/// Newest prints that are remembered.
const NEWEST_PRINTS: usize = 8;

/// What a bust needs to know of a print. All zero: no print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DayPrint {
    /// The execution's id as a number.
    pub(super) execution: u64,
    pub(super) cents: i64,
    pub(super) micros: u64,
}

/// The prices at one end of the range, the most extreme first, with the number of their prints. Their
/// sign is such that greater is more extreme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct End {
    /// A price and how many prints had it. Empty places, without prints, come last.
    prices: [(i64, u64); END_PRICES],
    /// The most extreme price that was forgotten for lack of room; zero: none.
    forgotten: i64,
}

impl End {
    fn note(&mut self, price: i64) {
        let is_forgotten = self.forgotten != 0 && price <= self.forgotten;
        if let Some((_, prints)) =
            self.prices.iter_mut().find(|(known, prints)| *known == price && *prints > 0)
        {
            *prints += 1;
            return;
        }
        let worse = |&(known, prints): &(i64, u64)| prints == 0 || known < price;
        let Some(place) = self.prices.iter().position(worse).filter(|_| !is_forgotten) else {
            if !is_forgotten {
                self.forgotten = price;
            }
            return;
        };
        let [.., (last, prints)] = self.prices;
        if prints > 0 {
            self.forgotten = last;
        }
        let tail = self.tail(place);
        tail.rotate_right(1);
        let [free, ..] = tail else { unreachable!("a place that was found is there") };
        *free = (price, 1);
    }

    #[expect(clippy::indexing_slicing, reason = "a place was found among the prices")]
    fn tail(&mut self, place: usize) -> &mut [(i64, u64)] {
        &mut self.prices[place..]
    }

    fn remove(&mut self, price: i64) {
        let Some(place) =
            self.prices.iter().position(|&(known, prints)| known == price && prints > 0)
        else {
            return;
        };
        let tail = self.tail(place);
        let [found, ..] = tail else { unreachable!("a price that was found has a place") };
        found.1 -= 1;
        if found.1 == 0 {
            *found = (0, 0);
            tail.rotate_left(1);
        }
    }

    /// The most extreme price; zero when there is none.
    fn best(&self) -> i64 {
        let [(price, prints), ..] = self.prices;
        if prints > 0 { price } else { self.forgotten }
    }
}

/// What is remembered of one symbol's day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Day {
    highest: End,
    lowest: End,
    /// Oldest first.
    first: [DayPrint; FIRST_PRINTS],
    /// Newest first. They may be of earlier days: the last price outlives its day.
    newest: [DayPrint; NEWEST_PRINTS],
    /// How many prints the day had.
    prints: u64,
    /// How many prints there ever were. No more than are remembered: all are remembered.
    ever: u64,
}

/// Words of a [`Day`].
pub(super) const DAY_WORDS: usize =
    2 * (2 * END_PRICES + 1) + 3 * (FIRST_PRINTS + NEWEST_PRINTS) + 2;

impl Day {
    /// A day of which only its figures are known, and the last price, which may be of an earlier one.
    pub(super) fn of_figures((open, high, low): (i64, i64, i64), last: i64, micros: u64) -> Self {
        let mut day = Self::default();
        if open != 0 {
            for cents in [open, high, low] {
                day.note_again(DayPrint { execution: 0, cents, micros });
            }
        }
        let [newest, ..] = &mut day.newest;
        *newest = DayPrint { execution: 0, cents: last, micros };
        // Not all prints are remembered.
        day.ever = NEWEST_PRINTS as u64 + 1;
        day
    }

    /// Takes a new print.
    pub(super) fn note(&mut self, print: DayPrint) {
        self.note_again(print);
        self.newest.rotate_right(1);
        let [newest, ..] = &mut self.newest;
        *newest = print;
        self.ever += 1;
    }

    /// Counts a print in this day that is among the newest already.
    pub(super) fn note_again(&mut self, print: DayPrint) {
        self.highest.note(print.cents);
        self.lowest.note(-print.cents);
        if let Some(free) = usize::try_from(self.prints).ok().and_then(|n| self.first.get_mut(n)) {
            *free = print;
        }
        self.prints += 1;
    }

    /// Whether this execution is among the newest prints.
    pub(super) fn has_newly(&self, execution: u64) -> bool {
        execution != 0 && self.newest.iter().any(|print| print.execution == execution)
    }

    /// Takes a print back. `of_the_day`: it is one of this day. True when it was the last one.
    pub(super) fn take_back(&mut self, execution: u64, cents: i64, of_the_day: bool) -> bool {
        let last = self.newest.iter().find(|print| print.cents != 0);
        let was_last = last.is_some_and(|last| last.execution == execution);
        if of_the_day {
            self.highest.remove(cents);
            self.lowest.remove(-cents);
            forget(&mut self.first, execution);
        }
        forget(&mut self.newest, execution);
        was_last
    }

    /// Whether anything has traded on the day.
    pub(super) const fn has_prints(&self) -> bool {
        self.prints > 0
    }

    /// Begins the next day. The newest prints stay.
    pub(super) fn begin(&mut self) {
        *self = Self { newest: self.newest, ever: self.ever, ..Self::default() };
    }

    /// The first price that still counts, of those that are remembered; zero: none.
    pub(super) fn open(&self) -> i64 {
        let first = self.first.iter().find(|print| print.cents != 0);
        first.map_or(0, |print| print.cents)
    }

    /// The highest price; zero: none.
    pub(super) fn high(&self) -> i64 {
        self.highest.best()
    }

    /// The lowest price; zero: none.
    pub(super) fn low(&self) -> i64 {
        -self.lowest.best()
    }

    /// The newest print that still counts. `None`: it is no longer remembered.
    pub(super) fn last(&self) -> Option<DayPrint> {
        let newest = self.newest.iter().find(|print| print.cents != 0).copied();
        let all_are_remembered = self.ever <= NEWEST_PRINTS as u64;
        newest.or_else(|| all_are_remembered.then(DayPrint::default))
    }

    pub(super) fn to_words(self) -> [u64; DAY_WORDS] {
        let mut words: Vec<u64> = Vec::with_capacity(DAY_WORDS);
        for end in [self.highest, self.lowest] {
            let pairs = end.prices.iter().flat_map(|&(price, n)| [price.cast_unsigned(), n]);
            words.extend(pairs.chain([end.forgotten.cast_unsigned()]));
        }
        for print in self.first.iter().chain(&self.newest) {
            words.extend([print.execution, print.cents.cast_unsigned(), print.micros]);
        }
        words.extend([self.prints, self.ever]);
        let Ok(words) = words.try_into() else { unreachable!("a day has DAY_WORDS words") };
        words
    }

    pub(super) fn from_words(words: &[u64; DAY_WORDS]) -> Self {
        let mut words = words.iter().copied();
        let mut next = || {
            let Some(word) = words.next() else { unreachable!("a day has DAY_WORDS words") };
            word
        };
        let mut end = || {
            let mut end = End::default();
            for slot in &mut end.prices {
                *slot = (next().cast_signed(), next());
            }
            end.forgotten = next().cast_signed();
            end
        };
        let (highest, lowest) = (end(), end());
        let mut day = Self { highest, lowest, ..Self::default() };
        for slot in day.first.iter_mut().chain(&mut day.newest) {
            let (execution, cents, micros) = (next(), next().cast_signed(), next());
            *slot = DayPrint { execution, cents, micros };
        }
        (day.prints, day.ever) = (next(), next());
        day
    }
}

/// Empties the place of a print; the others keep theirs.
fn forget(prints: &mut [DayPrint], execution: u64) {
    for print in prints {
        if print.execution == execution {
            *print = DayPrint { execution, cents: 0, micros: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(execution: u64, cents: i64) -> DayPrint {
        DayPrint { execution, cents, micros: execution }
    }

    proptest! {
        /// Against the list of all prints, while no more prices are taken back than are remembered.
        #[test]
        fn a_day_says_what_its_prints_say(
            prices in prop::collection::vec(1..30_i64, 1..60),
            taken_back in prop::collection::btree_set(0..60_usize, 0..6),
        ) {
            let mut day = Day::default();
            let prints: Vec<_> = (1..).zip(&prices).map(|(n, &cents)| print(n, cents)).collect();
            for &print in &prints {
                day.note(print);
            }
            let mut left = prints.clone();
            for print in taken_back.iter().filter_map(|&n| prints.get(n)) {
                day.take_back(print.execution, print.cents, true);
                left.retain(|kept| kept.execution != print.execution);
            }
            if left.is_empty() {
                prop_assert_eq!((day.high(), day.low(), day.open()), (0, 0, 0));
                prop_assert_eq!(day.last(), Some(DayPrint::default()));
            } else {
                prop_assert_eq!(Some(day.high()), left.iter().map(|print| print.cents).max());
                prop_assert_eq!(Some(day.low()), left.iter().map(|print| print.cents).min());
                prop_assert_eq!(day.last(), left.last().copied());
            }
            prop_assert_eq!(Day::from_words(&day.to_words()), day);
        }
    }

    #[test]
    fn a_day_goes_on_from_its_figures() {
        let mut day = Day::of_figures((100, 120, 90), 110, 7);
        assert_eq!((day.open(), day.high(), day.low()), (100, 120, 90));
        day.note(print(1, 130));
        assert_eq!((day.open(), day.high(), day.low()), (100, 130, 90));
        day.take_back(1, 130, true);
        assert_eq!((day.high(), day.last().map(|last| last.cents)), (120, Some(110)));
        let unopened = Day::of_figures((0, 0, 0), 110, 7);
        assert!(!unopened.has_prints() && unopened.last().is_some_and(|last| last.cents == 110));
    }

    #[test]
    fn the_open_is_the_first_print_that_counts() {
        let mut day = Day::default();
        for n in 1..=10 {
            day.note(print(n, 100 + n.cast_signed()));
        }
        assert_eq!(day.open(), 101);
        day.take_back(1, 101, true);
        assert_eq!(day.open(), 102);
        day.begin();
        assert_eq!((day.open(), day.high(), day.low()), (0, 0, 0));
        assert_eq!(day.last(), Some(print(10, 110)), "the last price outlives the day");
        day.take_back(10, 110, false);
        assert_eq!(day.last(), Some(print(9, 109)));
    }
}

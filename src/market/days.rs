//! The trading days of all symbols: which trading session their figures belong to, and when the next
//! one begins.

use super::checkpoint::SavedSymbol;
use super::day::{Day, DayPrint};
use super::directory::{Listing, TradingSession};
use super::executions::{Executions, TakenBack};
use super::last_value::LastValue;
use crate::types::{Symbol, SymbolIndex, TimestampMicros};

/// Prints after the end of a day that are kept until the next list tells which day they belong to.
const MAX_AFTER_CLOSE: usize = 65_536;

/// The published figures of a day; zero where nothing has traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DayFigures {
    pub(super) open: i64,
    pub(super) high: i64,
    pub(super) low: i64,
    pub(super) volume: u64,
}

#[derive(Debug, Clone, Default)]
struct SymbolDay {
    day: Day,
    /// The trading session that the figures belong to; `None`: the exchange has not told one.
    session: Option<TradingSession>,
    /// First price as the exchange lists it; zero: not told.
    listed_open: i64,
    /// Prints with an earlier timestamp belong to the session before.
    begins: TimestampMicros,
    /// The position of the day's first print among all executions.
    position: u64,
    /// Some prints of the day were taken by an earlier process.
    is_restored: bool,
}

/// A print after the end of its day.
#[derive(Debug, Clone, Copy)]
struct AfterClose {
    symbol: SymbolIndex,
    print: DayPrint,
    shares: u64,
    position: u64,
}

/// Every symbol's day.
#[derive(Debug)]
pub(super) struct Days {
    days: Vec<SymbolDay>,
    executions: Executions,
    after_close: Vec<AfterClose>,
    /// When the first day ends.
    first_close: TimestampMicros,
    /// The exchange has begun another numbering, and its list has not been read since.
    is_other_numbering: bool,
}

const NEVER: TimestampMicros = TimestampMicros::new(u64::MAX);

impl Days {
    /// Remembers the newest `remembered_prints` prints, for busts.
    pub(super) fn new(remembered_prints: usize) -> Self {
        Self {
            days: Vec::new(),
            executions: Executions::new(remembered_prints),
            after_close: Vec::new(),
            first_close: NEVER,
            is_other_numbering: false,
        }
    }

    /// Takes a print and returns the figures after it. `volume` is the day's before it.
    pub(super) fn print(
        &mut self,
        symbol: SymbolIndex,
        print: DayPrint,
        shares: u64,
        volume: u64,
    ) -> DayFigures {
        let position = self.executions.position();
        let day = self.of(symbol);
        let is_of_day = TimestampMicros::new(print.micros) >= day.begins;
        // The line of another side of a trade repeats its execution.
        let is_repeated = shares == 0 && day.day.has_newly(print.execution);
        let close = day.session.map_or(NEVER, |session| session.close);
        let mut volume = volume;
        if is_of_day && !is_repeated {
            day.day.note(print);
            // Saturating: the exchange decides how many shares a line tells.
            volume = volume.saturating_add(shares);
            if print.execution != 0 {
                self.executions.note(print.execution, symbol, print.cents, shares);
            }
            if TimestampMicros::new(print.micros) >= close
                && self.after_close.len() < MAX_AFTER_CLOSE
            {
                self.after_close.push(AfterClose { symbol, print, shares, position });
            }
        }
        self.figures(symbol, volume)
    }

    /// The figures of a symbol whose shares of the day are `volume`.
    pub(super) fn figures(&mut self, symbol: SymbolIndex, volume: u64) -> DayFigures {
        let SymbolDay { day, listed_open, .. } = self.of(symbol);
        let (high, low) = (day.high(), day.low());
        if !day.has_prints() || high == 0 {
            return DayFigures { volume, ..DayFigures::default() };
        }
        if *listed_open == 0 {
            return DayFigures { open: day.open(), high, low, volume };
        }
        let (high, low) = (high.max(*listed_open), low.min(*listed_open));
        DayFigures { open: *listed_open, high, low, volume }
    }

    /// Takes an execution back. For one that is not remembered the line itself counts. `None`: the
    /// execution did not count, or no longer does.
    pub(super) fn take_back(
        &mut self,
        symbol: SymbolIndex,
        execution: u64,
        (cents, shares): (Option<i64>, Option<u64>),
    ) -> Option<TakenBack> {
        let SymbolDay { position, is_restored, .. } = *self.of(symbol);
        let remembered = self.executions.take_back(execution, symbol, shares, position);
        let taken = remembered.or_else(|| {
            // A print of a day that is remembered whole would have been found.
            let is_known_whole = !is_restored && self.executions.remembers_since(position);
            let counts = !is_known_whole && self.executions.is_first_unmatched(execution);
            // A line that tells no shares takes none out.
            let shares = shares.unwrap_or(0);
            counts.then_some(TakenBack { shares, cents, is_of_day: true, new_last: None })
        });
        let mut taken = taken?;
        if let Some(cents) = taken.cents {
            let day = &mut self.of(symbol).day;
            if day.take_back(execution, cents, taken.is_of_day) {
                taken.new_last = day.last();
            }
        }
        Some(taken)
    }

    /// A list was read, or the numbering has changed: [`Self::renew`] follows for each symbol.
    pub(super) fn begin_listing(&mut self) {
        self.first_close = NEVER;
    }

    /// Takes what the exchange says of a symbol's session; `volume` is the day's so far. Returns the
    /// figures if they change.
    pub(super) fn renew(
        &mut self,
        symbol: SymbolIndex,
        listing: &Listing,
        volume: u64,
    ) -> Option<DayFigures> {
        let is_other_numbering = self.is_other_numbering;
        let next_position = self.executions.position();
        let day = self.of(symbol);
        let before = day.session;
        let (is_next, begins) = match (before, listing.session) {
            (Some(had), Some(lists)) if lists.open >= had.close => (true, had.close),
            (Some(had), Some(lists)) => {
                (is_other_numbering && lists.open > had.open, TimestampMicros::default())
            }
            _ => (false, TimestampMicros::default()),
        };
        let is_same =
            before.zip(listing.session).is_some_and(|(had, lists)| had.open == lists.open);
        if before.is_none() || is_next || is_same {
            day.session = listing.session;
        }
        let listed_open = listing.open.map_or(0, |open| open.cents());
        let is_open_news = day.listed_open != listed_open;
        day.listed_open = listed_open;
        if is_next {
            day.day.begin();
            (day.begins, day.position, day.is_restored) = (begins, next_position, false);
        }
        let close = day.session.map_or(NEVER, |session| session.close);
        self.first_close = self.first_close.min(close);
        if is_next {
            let volume = self.count_after_close(symbol);
            return Some(self.figures(symbol, volume));
        }
        is_open_news.then(|| self.figures(symbol, volume))
    }

    /// Counts the prints that came after the close in the new day, and returns their shares.
    fn count_after_close(&mut self, symbol: SymbolIndex) -> u64 {
        let after_close = std::mem::take(&mut self.after_close);
        let day = self.of(symbol);
        let mut volume = 0_u64;
        for late in after_close.iter().filter(|late| late.symbol == symbol) {
            day.day.note_again(late.print);
            day.position = day.position.min(late.position);
            // Saturating: the exchange decides how many shares a line tells.
            volume = volume.saturating_add(late.shares);
        }
        self.after_close = after_close;
        volume
    }

    /// Every symbol of the list was renewed. What came after the end of a day that goes on belongs to
    /// that day.
    pub(super) fn end_listing(&mut self) {
        self.after_close.clear();
        self.is_other_numbering = false;
    }

    pub(super) fn begin_numbering(&mut self) {
        self.is_other_numbering = true;
    }

    pub(super) fn end_numbering(&mut self) {
        self.is_other_numbering = false;
    }

    pub(super) fn is_over(&self, now: TimestampMicros) -> bool {
        now >= self.first_close
    }

    pub(super) fn save(&self, index: SymbolIndex, symbol: Symbol, value: LastValue) -> SavedSymbol {
        let Some(SymbolDay { day, session, begins, .. }) = self.days.get(index.get()).cloned()
        else {
            unreachable!("a symbol with a price has a day, which its first print began")
        };
        SavedSymbol { symbol, value, session, begins, day }
    }

    pub(super) fn restore(&mut self, index: SymbolIndex, saved: &SavedSymbol) {
        let SavedSymbol { session, begins, day, .. } = saved.clone();
        *self.of(index) =
            SymbolDay { day, session, begins, is_restored: true, ..SymbolDay::default() };
    }

    fn of(&mut self, symbol: SymbolIndex) -> &mut SymbolDay {
        let index = symbol.get();
        if self.days.len() <= index {
            self.days.resize_with(index + 1, SymbolDay::default);
        }
        #[expect(clippy::indexing_slicing, reason = "the list has just grown to it")]
        &mut self.days[index]
    }
}

//! Makes candles of one minute from the events of the feed. Pure: the caller looks up what is stored, and
//! stores what has changed.

use std::collections::{BTreeSet, HashMap};

use super::candle::{Candle, Minute};
use super::event::{CandleEvent, CandleEventKind, CandleTrade, FeedMark};
use super::remembered::{RememberedPrint, RememberedPrints};
use super::stretches::{Stretch, Stretches};
use crate::types::{Symbol, SymbolIndex, TimestampMicros};

/// Minutes that any candle is kept in memory for, after the newest one: most prints are of the present one.
/// Those of which all prints are remembered are kept as long as that, for busts.
const KEPT_MINUTES: u32 = 2;
/// How far back candles are marked by a bust whose print is not remembered: its line does not tell when
/// that was.
const UNKNOWN_BUST_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// A candle by symbol and minute.
pub type CandleKey = (Symbol, Minute);

/// What a process goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BookState {
    /// The candles have all lines up to here. The numbering is 0 before the first line.
    pub mark: FeedMark,
    /// The time of the last line.
    pub at: TimestampMicros,
    /// What may be missing.
    pub missing: Stretches,
}

/// What has changed since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangedCandles {
    /// `None`: all trades of the minute were busted.
    pub candles: Vec<(CandleKey, Option<Candle>)>,
    pub state: BookState,
}

/// What the book looks up.
pub trait Lookups {
    /// The name of a symbol; `None` for one that is not known.
    fn name(&self, symbol: SymbolIndex) -> Option<Symbol>;

    /// The candle that is stored.
    fn stored(&self, key: CandleKey) -> Option<Candle>;
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    candle: Option<Candle>,
    /// The first of its prints, if all were taken by this process.
    first: Option<u64>,
}

/// The candles that change, and what is needed to take busts out of them.
#[derive(Debug)]
pub struct CandleBook {
    state: BookState,
    /// Lines may be missing since this time, up to the next one.
    missing_since: Option<TimestampMicros>,
    kept: HashMap<CandleKey, Kept>,
    changed: BTreeSet<CandleKey>,
    newest: Minute,
    remembered: RememberedPrints,
    unknown_busts: u64,
}

impl CandleBook {
    /// Goes on from a state. Remembers the newest `remembered_prints` for busts.
    pub fn new(state: BookState, remembered_prints: usize) -> Self {
        Self {
            state,
            missing_since: None,
            kept: HashMap::new(),
            changed: BTreeSet::new(),
            newest: Minute::default(),
            remembered: RememberedPrints::new(remembered_prints),
            unknown_busts: 0,
        }
    }

    /// What the candles cover.
    pub fn state(&self) -> &BookState {
        &self.state
    }

    /// Busts of prints that are not remembered.
    pub fn unknown_busts(&self) -> u64 {
        self.unknown_busts
    }

    /// Takes the next event. What was taken before, by an earlier process too, changes nothing.
    pub fn take(&mut self, event: &CandleEvent, lookups: &impl Lookups) {
        let CandleEvent { mark, at, kind } = *event;
        let is_other = mark.numbering != self.state.mark.numbering;
        // A heartbeat repeats the last sequence.
        let is_beat = kind == CandleEventKind::Seen && mark == self.state.mark;
        if !is_other && mark.sequence <= self.state.mark.sequence && !is_beat {
            return;
        }
        if kind == CandleEventKind::Gap {
            self.miss();
            self.state.mark = mark;
            return;
        }
        if is_other {
            // The last lines of the other numbering may be missing.
            self.miss();
        }
        self.end_missing(at);
        self.state.mark = mark;
        self.state.at = at;
        match kind {
            CandleEventKind::Print(trade) => self.print(&trade, at, lookups),
            CandleEventKind::Bust(trade) => self.bust(&trade, at, lookups),
            CandleEventKind::Seen | CandleEventKind::Gap => {}
        }
    }

    /// Events were lost.
    pub fn miss(&mut self) {
        self.missing_since.get_or_insert(self.state.at);
    }

    /// The first line after what may be missing.
    fn end_missing(&mut self, at: TimestampMicros) {
        let Some(since) = self.missing_since.take() else { return };
        // Of the day before the first line ever nothing is known.
        let day = super::candle::Interval::Day;
        let is_first = since == TimestampMicros::default();
        let from = if is_first { Minute::of(at).floor(day).start() } else { since.min(at) };
        self.state.missing.add(Stretch { symbol: None, from, to: since.max(at) });
    }

    fn print(&mut self, trade: &CandleTrade, at: TimestampMicros, lookups: &impl Lookups) {
        let Some(symbol) = lookups.name(trade.symbol) else { return };
        // The line of another side of a trade repeats its execution.
        if !trade.counts_volume && self.remembered.has(trade.execution, symbol) {
            return;
        }
        let key = (symbol, Minute::of(at));
        let shares = if trade.counts_volume { trade.num_shares } else { 0 };
        let (cents, execution) = (trade.cents, trade.execution);
        let position = self.remembered.note(RememberedPrint::new(execution, key, cents, shares));
        let kept = self.kept(key, position, lookups);
        match &mut kept.candle {
            Some(candle) => candle.add(&Candle::of(cents, shares)),
            none @ None => *none = Some(Candle::of(cents, shares)),
        }
        self.changed.insert(key);
        self.newest = self.newest.max(key.1);
    }

    /// A candle, to be changed: `position` is the next print's, if it is new.
    fn kept(&mut self, key: CandleKey, position: u64, lookups: &impl Lookups) -> &mut Kept {
        self.kept.entry(key).or_insert_with(|| match lookups.stored(key) {
            Some(candle) => Kept { candle: Some(candle), first: None },
            None => Kept { candle: None, first: Some(position) },
        })
    }

    fn bust(&mut self, trade: &CandleTrade, at: TimestampMicros, lookups: &impl Lookups) {
        let Some(symbol) = lookups.name(trade.symbol) else { return };
        let shares = (trade.num_shares > 0).then_some(trade.num_shares);
        let Some(taken) = self.remembered.take_back(trade.execution, symbol, shares) else {
            self.unknown_busts += 1;
            let from = TimestampMicros::new(at.micros().saturating_sub(UNKNOWN_BUST_MICROS));
            self.state.missing.add(Stretch { symbol: Some(symbol), from, to: at });
            return;
        };
        let Some(taken) = taken.news else { return };
        let key = taken.key;
        let next = self.remembered.next_position();
        let kept = *self.kept(key, next, lookups);
        let is_whole = kept.first.is_some_and(|first| self.remembered.has_since(first));
        let candle = match (kept.candle, kept.first) {
            (_, Some(first)) if is_whole => self.remembered.candle_of(key, first),
            (Some(candle), _) => without(candle, taken.cents, taken.shares),
            (None, _) => None,
        };
        self.kept.insert(key, Kept { candle, ..kept });
        self.changed.insert(key);
    }

    /// What has changed since the last call. Afterwards memory keeps only what may soon change.
    pub fn take_changed(&mut self) -> ChangedCandles {
        let candle = |key: CandleKey| (key, self.kept.get(&key).and_then(|kept| kept.candle));
        let candles = std::mem::take(&mut self.changed).into_iter().map(candle).collect();
        let oldest = Minute(self.newest.0.saturating_sub(KEPT_MINUTES));
        let Self { kept, remembered, .. } = self;
        kept.retain(|(_, minute), kept| {
            *minute >= oldest || kept.first.is_some_and(|first| remembered.has_since(first))
        });
        ChangedCandles { candles, state: self.state.clone() }
    }

    /// Replaces a candle by what the exchange says of its minute.
    pub fn replace(&mut self, key: CandleKey, candle: Option<Candle>) {
        self.kept.insert(key, Kept { candle, first: None });
        self.changed.insert(key);
    }

    /// What was missing of a stretch is known by now, from `since` on: `None` if all of it is.
    pub fn filled(&mut self, stretch: &Stretch, since: Option<TimestampMicros>) {
        // By now it may be part of a longer one.
        if !self.state.missing.iter().any(|known| known == stretch) {
            return;
        }
        self.state.missing.remove(stretch);
        let rest = since.filter(|since| *since > stretch.from);
        if let Some(since) = rest {
            self.state.missing.add(Stretch { to: since.min(stretch.to), ..*stretch });
        }
    }

    /// Forgets what was missing before a time.
    pub fn forget_before(&mut self, time: TimestampMicros) {
        self.state.missing.forget_before(time);
    }
}

/// A candle without one of its trades, when the others are not known; `None` if it had no other.
fn without(candle: Candle, cents: Option<i64>, shares: u64) -> Option<Candle> {
    let is_gone = cents.is_some();
    let left = Candle {
        // Saturating: the exchange decides how many shares a line tells.
        volume: candle.volume.saturating_sub(shares),
        trades: candle.trades.saturating_sub(u64::from(is_gone)),
        is_partial: candle.is_partial || cents.is_some_and(|cents| candle.shows(cents)),
        ..candle
    };
    (left.trades > 0).then_some(left)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;

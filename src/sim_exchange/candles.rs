//! The simulated exchange's history of prices: candles of one minute, of its own prints since it began.

use std::collections::{BTreeMap, HashMap};

use crate::exchange::wire::{CandleBar, CandlesResponse};
use crate::market::candles::{Candle, MINUTE_MICROS, Minute};
use crate::types::{PriceCents, TimestampMicros};

/// Most candles that are kept, of all symbols: some 100 MB. The oldest minutes give way.
const MAX_CANDLES: usize = 1 << 20;

/// The candles, by minute and place of the symbol.
#[derive(Debug, Default)]
pub(super) struct CandleLog {
    /// The minute that goes on, and its candles by place.
    present: Minute,
    going_on: Vec<Option<Candle>>,
    kept: BTreeMap<(Minute, u16), Candle>,
    /// The first minute that is known whole; `None` before the first print.
    since: Option<Minute>,
    /// The same of symbols of which an execution was busted: what is left of its minute is not known.
    since_bust: HashMap<u16, Minute>,
}

impl CandleLog {
    /// Takes a print. Times never go back.
    pub(super) fn note(&mut self, place: u16, price: PriceCents, shares: u32, at: TimestampMicros) {
        let minute = Minute::of(at);
        self.since.get_or_insert_with(|| whole_after(at));
        if minute != self.present {
            self.end_minute();
            self.present = minute;
        }
        let index = usize::from(place);
        if self.going_on.len() <= index {
            self.going_on.resize(index + 1, None);
        }
        let Some(slot) = self.going_on.get_mut(index) else { return };
        let print = Candle::of(price.cents(), u64::from(shares));
        match slot {
            Some(candle) => candle.add(&print),
            none @ None => *none = Some(print),
        }
    }

    fn end_minute(&mut self) {
        for (place, slot) in (0_u16..).zip(&mut self.going_on) {
            if let Some(candle) = slot.take() {
                self.kept.insert((self.present, place), candle);
            }
        }
        while self.kept.len() > MAX_CANDLES {
            let Some(((minute, _), _)) = self.kept.pop_first() else { break };
            self.since = self.since.max(Some(Minute(minute.0 + 1)));
        }
    }

    /// An execution of a symbol was busted.
    pub(super) fn bust(&mut self, place: u16, at: TimestampMicros) {
        self.since_bust.insert(place, whole_after(at));
    }

    /// The candles of a symbol whose minutes begin at `from` or later and before `to`, of ended minutes only.
    pub(super) fn answer(
        &self,
        place: u16,
        (from, to): (TimestampMicros, TimestampMicros),
    ) -> CandlesResponse {
        let since =
            self.since.map(|since| self.since_bust.get(&place).map_or(since, |at| since.max(*at)));
        // Nothing is known yet.
        let Some(since) = since else {
            return CandlesResponse { since: Some(to), candles: Vec::new() };
        };
        let first =
            Minute::of(TimestampMicros::new(from.micros().saturating_add(MINUTE_MICROS - 1)));
        let oldest = self.kept.first_key_value().map_or(self.present, |((minute, _), _)| *minute);
        let (first, end) = (first.max(since).max(oldest), Minute::of(to).min(self.present));
        let bars = (first.0..end.0).filter_map(|minute| {
            let candle = self.kept.get(&(Minute(minute), place))?;
            Some(CandleBar::of(Minute(minute).start(), candle))
        });
        CandlesResponse { since: Some(since.start()), candles: bars.collect() }
    }
}

/// The first minute that begins at a time or later.
fn whole_after(at: TimestampMicros) -> Minute {
    Minute::of(at.saturating_add_micros(MINUTE_MICROS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_minutes_since_the_first_print_are_told() {
        let mut log = CandleLog::default();
        let at = |minute: u64, micros: u64| TimestampMicros::new(minute * MINUTE_MICROS + micros);
        let all = (at(0, 0), at(1_000, 0));
        assert_eq!(log.answer(0, all), CandlesResponse { since: Some(all.1), candles: Vec::new() });
        let price = |cents| PriceCents::new(cents).unwrap();
        for (minute, micros, cents) in
            [(10, 5, 90), (11, 0, 100), (11, 7, 80), (13, 1, 85), (14, 0, 1)]
        {
            log.note(3, price(cents), 2, at(minute, micros));
        }
        let answer = log.answer(3, all);
        assert_eq!(answer.since, Some(at(11, 0)), "of the first minute only a part");
        let starts: Vec<_> = answer.candles.iter().map(|bar| bar.start).collect();
        assert_eq!(starts, [at(11, 0), at(13, 0)], "the present one goes on");
        let candle = Candle { low: 80, close: 80, volume: 4, trades: 2, ..Candle::of(100, 2) };
        assert_eq!(answer.candles[0], CandleBar::of(at(11, 0), &candle));
        assert_eq!(log.answer(3, (at(11, 1), at(13, 0))).candles, []);
        assert_eq!(log.answer(2, all).candles, []);
        log.bust(3, at(12, 30));
        assert_eq!(log.answer(3, all).since, Some(at(13, 0)));
        assert_eq!(log.answer(3, all).candles.len(), 1);
    }
}

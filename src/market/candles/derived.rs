//! A page of candles of an interval, derived from those of its minutes.

use super::candle::{Candle, Interval, Minute};

/// The sequence of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CandleOrder {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Derives a page from candles of minutes that come in its sequence.
#[derive(Debug)]
pub struct Derived {
    interval: Interval,
    order: CandleOrder,
    limit: usize,
    /// Candles of minutes that may still be taken for other intervals.
    budget: usize,
    candles: Vec<(Minute, Candle)>,
}

impl Derived {
    /// A page of at most `limit` candles. After `budget` candles of minutes no other interval begins.
    pub fn new(interval: Interval, order: CandleOrder, limit: usize, budget: usize) -> Self {
        Self { interval, order, limit, budget, candles: Vec::new() }
    }

    /// Takes the next minute. `false`: it belongs to the next page, and so does what follows.
    pub fn take(&mut self, minute: Minute, candle: &Candle) -> bool {
        let start = minute.floor(self.interval);
        let is_spent = self.budget == 0;
        self.budget = self.budget.saturating_sub(1);
        if let Some((last, sum)) = self.candles.last_mut()
            && *last == start
        {
            match self.order {
                CandleOrder::NewestFirst => sum.add_earlier(candle),
                CandleOrder::OldestFirst => sum.add(candle),
            }
            return true;
        }
        if is_spent || self.candles.len() == self.limit {
            return false;
        }
        self.candles.push((start, *candle));
        true
    }

    /// The candles by the beginnings of their intervals.
    pub fn candles(self) -> Vec<(Minute, Candle)> {
        self.candles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes 0 to 9, each with its number as the price.
    fn derived(order: CandleOrder, limit: usize, budget: usize) -> Vec<(u32, i64, i64, u64)> {
        let mut derived = Derived::new(Interval::FiveMinutes, order, limit, budget);
        let minutes: Vec<u32> = match order {
            CandleOrder::OldestFirst => (0..15).collect(),
            CandleOrder::NewestFirst => (0..15).rev().collect(),
        };
        for minute in minutes.into_iter().filter(|minute| *minute != 7) {
            if !derived.take(Minute(minute), &Candle::of(i64::from(minute), 1)) {
                break;
            }
        }
        let row = |(minute, candle): (Minute, Candle)| {
            (minute.0, candle.open, candle.close, candle.trades)
        };
        derived.candles().into_iter().map(row).collect()
    }

    #[test]
    fn longer_candles_come_of_minutes_in_either_sequence() {
        let upwards = [(0, 0, 4, 5), (5, 5, 9, 4), (10, 10, 14, 5)];
        assert_eq!(derived(CandleOrder::OldestFirst, 9, 99), upwards);
        let downwards: Vec<_> = upwards.into_iter().rev().collect();
        assert_eq!(derived(CandleOrder::NewestFirst, 9, 99), downwards);
        assert_eq!(derived(CandleOrder::OldestFirst, 2, 99), upwards[..2]);
        assert_eq!(derived(CandleOrder::NewestFirst, 1, 99), downwards[..1]);
        // An interval that has begun is finished.
        assert_eq!(derived(CandleOrder::OldestFirst, 9, 1), upwards[..1]);
        assert_eq!(derived(CandleOrder::OldestFirst, 9, 6), upwards[..2]);
    }
}

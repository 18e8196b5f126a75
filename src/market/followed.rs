//! Prices that another process has read from the exchange's feed, and hands on.

use super::checkpoint::SavedSymbol;
use super::day::Day;
use super::directory::TradingSession;
use super::last_value::LastValue;
use super::tick::Tick;
use super::writer::MarketWriter;
use crate::types::{Symbol, SymbolIndex, TimestampMicros};

/// A change of a price, as the process tells it that has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowedPrice {
    /// In cents.
    pub price_cents: i64,
    /// Time of the trade.
    pub timestamp: TimestampMicros,
    /// Its sequence in the current feed session.
    pub sequence: u64,
}

/// What another process knew of a symbol when this one takes the exchange's feed over from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedSymbol {
    /// Its name.
    pub symbol: Symbol,
    /// Its last value. Its ordinals are those of this process.
    pub value: LastValue,
    /// The trading session that the figures belong to.
    pub session: Option<TradingSession>,
}

impl MarketWriter {
    /// Takes a change of a price, unless the table has a later one. Prices come in the order of the
    /// feed; prints between two of them are not known.
    pub fn follow_price(&mut self, symbol: SymbolIndex, price: &FollowedPrice) {
        let mut value = self.last_value(symbol);
        let position = (self.ordinal(), price.sequence);
        if position <= (value.changed_ordinal, value.changed_sequence) {
            return;
        }
        value.price_cents = price.price_cents;
        value.timestamp = price.timestamp;
        (value.changed_ordinal, value.changed_sequence) = position;
        (value.last_ordinal, value.last_sequence) = position;
        if value.open_cents != 0 {
            value.high_cents = value.high_cents.max(price.price_cents);
            value.low_cents = value.low_cents.min(price.price_cents);
        }
        self.set_followed(symbol, value, price.sequence);
    }

    /// Takes the last value of a symbol that is kept apart from the changes, unless the table has a
    /// later price. A change that streams hear of stands at `position`, up to which they have all
    /// others.
    pub fn follow_value(&mut self, symbol: SymbolIndex, value: LastValue, position: u64) {
        let before = self.last_value(symbol);
        let ordinal = self.ordinal();
        let place = |value: &LastValue| match value.changed_ordinal == ordinal {
            true => Some(value.changed_sequence),
            false => None,
        };
        // Of two that are of earlier sessions the kept one is at least as new.
        if place(&value) < place(&before) {
            return;
        }
        if value.price_cents == before.price_cents && place(&value) == place(&before) {
            self.set_value(symbol, value);
            return;
        }
        self.set_followed(symbol, value, position);
    }

    fn set_followed(&mut self, symbol: SymbolIndex, value: LastValue, sequence: u64) {
        self.set_value(symbol, value);
        self.publish(Tick {
            symbol,
            ordinal: self.ordinal(),
            sequence,
            price_cents: value.price_cents,
            num_shares: 0,
            timestamp: value.timestamp,
            follows_gap: true,
        });
        self.note_changed(symbol);
    }

    /// The prices of a symbol are not followed any longer: the table has none, rather than an old one.
    pub fn forget(&mut self, symbol: SymbolIndex) {
        self.set_value(symbol, LastValue::default());
    }

    /// Goes on from what another process knew. Lines of the feed that are included in a symbol's value
    /// are not counted again.
    pub fn take_over(&mut self, symbols: Vec<HandedSymbol>) {
        let ordinal = self.ordinal();
        let is_of_session = |handed: &&HandedSymbol| handed.value.last_ordinal == ordinal;
        let counted = symbols.iter().filter(is_of_session);
        let counted = counted.map(|handed| (handed.symbol, handed.value.last_sequence));
        let counted = counted.collect();
        self.goes_on_from(symbols.into_iter().map(saved).collect(), counted);
    }
}

fn saved(HandedSymbol { symbol, value, session }: HandedSymbol) -> SavedSymbol {
    let figures = (value.open_cents, value.high_cents, value.low_cents);
    let day = Day::of_figures(figures, value.price_cents, value.timestamp.micros());
    SavedSymbol { symbol, value, session, begins: TimestampMicros::default(), day }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::directory::tests::listing;
    use crate::market::{MarketLimits, MarketReader, Print, Watchers, open_market};
    use crate::types::PriceCents;

    const SPY: SymbolIndex = SymbolIndex::FIRST;

    fn market() -> (MarketWriter, MarketReader) {
        let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
        writer.list(&[listing("SPY")]).unwrap();
        writer.begin_session("s", 1);
        (writer, reader)
    }

    fn price(price_cents: i64, sequence: u64) -> FollowedPrice {
        FollowedPrice { price_cents, timestamp: TimestampMicros::new(sequence), sequence }
    }

    fn value(price_cents: i64, (ordinal, sequence): (u16, u64)) -> LastValue {
        LastValue {
            price_cents,
            open_cents: 90,
            high_cents: 110,
            low_cents: 80,
            volume: 1_000,
            timestamp: TimestampMicros::new(sequence),
            changed_ordinal: ordinal,
            changed_sequence: sequence,
            last_ordinal: ordinal,
            last_sequence: sequence,
        }
    }

    fn ticks(reader: &mut MarketReader) -> Vec<(i64, u64)> {
        let mut ticks = Vec::new();
        while let Ok(Some(words)) = reader.ring.try_next() {
            let tick = Tick::from_words(&words).unwrap();
            assert!(tick.follows_gap);
            ticks.push((tick.price_cents, tick.sequence));
        }
        ticks
    }

    #[test]
    fn the_newest_wins_whether_it_is_a_change_or_kept() {
        let (mut writer, mut reader) = market();
        writer.follow_price(SPY, &price(100, 10));
        writer.follow_value(SPY, value(95, (1, 9)), 10);
        writer.follow_price(SPY, &price(95, 9));
        assert_eq!(ticks(&mut reader), [(100, 10)]);
        writer.follow_value(SPY, value(101, (1, 11)), 10);
        writer.follow_value(SPY, value(101, (1, 11)), 12);
        writer.follow_price(SPY, &price(101, 11));
        assert_eq!(
            ticks(&mut reader),
            [(101, 10)],
            "it takes no stream further than the others are"
        );
        assert_eq!(reader.table.get(SPY).volume, 1_000);
    }

    #[test]
    fn a_kept_value_of_an_earlier_session_replaces_one_of_an_earlier_session_only() {
        let (mut writer, mut reader) = market();
        writer.follow_value(SPY, value(50, (0, 900)), 3);
        assert_eq!(ticks(&mut reader), [(50, 3)]);
        writer.follow_price(SPY, &price(60, 4));
        writer.follow_value(SPY, value(50, (0, 900)), 4);
        assert_eq!(ticks(&mut reader), [(60, 4)]);
        writer.begin_session("t", 1);
        writer.follow_value(SPY, value(50, (0, 900)), 0);
        assert_eq!(reader.table.get(SPY).price_cents, 50);
    }

    #[test]
    fn what_is_forgotten_has_no_price() {
        let (mut writer, reader) = market();
        writer.follow_price(SPY, &price(100, 10));
        writer.forget(SPY);
        assert!(!reader.table.get(SPY).has_price());
    }

    #[test]
    fn lines_that_a_handed_value_includes_are_not_counted_again() {
        let (mut writer, reader) = market();
        let handed =
            |value| HandedSymbol { symbol: Symbol::new("SPY").unwrap(), value, session: None };
        writer.take_over(vec![handed(value(100, (1, 10)))]);
        let print = |sequence, cents| Print {
            symbol: SPY,
            price: PriceCents::new(cents).unwrap(),
            num_shares: 5,
            counts_volume: true,
            timestamp: TimestampMicros::new(sequence),
            sequence,
            execution: sequence,
        };
        writer.print(&print(10, 99));
        let first = reader.table.get(SPY);
        assert_eq!((first.price_cents, first.volume), (100, 1_000));
        writer.print(&print(11, 120));
        let now = reader.table.get(SPY);
        assert_eq!((now.price_cents, now.volume), (120, 1_005));
        assert_eq!((now.open_cents, now.high_cents, now.low_cents), (90, 120, 80));
        writer.begin_session("t", 1);
        writer.print(&print(3, 70));
        assert_eq!(reader.table.get(SPY).low_cents, 70);
    }
}

use super::*;
use crate::market::directory::tests::listing;

fn print(symbol: usize, cents: i64, sequence: u64) -> Print {
    Print {
        symbol: SymbolIndex::new(symbol).unwrap(),
        price: PriceCents::new(cents).unwrap(),
        num_shares: 100,
        counts_volume: true,
        timestamp: TimestampMicros::new(sequence),
        sequence,
        execution: sequence,
    }
}

#[test]
fn a_print_is_in_the_table_and_in_the_ring() {
    let (mut writer, mut reader) = open_market(Watchers::default(), MarketLimits::default());
    writer.list(&[listing("SPY")]).unwrap();
    writer.begin_session("7", 1);
    writer.print(&print(0, 100, 1));
    writer.print(&print(0, 90, 2));
    writer.print(&print(0, 90, 3));
    writer.end_batch(3);
    let value = reader.table.get(SymbolIndex::new(0).unwrap());
    assert_eq!((value.open_cents, value.high_cents, value.low_cents), (100, 100, 90));
    assert_eq!(value.volume, 300);
    assert_eq!(value.changed_sequence, 2, "the third print repeats the price");
    assert_eq!(value.timestamp.micros(), 3);
    let mut prices = Vec::new();
    while let Ok(Some(words)) = reader.ring.try_next() {
        prices.push(Tick::from_words(&words).unwrap().price_cents);
    }
    assert_eq!(prices, [100, 90, 90]);
    assert_eq!(reader.status.session(), "7");
    assert_eq!(reader.status.sequence(), 3);
}

#[test]
fn shares_that_another_line_counted_are_not_counted_again() {
    let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
    writer.print(&Print { counts_volume: false, ..print(0, 100, 1) });
    assert_eq!(reader.table.get(SymbolIndex::new(0).unwrap()).volume, 0);
}

use super::super::directory::TradingSession;

fn session(open: u64, close: u64) -> Option<TradingSession> {
    let time = TimestampMicros::new;
    Some(TradingSession { open: time(open), close: time(close) })
}

fn figures(reader: &MarketReader) -> (i64, i64, i64, i64, u64) {
    let value = reader.table.get(SymbolIndex::new(0).unwrap());
    (value.price_cents, value.open_cents, value.high_cents, value.low_cents, value.volume)
}

fn bust(execution: u64, sequence: u64) -> Bust {
    let symbol = SymbolIndex::new(0).unwrap();
    let (price, num_shares) = (None, None);
    Bust { symbol, execution, price, num_shares, counts_volume: true, sequence }
}

#[test]
fn a_bust_takes_its_print_out_of_the_last_price_and_of_the_days_figures() {
    let (mut writer, mut reader) = open_market(Watchers::default(), MarketLimits::default());
    writer.list(&[listing("SPY")]).unwrap();
    writer.begin_session("7", 1);
    for (sequence, cents) in [(1, 100), (2, 150), (3, 50), (4, 90)] {
        writer.print(&print(0, cents, sequence));
    }
    assert_eq!(figures(&reader), (90, 100, 150, 50, 400));
    writer.bust(&bust(2, 5));
    assert_eq!(figures(&reader), (90, 100, 100, 50, 300));
    writer.bust(&bust(2, 6));
    assert_eq!(figures(&reader), (90, 100, 100, 50, 300), "once");
    writer.bust(&bust(4, 7));
    assert_eq!(figures(&reader), (50, 100, 100, 50, 200));
    writer.bust(&bust(99, 8));
    assert_eq!(figures(&reader), (50, 100, 100, 50, 200), "of a print that never was");
    let mut last = None;
    while let Ok(Some(words)) = reader.ring.try_next() {
        last = Tick::from_words(&words);
    }
    assert_eq!(last.map(|tick| (tick.price_cents, tick.sequence)), Some((50, 7)), "is told");
    for execution in [1, 3] {
        writer.bust(&bust(execution, 9));
    }
    assert_eq!(figures(&reader), (0, 0, 0, 0, 0), "as if it had never traded");
}

#[test]
fn a_day_begins_with_the_next_listed_session_and_what_came_after_the_close_is_of_it() {
    let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
    let listed = |open, close, before| Listing {
        session: session(open, close),
        previous_close: PriceCents::new(before).ok(),
        ..listing("SPY")
    };
    writer.replace_list(&[listed(1, 10, 70)]).unwrap();
    writer.print(&print(0, 100, 2));
    writer.print(&print(0, 110, 9));
    assert!(!writer.is_day_over(TimestampMicros::new(9)));
    assert!(writer.is_day_over(TimestampMicros::new(10)));
    writer.replace_list(&[listed(1, 10, 70)]).unwrap();
    writer.print(&print(0, 130, 12));
    assert_eq!(figures(&reader), (130, 100, 130, 100, 300), "nothing says yet that it ended");
    writer.replace_list(&[listed(11, 20, 110)]).unwrap();
    assert_eq!(figures(&reader), (130, 130, 130, 130, 100));
    // A line of the day before that comes late.
    writer.print(&print(0, 5, 8));
    assert_eq!(figures(&reader), (5, 130, 130, 130, 100));
    writer.bust(&bust(9, 13));
    assert_eq!(figures(&reader), (5, 130, 130, 130, 100), "it was the day before");
    writer.replace_list(&[listed(21, 30, 5)]).unwrap();
    assert_eq!(figures(&reader), (5, 0, 0, 0, 0), "the last price stays");
}

#[test]
fn a_session_that_moves_is_no_other_unless_the_exchange_began_again() {
    let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
    let listed = |open, close| Listing { session: session(open, close), ..listing("SPY") };
    writer.replace_list(&[listed(1, 10)]).unwrap();
    writer.print(&print(0, 100, 2));
    writer.replace_list(&[listed(3, 12)]).unwrap();
    assert_eq!(figures(&reader).4, 100);
    writer.begin_numbering(true);
    assert_eq!(figures(&reader).4, 0);
}

#[test]
fn the_listed_open_counts_once_there_is_a_print() {
    let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
    let open = PriceCents::new(120).ok();
    writer.replace_list(&[Listing { open, ..listing("SPY") }]).unwrap();
    assert_eq!(figures(&reader), (0, 0, 0, 0, 0));
    writer.print(&print(0, 100, 2));
    assert_eq!(figures(&reader), (100, 120, 120, 100, 100));
}

#[test]
fn figures_go_on_after_a_restart_and_busts_of_earlier_prints_count() {
    let (mut writer, _reader) = open_market(Watchers::default(), MarketLimits::default());
    let listed = Listing { session: session(1, 100), ..listing("SPY") };
    writer.replace_list(std::slice::from_ref(&listed)).unwrap();
    for (sequence, cents) in [(1, 100), (2, 150), (3, 50)] {
        writer.print(&print(0, cents, sequence));
    }
    let file = writer.checkpoint(&"7".into(), 3).encode();
    let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
    let checkpoint = Checkpoint::decode(&file).unwrap();
    assert_eq!((checkpoint.session.as_str(), checkpoint.sequence), ("7", 3));
    writer.restore(checkpoint);
    assert_eq!(writer.checkpoint(&"7".into(), 3).encode(), file, "nothing is lost unlisted");
    writer.replace_list(&[listing("IBM"), listed]).unwrap();
    let index = writer.index_of(&Symbol::new("SPY").unwrap()).unwrap();
    assert_eq!(reader.table.get(index).volume, 300);
    let price = PriceCents::new(150).ok();
    let void = Bust { symbol: index, price, num_shares: Some(100), ..bust(2, 4) };
    writer.bust(&void);
    let value = reader.table.get(index);
    assert_eq!((value.price_cents, value.high_cents, value.low_cents), (50, 100, 50));
    assert_eq!((value.open_cents, value.volume), (100, 200));
    let next = print(1, 70, 5);
    writer.print(&Print { symbol: index, ..next });
    assert_eq!(reader.table.get(index).volume, 300);
    assert_eq!(Checkpoint::decode(&file[..file.len() - 1]), None);
    let mut rotten = file.clone();
    rotten[40] ^= 1;
    assert_eq!(Checkpoint::decode(&rotten), None);
}

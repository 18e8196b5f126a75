use super::super::RedisAddress;
use super::*;
use crate::market::{Listing, MarketLimits, MarketWriter, Print, Watchers, open_market};
use crate::types::{PriceCents, Symbol, TimestampMicros};

const SLOTS: usize = 64;

/// A market with a small ring, and a publisher that has not connected.
fn market() -> (MarketWriter, Publisher) {
    let limits = MarketLimits { ring_slots: SLOTS, ..MarketLimits::default() };
    let (mut writer, reader) = open_market(Watchers::default(), limits);
    let listing = Listing {
        symbol: Symbol::new("SPY").unwrap(),
        previous_close: None,
        open: None,
        session: None,
        source: Arc::from("test"),
        synthetic: false,
    };
    writer.list(&[listing]).unwrap();
    writer.begin_session("s", 1);
    let address: RedisAddress = "redis://127.0.0.1:1".parse().unwrap();
    let publisher = Publisher::new(PublisherOptions {
        health: RedisHealth::new(&address, FeedRole::alone()),
        market: reader,
        watch: Arc::new(ShardWatch::new()),
        role: FeedRole::alone(),
        lines: None,
        metrics: BridgeMetrics::default(),
    });
    (writer, publisher)
}

/// Prints whose prices are their sequences.
fn print(writer: &mut MarketWriter, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        writer.print(&Print {
            symbol: SymbolIndex::FIRST,
            price: PriceCents::new(sequence.cast_signed()).unwrap(),
            num_shares: 1,
            counts_volume: true,
            timestamp: TimestampMicros::new(sequence),
            sequence,
            execution: 0,
        });
        writer.end_batch(sequence);
    }
}

/// The sequences that the next request publishes, and all of its bytes.
fn published(publisher: &mut Publisher) -> (Vec<u64>, String) {
    let mut batch = Batch::new(&publisher.market);
    publisher.collect(&mut batch);
    let sequence = |(_, text): &(String, Vec<u8>)| {
        let message: serde_json::Value = serde_json::from_slice(text).unwrap();
        message["sequence"].as_u64().unwrap()
    };
    let prices = batch.changes.iter().filter(|(channel, _)| channel.starts_with("stock:price:"));
    let sequences = prices.map(sequence).collect();
    let commands = batch.commands(&publisher.market).get_packed_pipeline();
    (sequences, String::from_utf8(commands).unwrap())
}

#[test]
fn sequences_rise_also_where_the_ring_has_lapped_the_publisher() {
    let (mut writer, mut publisher) = market();
    print(&mut writer, 1..=3);
    assert_eq!(published(&mut publisher).0, [1, 2, 3]);
    let last = 3 + 4 * SLOTS as u64;
    print(&mut writer, 4..=last);
    assert_eq!(published(&mut publisher).0, [last], "the newest alone");
    // The ring still has what led to it.
    assert_eq!(published(&mut publisher).0, [0; 0]);
    print(&mut writer, last + 1..=last + 1);
    assert_eq!(published(&mut publisher).0, [last + 1]);
}

#[test]
fn a_request_sets_each_key_once_before_it_publishes() {
    let (mut writer, mut publisher) = market();
    print(&mut writer, 1..=3);
    let (_, commands) = published(&mut publisher);
    let places = |word: &str| commands.match_indices(word).map(|(at, _)| at).collect::<Vec<_>>();
    let (sets, publications) = (places("SET\r\n"), places("PUBLISH\r\n"));
    assert_eq!(
        (sets.len(), publications.len()),
        (1, 4),
        "the session, then the prices: {commands}"
    );
    assert!(sets[0] < publications[0]);
    assert!(commands.contains(r#""sequence":3,"session":"s""#), "{commands}");
}

/// The channels of the next request, in their order.
fn channels(publisher: &mut Publisher) -> Vec<String> {
    let mut batch = Batch::new(&publisher.market);
    publisher.collect(&mut batch);
    publisher.note_feed(&mut batch);
    batch.changes.into_iter().map(|(channel, _)| channel).collect()
}

#[test]
fn a_session_is_told_before_its_first_price_and_once() {
    let (mut writer, mut publisher) = market();
    print(&mut writer, 1..=2);
    assert_eq!(channels(&mut publisher), ["stock:feed", "stock:price:SPY", "stock:price:SPY"]);
    print(&mut writer, 3..=3);
    writer.begin_session("t", 1);
    print(&mut writer, 1..=1);
    assert_eq!(channels(&mut publisher), ["stock:price:SPY", "stock:feed", "stock:price:SPY"]);
    print(&mut writer, 2..=2);
    assert_eq!(channels(&mut publisher), ["stock:price:SPY"]);
}

#[test]
fn prints_at_the_same_price_are_in_the_key_before_the_position_says_so() {
    let (mut writer, mut publisher) = market();
    print(&mut writer, 1..=1);
    channels(&mut publisher);
    publisher.feed = None;
    for sequence in [2, 3] {
        let print = Print {
            symbol: SymbolIndex::FIRST,
            price: PriceCents::new(1).unwrap(),
            num_shares: 5,
            counts_volume: true,
            timestamp: TimestampMicros::new(sequence),
            sequence,
            execution: 0,
        };
        writer.print(&print);
    }
    writer.end_batch(3);
    let mut batch = Batch::new(&publisher.market);
    publisher.collect(&mut batch);
    assert!(batch.is_empty());
    publisher.note_feed(&mut batch);
    let text = String::from_utf8(batch.commands(&publisher.market).get_packed_pipeline()).unwrap();
    assert!(text.contains(r#""volume":11"#) && text.contains(r#""lastSequence":3"#), "{text}");
    assert!(text.find("stock:last:SPY") < text.find("stock:feed"), "{text}");
}

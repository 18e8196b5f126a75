//! Anything outside the contract from an exchange affects nothing else: no other feed line, no other
//! symbol, no start and no stop.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use crate::support::Server;
use crate::support::api::{Client, until};
use crate::support::venue::{FEED, Reply, SYMBOLS, Venue};
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    venue: Venue,
    server: Server,
    alice: Client,
    _data: TempDir,
}

impl World {
    fn start() -> Self {
        Self::start_with(Venue::start())
    }

    fn start_with(venue: Venue) -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), &["--exchange", &venue.address()]);
        let alice = server.user(data.path(), "alice");
        Self { venue, server, alice, _data: data }
    }

    fn await_price(&self, symbol: &str, cents: u64) {
        let path = format!("/symbol/{symbol}");
        until("a price", || (self.alice.get(&path).body["priceInCents"] == cents).then_some(()));
    }
}

fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

#[test]
fn odd_lines_of_the_feed_are_skipped_and_their_orders_asked_about() {
    let World { venue, server, alice, .. } = &World::start();
    let order = alice.place_resting("SPY");
    let external_id = venue.order(id(&order)).external_id;
    let long = format!(r#"{{"sequence":$SEQUENCE,"type":"trade","x":"{}"}}"#, "x".repeat(5_000));
    let trade = r#"{"sequence":$SEQUENCE,"type":"trade","executionId":"odd","symbol":"SPY","priceInCents":500,"numShares":10,"timestamp":1}"#;
    let odd = [
        trade.replace("\"trade\"", "\"quote\""),
        trade.replace("500", "0"),
        trade.replace("500", "-500"),
        trade.replace("500", "500.5"),
        trade.replace(":10,", ":0.5,"),
        trade.replace("SPY", "AJAX="),
        trade.replace("SPY", "BACpL"),
        trade.replace("SPY", "BRK A"),
        trade.replace(",\"timestamp\":1", ""),
        trade.replace("\"executionId\":\"odd\",", ""),
        trade.replace("}", ""),
        trade.replace("{", "[{"),
        "null".to_owned(),
        long,
        // Blank lines, and both kinds of line ends.
        "\n\r\n  ".to_owned(),
    ];
    for (line, cents) in odd.iter().zip(1_000..) {
        venue.raw_feed_line(line);
        venue.trade("SPY", cents, 100);
        until("a price", || (alice.get("/symbol/SPY").body["priceInCents"] == cents).then_some(()));
    }
    assert_eq!(server.metric("feed_disconnects_total"), 0, "the feed went on");
    assert_eq!(server.metric("feed_skipped_lines_total"), 14);

    // Lines of an order: the exchange's record counts.
    for (line, filled) in [
        (trade.replace("500", "0"), 2),
        (trade.replace("\"trade\"", "\"allocation\""), 3),
        (trade.replace("\"SPY\"", "7"), 4),
    ] {
        venue.fill_quietly(id(&order), 1, 1);
        let of_order = format!("\"orderId\":\"{external_id}\",\"timestamp\"");
        venue.raw_feed_line(&line.replace("\"timestamp\"", &of_order));
        until("the fill", || (alice.order(id(&order))["filledShares"] == filled - 1).then_some(()));
    }
    assert_eq!(server.metric("feed_disconnects_total"), 0);
}

#[test]
fn an_odd_entry_of_the_list_takes_no_other_with_it_and_the_list_is_followed() {
    let venue = Venue::start();
    venue.set(|options| {
        for (entry, close) in options.symbols.iter_mut().zip([Value::Null, json!(0), json!("x")]) {
            entry["previousCloseInCents"] = close;
            entry.as_object_mut().unwrap().remove("source");
        }
        let odd = [json!({"symbol": "BRK A"}), json!({"symbol": 7}), json!(null), json!("SPY")];
        options.symbols.splice(0..0, odd);
    });
    let World { venue, server, alice, .. } = &World::start_with(venue);
    let listed = || {
        let symbols = alice.get("/symbols").body["symbols"].as_array().unwrap().clone();
        symbols.iter().map(|one| one["symbol"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["AAPL", "IBM", "META", "SPY", "TSLA"]);
    assert_eq!(alice.get("/symbol/AAPL").body["previousCloseInCents"], Value::Null);
    assert_eq!(alice.get("/symbol/SPY").body["previousCloseInCents"], 10_000);
    alice.place_resting("AAPL");
    assert!(server.metric("feed_skipped_listings_total") >= 6);

    // One symbol is listed while the feed is up, and another is delisted.
    venue.set(|options| {
        options.symbols.retain(|entry| entry["symbol"] != "TSLA");
        options.symbols.push(json!({"symbol": "NEW", "sessionOpen": 1, "sessionClose": 2}));
    });
    venue.trade("NEW", 4_200, 10);
    until("the new symbol's first price", || {
        (alice.get("/symbol/NEW").body["priceInCents"] == 4_200).then_some(())
    });
    assert_eq!(listed(), ["AAPL", "IBM", "META", "NEW", "SPY"]);
    assert_eq!(alice.get("/symbol/TSLA").status, 404);
    let order = json!({"position": "buy", "symbol": "TSLA", "numShares": 1});
    assert_eq!(alice.post("/order", &order).status, 400);
    assert_eq!(server.metric("feed_disconnects_total"), 0);

    // An unreadable list removes nothing.
    venue.on_symbols(|_| Reply::Status(500, Vec::new(), String::new()));
    venue.cut_feed();
    venue.await_more_requests(FEED, 1);
    venue.trade("NEW", 4_300, 10);
    until("a price", || (alice.get("/symbol/NEW").body["priceInCents"] == 4_300).then_some(()));
    assert_eq!(listed().len(), 5);
}

#[test]
fn a_numbering_that_begins_again_is_a_new_session_and_prices_go_on() {
    let world = World::start();
    let World { venue, server, alice, .. } = &world;
    let order = alice.place_resting("SPY");
    for cents in 1_000..1_050 {
        venue.trade("SPY", cents, 1);
    }
    world.await_price("SPY", 1_049);
    // The connection stays; only the numbers show it.
    venue.fill_quietly(id(&order), 1, 1);
    venue.set_sequence(3);
    venue.trade("SPY", 2_000, 1);
    until("a price of the new numbers", || {
        venue.trade("SPY", 2_001, 1);
        (alice.get("/symbol/SPY").body["priceInCents"] == 2_001).then_some(())
    });
    assert!(server.metric("feed_renumberings_total") >= 1);
    until("the fill that no line told", || {
        (alice.order(id(&order))["filledShares"] == 1).then_some(())
    });

    // A different session than requested, with a 200.
    let seen = server.metric("feed_other_sessions_total");
    venue.set(|options| options.gone = false);
    venue.fill_quietly(id(&order), 1, 1);
    venue.new_session("venue-2");
    venue.await_more_requests(FEED, 1);
    venue.trade("SPY", 3_000, 1);
    world.await_price("SPY", 3_000);
    assert_eq!(server.metric("feed_other_sessions_total"), seen + 1);
    until("the fill that no line told", || {
        (alice.order(id(&order))["filledShares"] == 2).then_some(())
    });
    assert_eq!(alice.get("/symbol/SPY").body["stale"], false);
}

#[test]
fn hints_before_an_answer_are_passed() {
    let venue = Venue::start();
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n".to_vec();
    for path in [FEED, SYMBOLS] {
        let hints = hints.clone();
        venue.on(path, move |_| Reply::After(hints.clone(), Box::new(Reply::Default)));
    }
    let world = World::start_with(venue);
    world.venue.trade("SPY", 1_234, 1);
    world.await_price("SPY", 1_234);
}

#[test]
fn answers_that_drip_hold_up_neither_the_next_attempt_nor_a_stop() {
    let world = World::start();
    let World { venue, alice, .. } = &world;
    let drip = || Reply::Drip(Duration::from_millis(500), Box::new(Reply::Default));
    venue.on_symbols(move |_| drip());
    // The head of one answer, the session line of another.
    let first = venue.requests(FEED).len();
    venue.on_feed_head(move |request| match request.number {
        n if n <= first + 1 => drip(),
        _ => Reply::Default,
    });
    venue.cut_feed();
    venue.await_more_requests(FEED, 2);
    venue.trade("SPY", 1_234, 1);
    until("a price after the drip", || {
        venue.trade("SPY", 1_235, 1);
        (alice.get("/symbol/SPY").body["priceInCents"] == 1_235).then_some(())
    });
    venue.on_feed_head(move |_| drip());
    venue.cut_feed();
    venue.await_more_requests(SYMBOLS, 1);
    // The drip continues for minutes.
    let World { server, .. } = world;
    assert!(server.program.stop().success());
}

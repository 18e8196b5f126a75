//! Candles are made of the prints that count, across restarts, and say where they may lack some.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::Server;
use crate::support::api::{Answer, Client, until};
use crate::support::cluster::Cluster;
use crate::support::venue::{Reply, Venue};
use serde_json::{Value, json};

const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;

/// The beginning of the present hour, or of the one before if it is young: prints of the last minutes are all
/// within it.
fn hour() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let now = u64::try_from(now).unwrap() - 30 * MINUTE;
    now - now % HOUR
}

fn print(venue: &Venue, (execution, at): (&str, u64), cents: u64, shares: u64) {
    venue.feed_line(json!({"type": "trade", "executionId": execution, "symbol": "SPY",
        "priceInCents": cents, "numShares": shares, "timestamp": at}));
}

fn bust(venue: &Venue, execution: &str, cents: u64, shares: u64) {
    venue.feed_line(json!({"type": "bust", "executionId": execution, "symbol": "SPY",
        "priceInCents": cents, "numShares": shares}));
}

fn get(client: &Client, query: &str) -> Answer {
    let answer = client.get(&format!("/symbol/SPY/candles?order=asc&{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer
}

/// A server without heartbeats of the exchange: its lines alone tell the time, which is one of the past.
fn start_without_heartbeats(venue: &Venue, data: &tempfile::TempDir) -> Server {
    venue.set(|options| options.heartbeat = None);
    let server = Server::start_unready(data.path(), &["--exchange", &venue.address()]);
    until("the feed to be up", || (server.metric("feed_up") == 1).then_some(()));
    server
}

/// Minutes since `hour`, four prices, volume and trades, of each candle.
fn bars(client: &Client, hour: u64, query: &str) -> Value {
    let answer = get(client, &format!("from={hour}&{query}"));
    let bar = |bar: &Value| {
        let minute = (bar["start"].as_u64().unwrap() - hour) / MINUTE;
        json!([
            minute,
            bar["openInCents"],
            bar["highInCents"],
            bar["lowInCents"],
            bar["closeInCents"],
            bar["volume"],
            bar["trades"]
        ])
    };
    answer.body["candles"].as_array().unwrap().iter().map(bar).collect()
}

#[track_caller]
fn await_bars(client: &Client, hour: u64, query: &str, expected: &Value) {
    let mut last = Value::Null;
    let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the candles", || {
            last = bars(client, hour, query);
            (last == *expected).then_some(())
        });
    }));
    assert!(reached.is_ok(), "{last} is not {expected}");
}

#[test]
fn candles_are_those_of_the_prints_that_count_whenever_the_server_ends() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let address = venue.address();
    let start = || Server::start(data.path(), &["--exchange", &address]);
    let alice = |server: &Server| server.user(data.path(), "alice");
    let mut server = start();
    let hour = hour();
    for (execution, minute, cents, shares) in
        [("a", 0, 100, 10), ("b", 0, 130, 20), ("c", 0, 90, 30), ("d", 7, 95, 40)]
    {
        print(&venue, (execution, hour + minute * MINUTE), cents, shares);
    }
    // The line of the other side counts nothing.
    venue.feed_line(json!({"type": "trade", "executionId": "d", "symbol": "SPY", "volume": false,
        "priceInCents": 95, "numShares": 40, "timestamp": hour + 7 * MINUTE}));
    let both = json!([[0, 100, 130, 90, 90, 60, 3], [7, 95, 95, 95, 95, 40, 1]]);
    await_bars(&alice(&server), hour, "", &both);
    bust(&venue, "b", 130, 20);
    let busted = json!([[0, 100, 100, 90, 90, 40, 2], [7, 95, 95, 95, 95, 40, 1]]);
    await_bars(&alice(&server), hour, "interval=1m", &busted);
    let all = json!([[0, 100, 100, 90, 95, 80, 3]]);
    for interval in ["15m", "1h"] {
        await_bars(&alice(&server), hour, &format!("interval={interval}"), &all);
    }
    let five = json!([[0, 100, 100, 90, 90, 40, 2], [5, 95, 95, 95, 95, 40, 1]]);
    await_bars(&alice(&server), hour, "interval=5m", &five);

    // Killed, and stopped; each time trading goes on. Lines that come again count once.
    server.program.kill_in_place();
    print(&venue, ("e", hour + 7 * MINUTE), 99, 5);
    server = start();
    let after = json!([[0, 100, 100, 90, 90, 40, 2], [7, 95, 99, 95, 99, 45, 2]]);
    await_bars(&alice(&server), hour, "", &after);
    assert!(server.program.stop().success());
    print(&venue, ("f", hour + 9 * MINUTE), 80, 1);
    let server = start();
    let alice = alice(&server);
    let last = json!([
        [0, 100, 100, 90, 90, 40, 2],
        [7, 95, 99, 95, 99, 45, 2],
        [9, 80, 80, 80, 80, 1, 1]
    ]);
    await_bars(&alice, hour, "", &last);

    // Nothing was missed since the first line ever.
    let before = get(&alice, "").body["missing"].as_array().unwrap().len();
    assert_eq!(before, 1);
    // The print of this bust came to an earlier process: its minute is not known, so the day is marked.
    bust(&venue, "a", 100, 10);
    until("the mark", || {
        let answer = get(&alice, "");
        let missing = answer.body["missing"].as_array().unwrap().len();
        (missing == 2).then(|| {
            let bars = answer.body["candles"].as_array().unwrap();
            assert!(bars.iter().all(|bar| bar["partial"] == true), "{}", answer.text);
        })
    });
}

#[test]
fn what_the_exchange_no_longer_keeps_is_missing_and_marked() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let server = start_without_heartbeats(&venue, &data);
    let hour = hour();
    print(&venue, ("a", hour), 100, 10);
    await_bars(
        &server.user(data.path(), "alice"),
        hour,
        "",
        &json!([[0, 100, 100, 100, 100, 10, 1]]),
    );
    assert!(server.program.stop().success());
    print(&venue, ("b", hour + 3 * MINUTE), 200, 10);
    let (_, sequence) = venue.position();
    venue.set(|options| options.kept_after = sequence);
    let server = start_without_heartbeats(&venue, &data);
    let alice = server.user(data.path(), "alice");
    print(&venue, ("c", hour + 5 * MINUTE), 110, 10);
    print(&venue, ("d", hour + 7 * MINUTE), 110, 10);
    let expected = [0, 5, 7].map(|at| {
        let cents = if at == 0 { 100 } else { 110 };
        json!([at, cents, cents, cents, cents, 10, 1])
    });
    await_bars(&alice, hour, "", &json!(expected));
    let answer = get(&alice, &format!("from={}", hour + MINUTE));
    let missing = answer.body["missing"].as_array().unwrap().clone();
    let covers = |at: u64| {
        missing.iter().any(|one| one["from"].as_u64() <= Some(at) && one["to"].as_u64() >= Some(at))
    };
    assert!(covers(hour + 3 * MINUTE), "{}", answer.text);
}

#[test]
fn what_was_missed_is_filled_in_where_the_exchange_tells_it() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    // Stretches end with lines of the past: they are asked about without a wait.
    let server = start_without_heartbeats(&venue, &data);
    let hour = hour();
    print(&venue, ("a", hour), 100, 10);
    await_bars(
        &server.user(data.path(), "alice"),
        hour,
        "",
        &json!([[0, 100, 100, 100, 100, 10, 1]]),
    );
    assert!(server.program.stop().success());
    let (_, sequence) = venue.position();
    venue.set(|options| options.kept_after = sequence + 1);
    print(&venue, ("b", hour + 3 * MINUTE), 200, 10);
    // The history has that print, and one of the first minute that no line told.
    venue.on("/v1/candles", move |request| {
        let bar = |minute: u64, cents: u64, volume: u64, trades: u64| {
            json!({"start": hour + minute * MINUTE, "openInCents": 100, "highInCents": cents,
                   "lowInCents": 100, "closeInCents": cents, "volume": volume, "trades": trades})
        };
        let bars = [bar(0, 105, 15, 2), bar(3, 200, 10, 1), bar(7, 110, 10, 1)];
        let number = |name: &str| request.query[name].parse::<u64>().unwrap();
        let (from, to) = (number("from"), number("to"));
        let is_asked = |bar: &&Value| {
            let start = bar["start"].as_u64().unwrap();
            request.query["symbol"] == "SPY" && from <= start && start < to
        };
        let bars: Vec<_> = bars.iter().filter(is_asked).collect();
        Reply::Json(json!({ "candles": bars }))
    });
    let server = start_without_heartbeats(&venue, &data);
    let alice = server.user(data.path(), "alice");
    print(&venue, ("c", hour + 7 * MINUTE), 110, 10);
    print(&venue, ("d", hour + 8 * MINUTE), 120, 10);
    let expected = json!([
        [0, 100, 105, 100, 105, 15, 2],
        [3, 100, 200, 100, 200, 10, 1],
        [7, 100, 110, 100, 110, 10, 1],
        [8, 120, 120, 120, 120, 10, 1],
    ]);
    await_bars(&alice, hour, "", &expected);
    until("nothing to be missing", || {
        let answer = get(&alice, "");
        let is_whole = answer.body["missing"].as_array()?.is_empty();
        is_whole.then(|| {
            let bars = answer.body["candles"].as_array().unwrap();
            assert!(bars.iter().all(|bar| bar["partial"] == false), "{}", answer.text);
        })
    });
}

#[test]
fn pages_and_bad_values() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path(), &["--exchange", &venue.address()]);
    let alice = server.user(data.path(), "alice");
    let hour = hour();
    for minute in 0..20 {
        print(&venue, (&format!("e{minute}"), hour + minute * MINUTE), 100 + minute, 1);
    }
    until("all candles", || {
        (get(&alice, "").body["candles"].as_array()?.len() == 20).then_some(())
    });
    for (order, limit) in [("asc", 1), ("asc", 7), ("desc", 6), ("desc", 20)] {
        let (mut opens, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/symbol/spy/candles?order={order}&limit={limit}&cursor={cursor}");
            let page = alice.get(&path);
            assert_eq!(page.status, 200, "{}", page.text);
            let bars = page.body["candles"].as_array().unwrap();
            assert!(!bars.is_empty() && bars.len() <= limit, "{}", page.text);
            opens.extend(bars.iter().map(|bar| bar["openInCents"].as_u64().unwrap()));
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        if order == "desc" {
            opens.reverse();
        }
        assert_eq!(opens, (100..120).collect::<Vec<_>>(), "{order} {limit}");
    }
    let first = alice.get("/symbol/SPY/candles?limit=1").body["nextCursor"].clone();
    let first = first.as_str().unwrap();
    for (query, field, said) in [
        ("interval=2m", "interval", "1m, 5m, 15m, 1h or 1d"),
        ("limit=1001", "limit", "1 to 1000"),
        ("order=up", "order", "\"up\""),
        ("from=soon", "from", "RFC 3339"),
        (&*format!("interval=5m&cursor={first}"), "cursor", "of this interval and order"),
        (&*format!("order=asc&cursor={first}"), "cursor", "of this interval and order"),
        ("full=1", "full", "interval, from, to, order, limit, cursor"),
    ] {
        let refused = alice.get(&format!("/symbol/SPY/candles?{query}"));
        assert_eq!((refused.status, &refused.body["field"]), (400, &json!(field)), "{query}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{query}: {detail}");
    }
    assert_eq!(alice.get("/symbol/NONE/candles").status, 404);
}

#[test]
fn members_of_a_cluster_say_that_they_have_none() {
    let cluster = Cluster::start(&[]);
    for client in cluster.clients("alice") {
        let answer = client.get("/symbol/SPY/candles");
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("no_candles")));
    }
}

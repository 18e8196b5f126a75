//! `GET /clock` and `GET /calendar` tell what the exchange says of its time and its sessions, and nothing
//! else.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::Server;
use crate::support::api::{Client, until};
use crate::support::cluster::Cluster;
use crate::support::venue::Venue;
use serde_json::{Value, json};

const MINUTE: u64 = 60_000_000;

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    u64::try_from(now).unwrap()
}

/// Lists sessions of symbols; `null` for a symbol without one.
fn list(venue: &Venue, sessions: &[(&str, Option<(u64, u64)>)]) {
    venue.set(|options| {
        options.symbols = sessions
            .iter()
            .map(|(symbol, session)| match session {
                Some((open, close)) => {
                    json!({"symbol": symbol, "sessionOpen": open, "sessionClose": close})
                }
                None => json!({"symbol": symbol}),
            })
            .collect();
    });
}

/// Whether it is open, next open and next close, once the exchange's clock is known.
fn hours(client: &Client, query: &str) -> Value {
    until("the exchange's clock", || {
        let answer = client.get(&format!("/clock{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let clock = answer.body;
        if clock["timestamp"].is_null() {
            assert_eq!(clock["isOpen"], Value::Null, "unknown without a clock");
            return None;
        }
        Some(json!([clock["isOpen"], clock["nextOpen"], clock["nextClose"]]))
    })
}

#[test]
fn the_clock_and_the_sessions_are_the_exchanges() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    // The exchange's clock is an hour ahead of ours, and decides.
    venue.set(|options| options.clock_offset_micros = 3_600_000_000);
    let there = now() + 60 * MINUTE;
    let day = (there - 10 * MINUTE, there + 100 * MINUTE);
    let later = (there + 50 * MINUTE, there + 200 * MINUTE);
    let over = (there - 50 * MINUTE, there - 20 * MINUTE);
    list(
        &venue,
        &[
            ("DAY", Some(day)),
            ("TOO", Some(day)),
            ("LATE", Some(later)),
            ("OVER", Some(over)),
            ("NONE", None),
        ],
    );
    let server = Server::start(data.path(), &["--exchange", &venue.address()]);
    let alice = server.user(data.path(), "alice");
    assert_eq!(hours(&alice, ""), json!([true, later.0, day.1]));
    let timestamp = alice.get("/clock").body["timestamp"].as_u64().unwrap();
    assert!(timestamp.abs_diff(there) < 10 * MINUTE, "the exchange's time: {timestamp}");
    assert_eq!(hours(&alice, "?symbol=day"), json!([true, null, day.1]));
    assert_eq!(hours(&alice, "?symbol=LATE"), json!([false, later.0, later.1]));
    assert_eq!(hours(&alice, "?symbol=OVER"), json!([false, null, null]));
    assert_eq!(hours(&alice, "?symbol=NONE"), json!([null, null, null]));

    let session = |(open, close): (u64, u64), symbols| json!({"open": open, "close": close, "symbols": symbols});
    let calendar = |query: &str| {
        let answer = alice.get(&format!("/calendar{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["sessions"].clone()
    };
    assert_eq!(calendar(""), json!([session(over, 1), session(day, 2), session(later, 1)]));
    assert_eq!(calendar("?symbol=TOO"), json!([session(day, 1)]));
    assert_eq!(calendar("?symbol=NONE"), json!([]));
    assert_eq!(
        calendar(&format!("?from={}", later.0)),
        json!([session(day, 2), session(later, 1)])
    );
    assert_eq!(calendar(&format!("?to={}", day.0)), json!([session(over, 1)]));
    assert_eq!(calendar(&format!("?to={}&symbol=OVER", over.0)), json!([]));
    for (path, field) in [
        ("/clock?symbol=OTHER", "symbol"),
        ("/clock?from=1", "from"),
        ("/calendar?symbol=OTHER", "symbol"),
        ("/calendar?from=monday", "from"),
    ] {
        let refused = alice.get(path);
        assert_eq!((refused.status, &refused.body["field"]), (400, &json!(field)), "{path}");
    }

    // Without the exchange nobody can say whether the next session has begun.
    venue.close();
    until("the feed to be down", || (server.metric("feed_up") == 0).then_some(()));
    assert_eq!(hours(&alice, "?symbol=OVER"), json!([null, null, null]));
    assert_eq!(hours(&alice, "?symbol=DAY"), json!([true, null, day.1]), "as it was told");
}

#[test]
fn before_the_exchange_has_listed_anything_nothing_is_told() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let address = venue.address();
    venue.close();
    let settings = ["--exchange", &*address];
    let server = Server::start_unready(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    for path in ["/clock", "/calendar"] {
        let answer = alice.get(path);
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (503, &json!("no_symbols_yet")),
            "{path}"
        );
    }
}

#[test]
fn every_node_of_a_cluster_tells_the_time() {
    let cluster = Cluster::start(&[]);
    let clients = cluster.clients("alice");
    let first = hours(&clients[0], "");
    let sessions = clients[0].get("/calendar").body;
    for client in &clients {
        assert_eq!(hours(client, ""), first);
        assert_eq!(client.get("/calendar").body, sessions);
    }
}

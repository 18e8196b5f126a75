//! Feed sequences that jump, go back or are nonsense: later lines still count.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support;
use crate::support::events::EventStream;
use crate::support::venue::{FEED, Reply};
use crate::support::world::World;

const ODD: [(&str, &str); 10] = [
    (
        "a heartbeat from far ahead",
        r#"{"type":"heartbeat","sequence":1000000000000000,"timestamp":$NOW}"#,
    ),
    (
        "a heartbeat of the largest number",
        r#"{"type":"heartbeat","sequence":18446744073709551615,"timestamp":$NOW}"#,
    ),
    ("a heartbeat from the beginning", r#"{"type":"heartbeat","sequence":0,"timestamp":$NOW}"#),
    ("a heartbeat of less than nothing", r#"{"type":"heartbeat","sequence":-1,"timestamp":$NOW}"#),
    ("a heartbeat without a number", r#"{"type":"heartbeat"}"#),
    (
        "a trade from far ahead",
        r#"{"sequence":1000000000000000,"type":"trade","executionId":"far","symbol":"IBM","priceInCents":1,"numShares":1,"timestamp":$NOW}"#,
    ),
    (
        "a trade of the largest number",
        r#"{"sequence":18446744073709551615,"type":"trade","executionId":"far","symbol":"IBM","priceInCents":1,"numShares":1,"timestamp":$NOW}"#,
    ),
    (
        "a trade without a number",
        r#"{"type":"trade","executionId":"none","symbol":"IBM","priceInCents":1,"numShares":1,"timestamp":$NOW}"#,
    ),
    ("a session line in the middle", r#"{"type":"session","session":"venue-1","sequence":7}"#),
    (
        "another session's line in the middle",
        r#"{"type":"session","session":"surprise","sequence":1000000}"#,
    ),
];

#[test]
fn what_comes_after_an_odd_number_still_counts() {
    let world = World::start(&[]);
    let venue = &world.venue;
    let mut stream = EventStream::subscribe(&world.server.address, &world.alice.token, &["SPY"]);
    let mut price = 10_000;
    for (what, line) in ODD {
        eprintln!("{what}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let line = line.replace("$NOW", &now.as_micros().to_string());
        venue.raw_feed_line(&line);
        let order = world.buy(10);
        venue.fill(&order, 100, 10);
        world.alice.await_status(&order, "filled");
        // Prices continue as well, at the latest after a reconnect.
        price += 1;
        support::api::until("the next price", || {
            venue.trade("SPY", price, 1);
            let symbol = world.alice.get("/symbol/SPY");
            (symbol.body.get("priceInCents") == Some(&price.into())).then_some(())
        });
        while stream.await_price("SPY").0.unsigned_abs() != price {}
    }
}

#[test]
fn a_session_line_that_says_nothing_is_asked_for_again() {
    let world = World::start(&[]);
    let venue = &world.venue;
    let first = venue.requests(FEED).len();
    venue.on_feed_head(move |request| match request.number - first {
        1 => Reply::Json(serde_json::json!({"type": "session"})),
        2 => Reply::Json(serde_json::json!({"type": "session", "session": "", "sequence": 0})),
        3 => Reply::Json(serde_json::json!({"type": "session", "session": 7, "sequence": -1})),
        4 => Reply::Json(serde_json::Value::Null),
        5 => Reply::Status(200, vec![], String::new()),
        6 => Reply::Status(301, vec![("Location", "/v1/nowhere".into())], String::new()),
        7 => Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\n\r\n\r\n".to_vec()),
        8 => Reply::CutAfter(70, Box::new(Reply::Default)),
        _ => Reply::Default,
    });
    let order = world.buy(10);
    venue.cut_feed();
    venue.fill(&order, 100, 10);
    // A feed without a session line must not be awaited forever.
    venue.await_requests(FEED, first + 9);
    world.alice.await_status(&order, "filled");
}

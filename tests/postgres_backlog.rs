//! Postgres comes back after a long absence, to a hundred thousand changes: it gets all of them, in
//! order, while orders go on.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use serde_json::json;
use support::Server;
use support::api::until;
use support::load::{Load, assert_kept};
use support::postgres::{Postgres, assert_books_agree, await_caught_up};

const EVENTS: u64 = 100_000;
/// They are waited for in steps.
const STEPS: u64 = 10;

#[test]
fn a_hundred_thousand_changes_arrive_after_an_absence() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate", "--speed", "200"];
    let server = Server::start(data.path(), &settings);
    server.program.await_error("Postgres follows the log");
    postgres.kill();

    // Large orders, each of which many prints fill a part of, beside many small ones.
    let alice = server.user(data.path(), "alice");
    let large = ["SPY", "IBM", "BAC", "SPY", "IBM", "BAC"].map(|symbol| {
        let order = json!({"position": "buy", "symbol": symbol, "numShares": 10_000_000});
        let answer = alice.post("/order", &order);
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
        answer.body["orderId"].as_str().unwrap().to_owned()
    });
    let load = Load::start(&server, data.path(), 3);
    for step in 1..=STEPS {
        until("more changes", || {
            let events = server.metric("orders_events_total");
            (events >= EVENTS / STEPS * step).then_some(())
        });
    }
    for id in &large {
        alice.delete(&format!("/order/{id}"));
    }
    postgres.start_again();
    load.await_more(30);
    let mut ids = load.end();
    ids.extend(large);
    await_caught_up(&server, data.path(), &database.url);
    let events = database.number("SELECT count(*) FROM order_events");
    assert!(u64::try_from(events).unwrap() >= EVENTS, "{events} changes");
    assert_kept(&[&database], &ids);
    assert_books_agree(server, data.path(), &database.url);
}

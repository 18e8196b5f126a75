//! Open, high, low and volume belong to the exchange's trading day: they survive a restart, start over
//! on the next day, and exclude busted prints.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::Server;
use crate::support::api::{Client, until};
use crate::support::venue::{SYMBOLS, Venue};
use serde_json::{Value, json};

/// Price, open, high, low, volume and previous close.
fn figures(alice: &Client) -> Value {
    let quote = alice.get("/symbol/SPY").body;
    let members = ["priceInCents", "openInCents", "highInCents", "lowInCents", "volume"];
    let figures = members.iter().chain(&["previousCloseInCents"]).map(|name| quote[*name].clone());
    figures.collect()
}

#[track_caller]
fn await_figures(alice: &Client, expected: &Value) {
    let mut last = Value::Null;
    let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the figures", || {
            last = figures(alice);
            (last == *expected).then_some(())
        });
    }));
    assert!(reached.is_ok(), "{last} is not {expected}");
}

/// A venue that lists no open, so that the first print sets it.
fn venue() -> Venue {
    let venue = Venue::start();
    venue.set(|options| {
        for entry in &mut options.symbols {
            entry.as_object_mut().unwrap().remove("openInCents");
        }
    });
    venue
}

fn print(venue: &Venue, execution: &str, cents: u64, shares: u64) {
    venue.feed_line(json!({"type": "trade", "executionId": execution, "symbol": "SPY",
        "priceInCents": cents, "numShares": shares}));
}

fn bust(venue: &Venue, execution: &str, cents: u64, shares: u64) {
    venue.feed_line(json!({"type": "bust", "executionId": execution, "symbol": "SPY",
        "priceInCents": cents, "numShares": shares}));
}

#[test]
fn a_restart_changes_no_figure_and_a_bust_takes_its_print_out() {
    let (venue, data) = (venue(), tempfile::tempdir().unwrap());
    let address = venue.address();
    let start = || Server::start(data.path(), &["--exchange", &address]);
    let mut server = start();
    let alice = |server: &Server| server.user(data.path(), "alice");
    for (execution, cents, shares) in [("a", 100, 10), ("b", 150, 20), ("c", 50, 30), ("d", 90, 40)]
    {
        print(&venue, execution, cents, shares);
    }
    await_figures(&alice(&server), &json!([90, 100, 150, 50, 100, 10_000]));
    bust(&venue, "b", 150, 20);
    await_figures(&alice(&server), &json!([90, 100, 100, 50, 80, 10_000]));

    // The server is killed, then stopped; each time trading continues meanwhile.
    server.program.kill_in_place();
    print(&venue, "e", 200, 5);
    server = start();
    await_figures(&alice(&server), &json!([200, 100, 200, 50, 85, 10_000]));
    assert!(server.program.stop().success());
    print(&venue, "f", 40, 5);
    bust(&venue, "e", 200, 5);
    let server = start();
    await_figures(&alice(&server), &json!([40, 100, 100, 40, 85, 10_000]));
    bust(&venue, "f", 40, 5);
    await_figures(&alice(&server), &json!([90, 100, 100, 50, 80, 10_000]));
}

#[test]
fn the_next_day_begins_the_figures_anew() {
    let (venue, data) = (venue(), tempfile::tempdir().unwrap());
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros());
    let (now, minute) = (now.unwrap(), 60_000_000);
    let list = |open: u64, close: u64, previous_close: u64| {
        venue.set(|options| {
            for entry in &mut options.symbols {
                entry["sessionOpen"] = open.into();
                entry["sessionClose"] = close.into();
                entry["previousCloseInCents"] = previous_close.into();
            }
        });
    };
    // The day has ended, and the exchange lists no new one yet.
    list(now - 100 * minute, now - minute, 70);
    let server = Server::start(data.path(), &["--exchange", &venue.address()]);
    let alice = server.user(data.path(), "alice");
    print(&venue, "a", 100, 10);
    print(&venue, "b", 110, 10);
    await_figures(&alice, &json!([110, 100, 110, 100, 20, 70]));
    // The list is read again and again, and the day continues until it changes.
    venue.await_more_requests(SYMBOLS, 2);
    list(now - minute, now + 100 * minute, 110);
    await_figures(&alice, &json!([110, null, null, null, 0, 110]));
    print(&venue, "c", 120, 5);
    await_figures(&alice, &json!([120, 120, 120, 120, 5, 110]));
    // A bust of the previous day.
    bust(&venue, "b", 110, 10);
    print(&venue, "d", 115, 5);
    await_figures(&alice, &json!([115, 120, 120, 115, 10, 110]));
}

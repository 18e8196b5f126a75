//! `429` from the exchange: it did nothing, so the order is sent again before its deadline, or
//! refused.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::time::Duration;

use crate::support;
use crate::support::venue::{CANCEL, FEED, QUERY, Reply, SUBMIT, SYMBOLS};
use crate::support::world::{World, buy, id};
use serde_json::json;

fn busy(retry_after: Option<u64>) -> Reply {
    let header = retry_after.map(|seconds| ("Retry-After", seconds.to_string()));
    Reply::Status(429, header.into_iter().collect(), "slow down".into())
}

#[test]
fn an_order_is_sent_again() {
    for retry_after in [None, Some(0), Some(1)] {
        let world = World::start(&[]);
        world.venue.on_submit(move |request| match request.number {
            1 => busy(retry_after),
            _ => Reply::Default,
        });
        world.buy(10);
        let submits = world.venue.requests(SUBMIT);
        assert_eq!((submits.len(), world.venue.orders().len()), (2, 1));
        let waited = submits[1].came - submits[0].came;
        assert!(waited >= Duration::from_secs(retry_after.unwrap_or(0)), "{waited:?}");
    }
}

#[test]
fn many_orders_are_sent_again_and_none_twice() {
    let world = World::start(&[]);
    world.venue.on_submit(|request| match request.number {
        1..=3 => busy(None),
        _ => Reply::Default,
    });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let alice = support::api::Client::new(&world.server.address, &world.alice.token);
                buy(&alice, "SPY", 10)
            });
        }
    });
    assert_eq!(world.venue.orders().len(), 8);
    assert_eq!(world.alice.all_orders().len(), 8);
}

fn is_refused(retry_after: Option<u64>) {
    let world = World::start(&[]);
    world.venue.on_submit(move |_| busy(retry_after));
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 100});
    let refused = world.alice.post("/order", &order);
    assert!(matches!(refused.status, 422 | 429 | 503), "{} {}", refused.status, refused.text);
    for order in world.alice.all_orders() {
        assert_eq!(order["status"], "failed", "{order}");
        assert!(order["reason"].is_string(), "{order}");
    }
    assert_eq!(world.venue.orders().len(), 0);
    world.venue.off(SUBMIT);
    support::api::until("an order to be taken again", || {
        (world.alice.post("/order", &order).status == 201).then_some(())
    });
}

#[test]
fn an_order_that_cannot_be_sent_again_in_time_is_refused() {
    is_refused(Some(3_600));
}

#[test]
fn an_order_is_refused_where_the_exchange_stays_busy() {
    is_refused(None);
}

#[test]
fn cancels_and_questions_are_sent_again() {
    let world = World::start(&[]);
    let venue = &world.venue;
    venue.on(CANCEL, |request| if request.number <= 2 { busy(None) } else { Reply::Default });
    let order = world.buy(10);
    let cancelled = world.alice.delete(&format!("/order/{order}"));
    assert!(matches!(cancelled.status, 200 | 202), "{}", cancelled.text);
    world.alice.await_status(&order, "cancelled");
    assert_eq!(venue.order(&order).status, "cancelled");

    venue.on(QUERY, |request| if request.number <= 2 { busy(Some(1)) } else { Reply::Default });
    venue.on_submit(
        |request| if request.number == 2 { Reply::lost(request) } else { Reply::Default },
    );
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 100});
    let placed = world.alice.post("/order", &order);
    assert!(matches!(placed.status, 201 | 202), "{}", placed.text);
    world.alice.await_status(id(&placed.body), "submitted");
}

#[test]
fn the_feed_and_the_symbols_are_asked_for_again() {
    let venue = support::venue::Venue::start();
    for path in [FEED, SYMBOLS] {
        venue.on(path, |request| if request.number <= 2 { busy(None) } else { Reply::Default });
    }
    let data = tempfile::tempdir().expect("a folder");
    let server = support::Server::start(data.path(), &["--exchange", &venue.address()]);
    let alice = server.user(data.path(), "alice");
    buy(&alice, "SPY", 10);
}

//! Feed lines that are repeated, out of order, or conflicting for one order.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support;
use crate::support::world::{World, buy};
use serde_json::{Value, json};

fn line(world: &World, kind: &str, order: &str, execution: &str, shares: u64) -> Value {
    let order = world.venue.order(order);
    json!({"type": kind, "executionId": execution, "symbol": order.symbol(), "priceInCents": 100,
        "numShares": shares, "orderId": order.external_id})
}

fn filled(world: &World, order: &str) -> u64 {
    world.alice.order(order)["filledShares"].as_u64().unwrap_or_default()
}

#[test]
fn a_line_counts_once_however_often_and_by_whatever_way_it_comes() {
    let world = World::start(&["--cleanup-interval-seconds", "1"]);
    let order = world.buy(100);
    let execution = world.venue.fill(&order, 100, 10);
    world.await_filled(&order, 10);
    world.venue.fill_line(&order, &execution, 100, 10);
    // Its copies may differ, and may come from another session.
    world.venue.feed_line(line(&world, "trade", &order, &execution, 9));
    let mut posted = line(&world, "trade", &order, &execution, 10);
    posted["sequence"] = json!(1);
    posted["timestamp"] = json!(1);
    assert_eq!(world.post_lines(&[posted.clone(), posted.clone()]).status, 204);
    world.venue.new_session("another");
    assert_eq!(world.post_lines(&[posted]).status, 204);
    world.venue.await_queries_of(&[&order], 2);
    world.venue.fill_line(&order, &execution, 100, 10);
    world.await_the_feed();
    assert_eq!(filled(&world, &order), 10);
}

#[test]
fn a_trade_between_two_orders_of_ours_counts_for_both() {
    let world = World::start(&[]);
    let (one, other) = (world.buy(10), buy(&world.bob, "SPY", 10));
    world.venue.feed_line(line(&world, "trade", &one, "both", 10));
    let mut second = line(&world, "trade", &other, "both", 10);
    second["volume"] = json!(false);
    world.venue.feed_line(second);
    world.alice.await_status(&one, "filled");
    world.bob.await_status(&other, "filled");
}

#[test]
fn busts_that_come_twice_early_or_of_nothing_take_back_what_they_name_and_no_more() {
    let world = World::start(&[]);
    let venue = &world.venue;
    let order = world.buy(100);
    venue.feed_line(line(&world, "trade", &order, "a", 10));
    venue.feed_line(line(&world, "trade", &order, "b", 20));
    for execution in ["a", "a", "nothing"] {
        venue.feed_line(line(&world, "bust", &order, execution, 10));
    }
    world.await_the_feed();
    assert_eq!(filled(&world, &order), 20);
    // The same execution after its bust is an old line.
    venue.feed_line(line(&world, "trade", &order, "a", 10));
    world.await_the_feed();
    assert_eq!(filled(&world, &order), 20);
    // Of another user's order.
    let other = buy(&world.bob, "SPY", 10);
    venue.feed_line(line(&world, "bust", &other, "b", 20));
    world.await_the_feed();
    assert_eq!(filled(&world, &order), 20);
    assert_eq!(world.bob.order(&other)["status"], "submitted");
}

#[test]
fn a_bust_that_comes_before_its_trade_is_the_last_word() {
    let world = World::start(&["--cleanup-interval-seconds", "1"]);
    let venue = &world.venue;
    let order = world.buy(100);
    venue.feed_line(line(&world, "bust", &order, "late", 10));
    venue.feed_line(line(&world, "trade", &order, "late", 10));
    world.await_the_feed();
    // The record does not have it either.
    support::api::until("nothing to be filled", || (filled(&world, &order) == 0).then_some(()));
}

#[test]
fn an_end_that_comes_before_the_last_fills_ends_nothing_too_early() {
    let world = World::start(&[]);
    let venue = &world.venue;
    let [half, whole] = [world.buy(10), world.buy(10)];
    for order in [&half, &whole] {
        venue.end_order(order, "expired");
        world.alice.await_status(order, "cancelled");
    }
    venue.fill(&half, 100, 5);
    venue.fill(&whole, 100, 10);
    world.await_filled(&half, 5);
    assert_eq!(world.await_filled(&whole, 10)["status"], "filled");
    // The final lines are repeated.
    for order in [&half, &whole] {
        let end = json!({"type": "cancelled", "symbol": "SPY",
            "orderId": venue.order(order).external_id});
        venue.feed_line(end);
    }
    world.await_the_feed();
    assert_eq!(world.alice.order(&half)["status"], "cancelled");
    assert_eq!(world.alice.order(&whole)["status"], "filled");
}

#[test]
fn fills_survive_a_kill_wherever_it_comes() {
    let mut world = World::start(&[]);
    let orders: Vec<String> = (0..20).map(|_| world.buy(30)).collect();
    for _ in 0..3 {
        for order in &orders {
            world.venue.fill(order, 100, 10);
        }
        // Whatever was read before is still there afterwards.
        let before: Vec<u64> = orders.iter().map(|order| filled(&world, order)).collect();
        world.restart(|_| ());
        for (order, before) in orders.iter().zip(before) {
            assert!(filled(&world, order) >= before);
        }
    }
    for order in &orders {
        world.alice.await_status(order, "filled");
        assert_eq!(filled(&world, order), 30);
    }
}

//! Lines that do not match their order: absurd sizes and prices, another symbol, reused ids. They count
//! only if the exchange's record confirms them.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support;
use crate::support::venue::Order;
use crate::support::world::{World, buy, id};
use serde_json::{Value, json};

/// Open orders are reconciled each second.
const EAGER: [&str; 2] = ["--cleanup-interval-seconds", "1"];

type Spoil = fn(&mut Value);

/// Lines of an order to buy 10 shares at a dollar that its record does not have.
const MISFITS: [(&str, Spoil); 9] = [
    ("ten million shares at ten million dollars", |line| {
        line["numShares"] = 10_000_000.into();
        line["priceInCents"] = 1_000_000_000.into();
    }),
    ("more shares than any order may have", |line| line["numShares"] = 10_000_001.into()),
    ("one share more than the order", |line| line["numShares"] = 11.into()),
    ("a cent worse than the limit", |line| line["priceInCents"] = 101.into()),
    ("a price of ten million dollars", |line| line["priceInCents"] = 1_000_000_000.into()),
    ("another symbol", |line| line["symbol"] = "IBM".into()),
    ("a symbol that is not listed", |line| line["symbol"] = "ZZZZ".into()),
    ("more than fits into 64 bits", |line| {
        line["numShares"] = serde_json::from_str("18446744073709551616").unwrap_or_default();
    }),
    ("no symbol", |line| drop(line.as_object_mut().map(|line| line.remove("symbol")))),
];

fn line_of(order: &Order, execution: &str) -> Value {
    json!({"type": "trade", "executionId": execution, "symbol": order.symbol(), "priceInCents": 100,
        "numShares": 5, "orderId": order.external_id, "sequence": 1, "timestamp": 1})
}

fn do_not_count(send: fn(&World, Value)) {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    let orders: Vec<String> = MISFITS.iter().map(|_| world.buy(10)).collect();
    for (number, ((_, spoil), order)) in MISFITS.iter().zip(&orders).enumerate() {
        let mut line = line_of(&venue.order(order), &format!("odd-{number}"));
        spoil(&mut line);
        send(&world, line);
    }
    world.await_the_feed();
    are_empty(&world, &orders);
    let all: Vec<&str> = orders.iter().map(String::as_str).collect();
    world.await_answers_about(&all);
    are_empty(&world, &orders);
    // Matching lines still count.
    for order in &orders {
        venue.fill(order, 100, 10);
        let filled = world.await_filled(order, 10);
        assert_eq!(filled["filledValueInCents"], 1_000, "{filled}");
    }
}

fn are_empty(world: &World, orders: &[String]) {
    let now = |order: &String| world.alice.order(order);
    let wrong: Vec<String> = (MISFITS.iter().zip(orders.iter().map(now)))
        .filter(|(_, order)| order["filledShares"] != 0 || order["status"] != "submitted")
        .map(|((what, _), order)| format!("{what}: {order}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn absurd_lines_of_the_feed_do_not_count() {
    do_not_count(|world, mut line| {
        line["sequence"] = Value::Null;
        world.venue.feed_line(line);
    });
}

#[test]
fn absurd_lines_by_webhook_do_not_count_and_hold_up_nobody() {
    do_not_count(|world, line| {
        let answer = world.post_lines(&[line]);
        assert_eq!(answer.status, 204, "{}", answer.text);
    });
}

#[test]
fn a_batch_with_an_absurd_line_takes_the_others() {
    let world = World::start(&[]);
    let [first, second] = [world.buy(10), world.buy(10)];
    let [mut absurd, mut fine] =
        [&first, &second].map(|order| line_of(&world.venue.order(order), "1"));
    absurd["numShares"] = 10_000_001.into();
    fine["sequence"] = 2.into();
    let answer = world.post_lines(&[absurd, json!({"sequence": -1}), Value::Null, fine]);
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert_eq!(world.alice.order(&second)["filledShares"], 5);
    assert_eq!(world.alice.order(&first)["filledShares"], 0);
}

#[test]
fn what_the_record_confirms_counts() {
    let world = World::start(&EAGER);
    let order = world.buy(10);
    world.venue.fill(&order, 101, 5);
    let order = world.await_filled(&order, 5);
    assert_eq!(order["filledValueInCents"], 505, "{order}");
}

#[test]
fn a_sale_below_its_limit_does_not_count() {
    let world = World::start(&EAGER);
    let order = json!({"position": "sell", "symbol": "SPY", "numShares": 10, "priceInCents": 100});
    let order = world.alice.post("/order", &order);
    assert_eq!(order.status, 201, "{}", order.text);
    let order = id(&order.body);
    let mut line = line_of(&world.venue.order(order), "worse");
    line["priceInCents"] = 99.into();
    line["sequence"] = Value::Null;
    world.venue.feed_line(line);
    world.await_the_feed();
    world.await_answers_about(&[order]);
    assert_eq!(world.alice.order(order)["filledShares"], 0);
    world.venue.fill(order, 101, 10);
    world.await_filled(order, 10);
}

#[test]
fn an_order_id_that_is_used_again_fills_nobody_elses_order() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    venue.give_external_ids(&["7", "7"]);
    let sale =
        json!({"position": "sell", "symbol": "SPY", "numShares": 20, "priceInCents": 20_100});
    let sale = world.alice.post("/order", &sale);
    assert_eq!(sale.status, 201, "{}", sale.text);
    let purchase =
        json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 30_000});
    let purchase = world.bob.post("/order", &purchase);
    assert!(matches!(purchase.status, 201 | 202), "{}", purchase.text);
    let (sale, purchase) = (id(&sale.body), id(&purchase.body));
    venue.fill(sale, 20_100, 20);
    let filled = world.await_filled(sale, 20);
    assert_eq!(
        (&filled["status"], &filled["filledValueInCents"]),
        (&json!("filled"), &json!(402_000))
    );
    assert_eq!(world.bob.order(purchase)["filledShares"], 0);
    venue.fill(purchase, 29_000, 10);
    let filled = support::api::until("the purchase to be filled", || {
        Some(world.bob.order(purchase)).filter(|order| order["status"] == "filled")
    });
    assert_eq!(
        (&filled["filledShares"], &filled["filledValueInCents"]),
        (&json!(10), &json!(290_000))
    );
    assert_eq!(world.alice.order(sale)["filledShares"], 20);
}

#[test]
fn a_line_of_an_earlier_order_with_this_id_fills_no_later_one() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    venue.give_external_ids(&["7", "7"]);
    let earlier = buy(&world.alice, "SPY", 10);
    let execution = venue.fill(&earlier, 100, 10);
    world.alice.await_status(&earlier, "filled");
    let later = buy(&world.bob, "SPY", 10);
    // The same line again, as from a webhook or a replay, and its bust.
    venue.fill_line(&earlier, &execution, 100, 10);
    world.await_the_feed();
    assert_eq!(world.bob.order(&later)["filledShares"], 0);
    venue.bust(&execution);
    support::api::until("the bust to be taken", || {
        (world.alice.order(&earlier)["filledShares"] == 0).then_some(())
    });
    assert_eq!(world.bob.order(&later)["filledShares"], 0);
    world.await_answers_about(&[&later]);
    assert_eq!(world.bob.order(&later)["status"], "submitted");
}

#[test]
fn an_order_that_has_left_memory_still_owns_its_id() {
    let world = World::start(&[&EAGER[..], &["--keep-ended-seconds", "0"]].concat());
    let venue = &world.venue;
    venue.give_external_ids(&["7", "7"]);
    let earlier = buy(&world.alice, "SPY", 10);
    let execution = venue.fill(&earlier, 100, 10);
    world.alice.await_status(&earlier, "filled");
    support::api::until("the order to leave memory", || {
        (world.server.metric("orders_ended_in_memory") == 0).then_some(())
    });
    let later = buy(&world.bob, "SPY", 10);
    support::api::until("the id to be known as used again", || {
        (world.server.metric("orders_second_external_ids_total") > 0).then_some(())
    });
    venue.fill_line(&earlier, &execution, 100, 10);
    world.await_the_feed();
    world.await_answers_about(&[&later]);
    assert_eq!(world.bob.order(&later)["filledShares"], 0);
    venue.fill(&later, 100, 4);
    support::api::until("its own fill", || {
        (world.bob.order(&later)["filledShares"] == 4).then_some(())
    });
    assert_eq!(world.alice.order(&earlier)["filledShares"], 10);
}

#[test]
fn a_fill_of_one_of_two_alike_orders_with_one_id_is_the_right_ones() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    venue.give_external_ids(&["7", "7"]);
    let (first, second) = (buy(&world.alice, "SPY", 10), buy(&world.bob, "SPY", 10));
    venue.fill(&second, 100, 10);
    world.bob.await_status(&second, "filled");
    support::api::until("the other to have nothing", || {
        let order = world.alice.order(&first);
        (order["filledShares"] == 0 && order["status"] == "submitted").then_some(())
    });
    venue.fill(&first, 100, 10);
    world.alice.await_status(&first, "filled");
    assert_eq!(world.bob.order(&second)["filledShares"], 10);
}

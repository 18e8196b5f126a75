//! A fill whose bust was missed must not count beside the fills that replace it.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::time::Duration;

use crate::support::api::until;
use crate::support::venue::{CANCEL, Reply, SUBMIT};
use crate::support::world::World;
use serde_json::{Value, json};

/// A fill comes before the acceptance, its bust is lost in a session change, and the order fills again
/// in `parts`.
fn is_filled_once(as_of: bool, parts: &[u64]) {
    let world = World::start(&[]);
    let venue = &world.venue;
    venue.set(|options| options.as_of = as_of);
    let exchange = venue.clone();
    venue.on_submit(move |request| {
        request.answer();
        for order in request.client_ids() {
            exchange.fill(&order, 100, 19);
        }
        Reply::late(Duration::from_millis(300))
    });
    let order = world.buy(38);
    venue.off(SUBMIT);
    world.await_filled(&order, 19);
    let early = &venue.order(&order).executions[0].id;
    // The record queried for the gap still shows it.
    venue.new_session("another");
    venue.await_queries_of(&[&order], 1);
    venue.bust_quietly(early);
    for &shares in parts {
        venue.fill(&order, 99, shares);
    }
    let truth = |order: &Value| {
        order["filledShares"] == 38
            && order["status"] == "filled"
            && order["filledValueInCents"] == 38 * 99
    };
    until("38 of 38 shares", || Some(world.alice.order(&order)).filter(truth));
    assert_eq!(venue.requests(CANCEL).len(), 0);
}

#[test]
fn a_fill_whose_bust_was_lost_gives_way_to_the_whole_one() {
    is_filled_once(true, &[38]);
}

#[test]
fn it_gives_way_where_records_do_not_say_how_old_they_are() {
    is_filled_once(false, &[38]);
}

#[test]
fn it_gives_way_to_several() {
    is_filled_once(false, &[20, 10, 8]);
}

#[test]
fn a_true_over_fill_is_recorded_and_stays() {
    let world = World::start(&["--cleanup-interval-seconds", "1"]);
    let order = world.buy(10);
    world.venue.fill(&order, 100, 8);
    world.venue.fill(&order, 100, 7);
    world.await_filled(&order, 15);
    world.venue.new_session("another");
    world.venue.await_queries_of(&[&order], 1);
    world.await_the_feed();
    let order = world.alice.order(&order);
    assert_eq!((&order["filledShares"], &order["status"]), (&json!(15), &json!("filled")));
    assert!(world.server.metric("orders_over_fills_total") >= 1);
}

//! An exchange that denies knowing an order for a while, although it has it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::api::until;
use crate::support::venue::{Order, QUERY, Reply, Venue};
use crate::support::world::{World, id};
use serde_json::json;

/// How long the record omits the order.
const BLIND: Duration = Duration::from_secs(9);

/// Places an order whose answer is lost, and fills four shares of it after a second.
fn place_and_fill(world: &World) -> String {
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 100});
    let placed = world.alice.post("/order", &order);
    assert_eq!(placed.status, 202, "{}", placed.text);
    let order = id(&placed.body).to_owned();
    world.venue.await_order(&order);
    world.venue.fill(&order, 100, 4);
    order
}

/// Waits until both sides have it open, or it was found and cancelled.
fn await_agreement(world: &World, order: &str) -> Order {
    world.alice.await_order("both sides to agree", order, |ours| {
        let theirs = world.venue.order(order);
        let is_open = ["submitted", "partially_filled"].contains(&ours["status"].as_str()?);
        let agree = ours["filledShares"] == theirs.filled_shares()
            && is_open == (theirs.status == "open")
            && ours["status"] != "pending";
        agree.then_some(theirs)
    })
}

/// Answers `unknown` for nine seconds from the first query.
fn be_blind(venue: &Venue) {
    let until = Mutex::new(None);
    venue.on(QUERY, move |request| {
        let mut until = until.lock().expect("nobody panics");
        let until = until.get_or_insert_with(|| Instant::now() + BLIND);
        if Instant::now() > *until {
            return Reply::Default;
        }
        Reply::edited(request, |answer| {
            for result in answer["results"].as_array_mut().into_iter().flatten() {
                *result = json!({"clientOrderId": result["clientOrderId"], "status": "unknown",
                    "filledShares": 0, "executions": []});
            }
        })
    });
}

fn is_found(prepare: impl FnOnce(&Venue)) -> (World, String) {
    let world = World::start(&["--order-reply-timeout-ms", "150"]);
    world.venue.on_submit(Reply::lost);
    prepare(&world.venue);
    let order = place_and_fill(&world);
    let theirs = await_agreement(&world, &order);
    assert_eq!(theirs.filled_shares(), 4);
    assert_eq!(world.venue.orders().len(), 1, "never placed twice");
    (world, order)
}

/// The record's age proves that it cannot know, so the order must not fail.
fn is_never_given_up(clock_offset_micros: i64) {
    let (world, order) = is_found(|venue| {
        venue.set(|options| {
            options.record_lag = BLIND;
            options.clock_offset_micros = clock_offset_micros;
        });
    });
    assert_eq!(world.venue.order(&order).status, "open");
    assert_eq!(world.alice.order(&order)["status"], "partially_filled");
}

#[test]
fn an_order_is_found_that_was_unknown_for_nine_seconds() {
    is_found(be_blind);
}

#[test]
fn it_is_found_where_the_clock_there_is_three_seconds_behind() {
    is_found(|venue| {
        venue.set(|options| options.clock_offset_micros = -3_000_000);
        be_blind(venue);
    });
}

#[test]
fn it_is_not_given_up_where_the_record_says_how_old_it_is() {
    is_never_given_up(0);
}

#[test]
fn it_is_not_given_up_where_the_clock_there_is_three_seconds_behind_as_well() {
    is_never_given_up(-3_000_000);
}

#[test]
fn it_is_found_although_the_server_was_started_again() {
    let mut world = World::start(&["--order-reply-timeout-ms", "150"]);
    world.venue.on_submit(Reply::lost);
    be_blind(&world.venue);
    let order = place_and_fill(&world);
    world.venue.await_queries_of(&[&order], 2);
    world.restart(|_| ());
    assert_eq!(await_agreement(&world, &order).filled_shares(), 4);
    assert_eq!(world.venue.orders().len(), 1);
}

#[test]
fn a_submit_that_arrives_late_by_a_slow_clock_lives_nowhere_alone() {
    let world = World::start(&["--order-reply-timeout-ms", "150"]);
    world.venue.set(|options| options.clock_offset_micros = -10_000_000);
    // The submit is held up until the server has queried the order more than once.
    let (arrives, is_on_its_way) = mpsc::channel::<()>();
    let is_on_its_way = Mutex::new(is_on_its_way);
    world.venue.on_submit(move |request| {
        if request.number == 1 {
            let _arrived = is_on_its_way.lock().unwrap().recv();
        }
        Reply::lost(request)
    });
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 100});
    let placed = world.alice.post("/order", &order);
    assert_eq!(placed.status, 202, "{}", placed.text);
    let order = id(&placed.body).to_owned();
    world.venue.await_queries_of(&[&order], 2);
    drop(arrives);
    until("the order to be reconciled", || {
        let ours = world.alice.order(&order);
        let theirs = world.venue.orders().pop().map_or("none".to_owned(), |order| order.status);
        match ours["status"].as_str()? {
            "failed" | "cancelled" => {
                (theirs != "open" && world.venue.requests("/v1/orders").len() == 1).then_some(())
            }
            "submitted" => (theirs == "open").then_some(()),
            _ => None,
        }
    });
}

//! Ended orders are queried after a gap, even if the server restarted meanwhile and they have left its
//! memory.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support;
use crate::support::venue::Venue;
use crate::support::world::World;

/// A cancelled order and an expired one, and their fills while the server is down.
struct Ended {
    cancelled: String,
    expired: String,
}

impl Ended {
    fn in_world(world: &World) -> Self {
        let (cancelled, expired) = (world.buy(100), world.buy(10));
        world.venue.fill(&cancelled, 100, 10);
        world.await_filled(&cancelled, 10);
        let answer = world.alice.delete(&format!("/order/{cancelled}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        world.venue.end_order(&expired, "expired");
        world.alice.await_status(&expired, "cancelled");
        // A start from now on does not load them.
        world.await_positions();
        Self { cancelled, expired }
    }

    /// Adds late fills without feed lines.
    fn change(&self, venue: &Venue) {
        venue.fill(&self.cancelled, 100, 7);
        venue.fill_quietly(&self.cancelled, 99, 3);
        venue.fill_quietly(&self.expired, 100, 10);
    }

    fn await_truth(&self, world: &World) {
        let late = world.await_filled(&self.cancelled, 20);
        assert_eq!(late["filledValueInCents"], 17 * 100 + 3 * 99, "{late}");
        assert_eq!(world.await_filled(&self.expired, 10)["status"], "filled");
    }
}

#[test]
fn late_fills_are_found_after_a_start_with_a_new_session() {
    let mut world = World::start(&[]);
    let ended = Ended::in_world(&world);
    world.restart(|venue| {
        ended.change(venue);
        venue.new_session("another");
    });
    ended.await_truth(&world);
    // They stay so after a restart.
    world.restart(|_| ());
    ended.await_truth(&world);
}

#[test]
fn they_are_found_after_a_start_where_the_lines_are_no_longer_kept() {
    let mut world = World::start(&[]);
    let ended = Ended::in_world(&world);
    world.restart(|venue| {
        ended.change(venue);
        for _ in 0..100 {
            venue.trade("SPY", 100, 1);
        }
        let (_, sequence) = venue.position();
        venue.set(|options| options.kept_after = sequence);
    });
    ended.await_truth(&world);
}

#[test]
fn they_are_found_where_an_answer_begins_a_new_session_by_itself() {
    let mut world = World::start(&[]);
    let ended = Ended::in_world(&world);
    world.restart(|venue| {
        ended.change(venue);
        venue.new_session("another");
        venue.set(|options| options.gone = false);
        venue.trade("SPY", 100, 1);
    });
    ended.await_truth(&world);
}

#[test]
fn they_are_found_without_a_start() {
    let world = World::start(&[]);
    let ended = Ended::in_world(&world);
    world.venue.close();
    ended.change(&world.venue);
    world.venue.new_session("another");
    world.venue.listen(world.venue.address().trim_start_matches("http://"));
    ended.await_truth(&world);
}

#[test]
fn they_are_found_after_two_starts_of_which_the_first_heard_nothing() {
    let mut world = World::start(&[]);
    let ended = Ended::in_world(&world);
    // The exchange answers no query at first, so that only the feed's session is known.
    world.restart(|venue| {
        ended.change(venue);
        venue.new_session("another");
        venue.on_query(|_| support::venue::Reply::Cut);
    });
    world.restart(|venue| venue.off(support::venue::QUERY));
    ended.await_truth(&world);
}

#[test]
fn an_order_that_the_exchange_never_answered_is_found_after_a_start() {
    let mut world = World::start(&["--order-reply-timeout-ms", "150"]);
    world.venue.on_submit(support::venue::Reply::lost);
    world.venue.on_query(|_| support::venue::Reply::Silence);
    let order = serde_json::json!({"position": "buy", "symbol": "SPY", "numShares": 10});
    let placed = world.alice.post("/order", &order);
    assert_eq!(placed.status, 202, "{}", placed.text);
    let order = support::world::id(&placed.body).to_owned();
    world.venue.await_order(&order);
    world.restart(|venue| {
        venue.off(support::venue::SUBMIT);
        venue.off(support::venue::QUERY);
        venue.fill(&order, 100, 10);
        venue.new_session("another");
    });
    world.await_filled(&order, 10);
    assert_eq!(world.venue.orders().len(), 1);
}

#[test]
fn they_are_found_without_a_start_where_the_lines_are_no_longer_kept() {
    let world = World::start(&[]);
    let ended = Ended::in_world(&world);
    world.venue.close();
    ended.change(&world.venue);
    let (_, sequence) = world.venue.position();
    world.venue.set(|options| options.kept_after = sequence);
    world.venue.listen(world.venue.address().trim_start_matches("http://"));
    ended.await_truth(&world);
}

#[test]
fn a_record_of_an_earlier_session_takes_nothing_back_after_a_start_in_one_of_the_same_name() {
    let mut world = World::start(&["--cleanup-interval-seconds", "1"]);
    let order = world.buy(10);
    for _ in 0..100 {
        world.venue.trade("SPY", 100, 1);
    }
    let (first, reached) = world.venue.position();
    world.await_positions();
    world.venue.new_session("another");
    world.await_positions();
    world.restart(|venue| venue.new_session(&first));
    world.venue.fill(&order, 100, 3);
    world.await_filled(&order, 3);
    // It lags by more than a session, and is complete up to a line that this one has not come to.
    let mut record = world.venue.record(&order);
    record["asOf"] = serde_json::json!({"session": first, "sequence": reached});
    record["executions"] = serde_json::json!([]);
    record["filledShares"] = 0.into();
    world.venue.show(&order, Some(record));
    world.await_answers_about(&[&order]);
    assert_eq!(world.alice.order(&order)["filledShares"], 3);
}

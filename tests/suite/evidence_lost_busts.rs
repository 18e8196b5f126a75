//! If the bust line of a filled order is lost in a gap, the exchange's record reveals the bust.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support::venue::Venue;
use crate::support::world::World;

/// An order of 10 shares filled in two parts, and the execution of the second part, 6 shares.
fn filled(world: &World) -> (String, String) {
    let order = world.buy(10);
    world.venue.fill(&order, 100, 4);
    let execution = world.venue.fill(&order, 100, 6);
    world.alice.await_status(&order, "filled");
    // A start from now on does not load it.
    world.await_positions();
    (order, execution)
}

fn await_bust(world: &World, order: &str) {
    let order = world.await_filled(order, 4);
    assert_eq!(order["status"], "partially_filled", "{order}");
}

/// Drops the feed lines so far.
fn forget_lines(venue: &Venue) {
    venue.trade("SPY", 100, 1);
    let (_, sequence) = venue.position();
    venue.set(|options| options.kept_after = sequence);
}

#[test]
fn it_is_found_where_the_lines_are_no_longer_kept() {
    let world = World::start(&[]);
    let (order, execution) = filled(&world);
    world.venue.close();
    world.venue.bust(&execution);
    forget_lines(&world.venue);
    world.venue.listen(world.venue.address().trim_start_matches("http://"));
    await_bust(&world, &order);
}

#[test]
fn it_is_found_where_the_lines_are_no_longer_kept_after_a_start() {
    let mut world = World::start(&[]);
    let (order, execution) = filled(&world);
    world.restart(|venue| {
        venue.bust(&execution);
        forget_lines(venue);
    });
    await_bust(&world, &order);
}

#[test]
fn it_is_found_in_a_new_session() {
    let world = World::start(&[]);
    let (order, execution) = filled(&world);
    world.venue.close();
    world.venue.bust(&execution);
    world.venue.new_session("another");
    world.venue.listen(world.venue.address().trim_start_matches("http://"));
    await_bust(&world, &order);
}

#[test]
fn it_is_found_in_a_new_session_after_a_start() {
    let mut world = World::start(&[]);
    let (order, execution) = filled(&world);
    world.restart(|venue| {
        venue.bust(&execution);
        venue.new_session("another");
    });
    await_bust(&world, &order);
    // It stays taken back after a restart.
    world.restart(|_| ());
    await_bust(&world, &order);
}

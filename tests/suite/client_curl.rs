//! The price stream in curl.

use crate::support::clients::{Curl, sequence_of};
use crate::support::stream_story::{self as story, World};

fn start(world: &World) -> Curl {
    Curl::get(&world.address(), &world.token, None)
}

#[test]
fn it_shows_each_print_and_goes_on_from_an_id() {
    let mut world = World::start();
    let mut curl = story::sees_each_print(&mut world, start);
    story::hears_of_the_feed(&mut world, &mut curl);
    let known = story::await_id(&mut world, &mut curl);
    let id = curl.id.clone();
    assert_eq!(sequence_of(&id), Some(known));
    curl.kill();
    world.await_streams(0);

    let missed = world.print_and_publish("IBM");
    let mut again = Curl::get(&world.address(), &world.token, Some(&id));
    story::expect_open(&mut again);
    story::expect_print(&mut again, &missed);
    let next = world.print("BAC");
    story::expect_print(&mut again, &next);
    assert_eq!(world.server.metric("streams_resumed_total"), 1);
}

#[test]
fn it_finds_the_transfer_complete_after_goodbye() {
    let mut world = World::start();
    let mut curl = story::sees_each_print(&mut world, start);
    story::ends_with_goodbye(&mut world, &mut curl);
    assert!(curl.ends_well());
}

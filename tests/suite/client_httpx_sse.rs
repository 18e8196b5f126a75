//! The price stream in the PyPI package `httpx-sse`.

use crate::support::clients::LineClient;
use crate::support::stream_story::{self as story, World};

fn start(world: &World) -> LineClient {
    LineClient::httpx_sse(&world.address(), &world.token)
}

#[test]
fn it_sees_each_print_and_the_state_of_the_feed_and_resumes_after_a_cut() {
    let mut world = World::start();
    let mut client = story::sees_each_print(&mut world, start);
    story::hears_of_the_feed(&mut world, &mut client);
    story::resumes(&mut world, &mut client);
}

#[test]
fn it_hears_goodbye_and_comes_back_to_another_server() {
    let mut world = World::start();
    let mut client = story::sees_each_print(&mut world, start);
    story::comes_back_to_another_server(&mut world, &mut client);
}

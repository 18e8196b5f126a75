//! The price stream through Debian's HAProxy with the configuration in `tuning/`.

use crate::support::clients::{Curl, LineClient};
use crate::support::proxy::Proxy;
use crate::support::stream_story::{self as story, World};

fn start() -> World {
    World::behind(|server| Some(Proxy::haproxy(server)))
}

fn event_source(world: &World) -> LineClient {
    LineClient::npm_eventsource(&world.address(), &world.token)
}

fn curl(world: &World) -> Curl {
    Curl::get(&world.address(), &world.token, None)
}

#[test]
fn each_print_passes_at_once_and_a_cut_stream_resumes() {
    let mut world = start();
    let mut client = story::sees_each_print(&mut world, event_source);
    story::hears_of_the_feed(&mut world, &mut client);
    story::resumes(&mut world, &mut client);
}

#[test]
fn an_event_source_comes_back_although_it_has_found_nobody() {
    let mut world = start();
    let mut client = story::sees_each_print(&mut world, event_source);
    story::comes_back_to_another_server(&mut world, &mut client);
}

#[test]
fn a_client_that_goes_takes_its_silent_stream_with_it() {
    let mut world = start();
    let curl = story::sees_each_print(&mut world, curl);
    assert_eq!(world.server.metric("streams_open"), 1);
    curl.kill();
    world.await_streams(0);
}

#[test]
fn goodbye_passes_and_completes_the_transfer() {
    let mut world = start();
    let mut curl = story::sees_each_print(&mut world, curl);
    story::ends_with_goodbye(&mut world, &mut curl);
    assert!(curl.ends_well());
}

//! A disconnected client is noticed even if there is nothing to send.

use crate::support::clients::{Curl, SseClient};
use crate::support::events::EventStream;
use crate::support::stream_story::{PATH, World};

#[test]
fn every_way_to_go_is_noticed_without_a_send() {
    let world = World::start();
    let open = || {
        let query = PATH.split_once('?').unwrap().1;
        let mut stream = EventStream::get(&world.server.address, &world.token, query, "");
        stream.await_event("open", |event| event.name == "open");
        stream
    };
    let (closed, reset, ended) = (open(), open(), open());
    let mut killed = Curl::get(&format!("{}{PATH}", world.server.address), &world.token, None);
    assert_eq!(killed.next().name, "open");
    world.await_streams(4);

    drop(closed);
    world.await_streams(3);
    reset.reset();
    world.await_streams(2);
    killed.kill();
    world.await_streams(1);
    // It closes its sending side, which no stream client needs to do.
    ended.end_of_requests();
    world.await_streams(0);
    assert_eq!(world.server.metric("streams_closed_by_client_total"), 4);
}

//! A stream that has nothing to say says so, and only then.

mod support;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use support::events::EventStream;
use support::stream_story::World;

/// The busy stream is never silent for longer than this.
const BETWEEN_PRINTS: Duration = Duration::from_secs(1);

#[test]
fn only_a_silent_stream_gets_a_heartbeat() {
    let mut world = World::start();
    world.print_and_publish("SPY");
    let open = |symbol: &str| {
        let query = format!("symbols={symbol}");
        EventStream::get(&world.server.address, &world.token, &query, "")
    };
    let (mut silent, mut busy) = (open("IBM"), open("SPY"));
    silent.await_event("open", |event| event.name == "open");
    busy.await_price("SPY");

    let (sender, heard) = channel();
    std::thread::spawn(move || {
        // The first event may be the id of what was known at the start.
        let is_news = |event: &support::events::Event| event.id.is_none();
        sender.send(silent.await_event("a heartbeat", is_news))
    });
    let event = loop {
        match heard.recv_timeout(BETWEEN_PRINTS) {
            Ok(event) => break event,
            Err(RecvTimeoutError::Timeout) => {
                world.print("SPY");
                let is_id = |event: &support::events::Event| event.id.is_some();
                let mut next = busy.next().unwrap();
                if is_id(&next) {
                    next = busy.next().unwrap();
                }
                assert_eq!(next.name, "price", "{next:?}");
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(event.comment.as_deref(), Some("hb"), "{event:?}");
    assert_eq!(world.server.metric("stream_heartbeats_total"), 1);
}

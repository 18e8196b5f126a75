//! Limits on streams, and the answer to a client beyond them.

use crate::support::events::EventStream;
use crate::support::{Server, api};
use serde_json::json;

#[test]
fn one_stream_too_many_is_refused_and_a_browser_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let limits = ["--max-streams", "3", "--max-streams-per-user", "2"];
    let server = Server::start(data.path(), &limits);
    let [alice, bob] = ["alice", "bob"].map(|name| server.user(data.path(), name));
    api::until("the symbols", || (alice.get("/symbol/SPY").status == 200).then_some(()));
    let open = |client: &api::Client| {
        let mut stream = EventStream::subscribe(&server.address, &client.token, &["SPY"]);
        stream.await_event("open", |event| event.name == "open");
        stream
    };
    let first = open(&alice);
    let _second = open(&alice);
    let wish = json!({"symbols": ["SPY"]});
    let refused = alice.post("/subscribe", &wish);
    assert_eq!((refused.status, refused.body["code"].as_str()), (429, Some("too_many_streams")));
    assert!(refused.body["detail"].as_str().unwrap().contains("limit of 2 streams"));
    let _third = open(&bob);
    let refused = bob.post("/subscribe", &wish);
    assert_eq!(refused.status, 429, "the server has its limit of 3: {refused:?}");

    // An EventSource gives up forever on anything but a stream, so it gets one that says when to retry.
    let mut passing = EventStream::get(&server.address, &bob.token, "symbols=SPY", "");
    assert!(passing.head.join("\n").starts_with("HTTP/1.1 200"), "{:?}", passing.head);
    let goodbye = passing.next().unwrap();
    assert_eq!(goodbye.name, "goodbye");
    let retry = goodbye.retry.expect("when to come back");
    assert!((1_000..=5_000).contains(&retry), "{retry}");
    assert!(passing.next().is_none(), "the stream ends");

    drop(first);
    api::until("room for another", || {
        let stream = EventStream::subscribe(&server.address, &bob.token, &["SPY"]);
        stream.head.join("\n").starts_with("HTTP/1.1 200").then_some(())
    });
    assert!(server.metric("streams_refused_total") >= 3);
}

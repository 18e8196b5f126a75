//! `PATCH /subscribe/:streamId` changes the symbols of an open stream from any connection, and so from
//! any shard.

use crate::support::events::EventStream;
use crate::support::{self, Server, api};
use http::Method;
use serde_json::json;

#[test]
fn an_open_stream_changes_its_symbols_whoever_serves_the_request() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50", "--shards", "2"]);
    let alice = server.user(data.path(), "alice");
    let mut stream = EventStream::subscribe(&server.address, &alice.token, &["SPY"]);
    let open = stream.await_event("open", |event| event.name == "open");
    let path = format!("/subscribe/{}", open.data["streamId"].as_str().unwrap());
    stream.await_price("SPY");

    // Each request has its own connection, which the kernel gives to either shard.
    for (add, remove) in [("IBM", "SPY"), ("SPY", "IBM")].repeat(10) {
        let body = json!({"add": [add, "BAC"], "remove": [remove]}).to_string();
        let client = api::Client::new(&alice.address, &alice.token);
        let answer = client.send(Method::PATCH, &path, body.as_bytes());
        assert_eq!(answer.status, 204, "{answer:?}");
        // Prices sent before the change may still arrive, but afterwards only the other symbols.
        let is_removed = |event: &support::events::Event| event.data["symbol"] == remove;
        stream.await_price(add);
        stream.await_price("BAC");
        for _ in 0..5 {
            let event = stream.next().unwrap();
            assert!(!is_removed(&event), "{remove} was removed: {event:?}");
        }
    }
    assert_eq!(alice.send(Method::PATCH, &path, b"{}").status, 204, "nothing to change");

    let bob = server.user(data.path(), "bob");
    let add = json!({"add": ["IBM"]}).to_string();
    for (client, path, body, status, code, field) in [
        (&bob, path.as_str(), add.as_str(), 404, "not_found", ""),
        (&alice, "/subscribe/0000ffffffff00000000", &add, 404, "not_found", ""),
        (&alice, "/subscribe/ffff0000000000000000", &add, 404, "not_found", ""),
        (&alice, "/subscribe/nonsense", &add, 404, "not_found", ""),
        (&alice, &path, r#"{"add":["NOPE"]}"#, 400, "unknown_symbol", "add"),
        (&alice, &path, r#"{"remove":["NOPE"]}"#, 400, "unknown_symbol", "remove"),
        (&alice, &path, r#"{"add":["IBM"],"remove":["IBM"]}"#, 400, "invalid_field", "remove"),
        (&alice, &path, r#"{"symbols":["IBM"]}"#, 400, "invalid_field", "symbols"),
    ] {
        let answer = client.send(Method::PATCH, path, body.as_bytes());
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert_eq!(answer.body["code"], code, "{body}: {answer:?}");
        if !field.is_empty() {
            assert_eq!(answer.body["field"], field, "{body}: {answer:?}");
        }
    }
    let too_many: Vec<String> = (0..1_025).map(|n| format!("S{n}")).collect();
    let body = json!({ "add": too_many }).to_string();
    assert_eq!(alice.send(Method::PATCH, &path, body.as_bytes()).status, 400);
}

//! Heartbeats: a silent stream sends them, a busy one does not.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::support::events::EventStream;
use crate::support::market::Market;
use crate::support::stream_story::World;
use crate::support::{Server, api, token};
use serde_json::{Value, json};

/// Longest silence of the busy stream.
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
    std::thread::spawn(move || sender.send(silent.next().expect("a heartbeat")));
    let event = loop {
        match heard.recv_timeout(BETWEEN_PRINTS) {
            Ok(event) => break event,
            Err(RecvTimeoutError::Timeout) => {
                world.print("SPY");
                let next = busy.next().unwrap();
                assert_eq!(next.name, "price", "{next:?}");
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(event.comment.as_deref(), Some("hb"), "{event:?}");
    // Counted once it is sent.
    let told = || world.server.metric("stream_heartbeats_total");
    api::until("the heartbeat to be counted", || (told() > 0).then_some(()));
    assert_eq!(told(), 1);
}

/// `POST /subscribe` with this body.
fn subscribe(world: &Quick, body: &Value) -> EventStream {
    let (body, token) = (body.to_string(), &world.token);
    let head = format!(
        "POST /subscribe HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    EventStream::send(&world.server.address, &(head + &body))
}

/// A market without trades, and a server with a heartbeat every second.
struct Quick {
    server: Server,
    token: String,
    _market: Market,
    _data: tempfile::TempDir,
}

impl Quick {
    fn start() -> std::io::Result<Self> {
        let data = tempfile::tempdir()?;
        let market = Market::start(&["SPY", "IBM"]);
        let settings = ["--exchange", &market.address, "--heartbeat-seconds", "1"];
        let server = Server::start(data.path(), &settings);
        let token = token(data.path(), "alice");
        Ok(Self { server, token, _market: market, _data: data })
    }
}

#[test]
fn who_cannot_see_comments_asks_for_events() {
    let world = Quick::start().unwrap();
    let get = |query: &str| EventStream::get(&world.server.address, &world.token, query, "");
    let orders = format!(
        "GET /orders/stream?heartbeat=event HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n",
        world.token
    );
    let asking = [
        get("symbols=SPY&heartbeat=event"),
        get("symbols=SPY&mode=every&orders=1&heartbeat=event"),
        subscribe(&world, &json!({"symbols": ["SPY"], "heartbeat": "event"})),
        EventStream::send(&world.server.address, &orders),
    ];
    for mut stream in asking {
        for _ in 0..2 {
            let beat = stream.await_event("a heartbeat", |event| event.name == "heartbeat");
            assert_eq!((beat.data, beat.id, beat.comment), (json!({}), None, None));
        }
    }
    let not_asking = [
        get("symbols=SPY"),
        get("symbols=SPY&heartbeat=comment"),
        subscribe(&world, &json!({"symbols": ["SPY"]})),
        subscribe(&world, &json!({"symbols": ["SPY"], "heartbeat": "comment"})),
    ];
    for mut stream in not_asking {
        let beat = stream.await_event("a heartbeat", |event| {
            event.name == "heartbeat" || event.comment.is_some()
        });
        assert_eq!((beat.name.as_str(), beat.comment.as_deref()), ("", Some("hb")));
    }
}

#[test]
fn another_kind_of_heartbeat_is_an_error_that_names_it() {
    let world = Quick::start().unwrap();
    let client = api::Client::new(&world.server.address, &world.token);
    let wrong = client.get("/subscribe?symbols=SPY&heartbeat=often");
    assert_eq!((wrong.status, &wrong.body["field"]), (400, &json!("heartbeat")), "{}", wrong.text);
    let body = json!({"symbols": ["SPY"], "heartbeat": "often"});
    let wrong = client.post("/subscribe", &body);
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    assert!(wrong.text.contains("heartbeat") || wrong.text.contains("often"), "{}", wrong.text);
}

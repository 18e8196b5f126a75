//! The price stream matches its contract byte by byte.

use std::time::Instant;

use crate::support::events::EventStream;
use crate::support::{self, PATIENCE, Server, api};

#[test]
fn a_stream_opens_with_its_symbols_and_their_prices() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50"]);
    let alice = server.user(data.path(), "alice");
    for symbol in ["SPY", "IBM"] {
        api::until("a first price", || {
            alice.get(&format!("/symbol/{symbol}")).body["priceInCents"].as_i64()
        });
    }
    let mut stream = EventStream::subscribe(&server.address, &alice.token, &["SPY", "IBM", "SPY"]);
    let head = stream.head.join("\n").to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    for line in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "connection: close",
    ] {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    assert!(!head.contains("transfer-encoding"), "{head}");

    let open = stream.next().unwrap();
    assert_eq!(open.name, "open");
    let retry = open.retry.expect("when to come back");
    assert!((1_000..=5_000).contains(&retry), "{retry}");
    assert_eq!(open.data["symbols"], serde_json::json!(["SPY", "IBM"]));
    assert_eq!(open.data["heartbeatMs"], 15_000);
    assert!(!open.data["streamId"].as_str().unwrap().is_empty());
    let mut snapshot = [stream.next().unwrap(), stream.next().unwrap()]
        .map(|event| (event.name, event.data["symbol"].as_str().unwrap_or_default().to_owned()));
    snapshot.sort();
    let price = |symbol: &str| ("price".to_owned(), symbol.to_owned());
    assert_eq!(snapshot, [price("IBM"), price("SPY")], "one price of each, at once");
    assert!(stream.await_price("SPY").0 > 0);
}

#[test]
fn ids_come_at_most_once_a_second_and_resume_without_a_repeat() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50"]);
    let token = support::token(data.path(), "alice");
    let mut stream = EventStream::subscribe(&server.address, &token, &["SPY"]);
    let is_id = |event: &support::events::Event| event.id.is_some();
    let first = stream.await_event("an id", is_id);
    assert!(["open", "price"].contains(&first.name.as_str()), "{first:?}");
    let began = Instant::now();
    stream.await_event("another id", is_id);
    let third = stream.await_event("a third id", is_id);
    assert!(began.elapsed().as_millis() > 1_000, "two ids within a second");
    drop(stream);

    let id = third.id.unwrap();
    let (session, sequence) = id.rsplit_once('-').unwrap();
    assert!(!session.is_empty() && sequence.parse::<u64>().unwrap() > 0);
    let header = format!("Last-Event-ID: {id}\r\n");
    let mut resumed = EventStream::get(&server.address, &token, "symbols=SPY", &header);
    resumed.await_event("open", |event| event.name == "open");
    assert_ne!(resumed.next().unwrap().name, "reset");

    for gone in ["Last-Event-ID: 999-1\r\n", "Last-Event-ID: nonsense\r\n"] {
        let mut reset = EventStream::get(&server.address, &token, "symbols=SPY", gone);
        reset.await_event("open", |event| event.name == "open");
        assert_eq!(reset.next().unwrap().name, "reset", "{gone}");
        reset.await_price("SPY");
    }
    let query = "symbols=SPY&lastEventId=999-1";
    let mut reset = EventStream::get(&server.address, &token, query, "");
    reset.await_event("a reset", |event| event.name == "reset");
}

#[test]
fn a_closed_client_is_noticed_and_a_stop_says_goodbye() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let token = support::token(data.path(), "alice");
    let open_streams = || {
        let metrics = api::get_anonymously(&format!("{}/metrics", server.admin)).unwrap().text;
        let lines = metrics.lines().filter(|line| line.starts_with("longbow_streams_open{"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>()
    };
    // A symbol that hardly trades, so that no send reveals the closed socket.
    let streams: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = EventStream::subscribe(&server.address, &token, &["IBM"]);
            stream.await_event("open", |event| event.name == "open");
            stream
        })
        .collect();
    assert_eq!(open_streams(), 5);
    let began = Instant::now();
    drop(streams);
    api::until("closed clients to be noticed", || (open_streams() == 0).then_some(()));
    assert!(began.elapsed() < PATIENCE);

    let mut last = EventStream::subscribe(&server.address, &token, &["IBM"]);
    last.await_event("open", |event| event.name == "open");
    let status = server.program.stop();
    assert!(status.success(), "{status}");
    let goodbye = last.await_event("goodbye", |event| event.name == "goodbye");
    assert!(goodbye.retry.is_some());
    assert!(last.next().is_none(), "then the stream ends");
}

#[test]
fn many_clients_on_several_shards_see_the_same_prices() {
    let data = tempfile::tempdir().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let shards = cores.min(2).to_string();
    let server = Server::start(data.path(), &["--speed", "50", "--shards", &shards]);
    let token = support::token(data.path(), "alice");
    let mut streams: Vec<_> =
        (0..20).map(|_| EventStream::subscribe(&server.address, &token, &["SPY", "BAC"])).collect();
    for stream in &mut streams {
        let mut latest = stream.await_price("SPY").1;
        for _ in 0..3 {
            let (_, timestamp) = stream.await_price("SPY");
            // The tape has simultaneous trades at different prices.
            assert!(timestamp >= latest, "time went back from {latest} to {timestamp}");
            latest = timestamp;
        }
    }
}

#[test]
fn a_kept_alive_connection_becomes_a_stream_and_pipelining_behind_it_ends_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50"]);
    let token = support::token(data.path(), "alice");
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n")
    };

    // The first answer is read completely, then the same connection requests a stream.
    let mut connection = EventStream::send(&server.address, &get("/symbol/SPY"));
    assert!(connection.head[0].ends_with("200 OK"), "{:?}", connection.head);
    connection.skip_body();
    connection.write(&get("/subscribe?symbols=SPY"));
    connection.read_head();
    assert!(connection.head.join("\n").contains("text/event-stream"), "{:?}", connection.head);
    connection.await_price("SPY");

    // A pipelined second request could not be answered.
    let two = get("/subscribe?symbols=SPY") + &get("/symbol/SPY");
    let refused = EventStream::until_closed(&server.address, &two);
    assert!(refused.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{refused}");
    assert!(refused.contains("\"code\":\"pipelined_request\""), "{refused}");
    // Nor could what comes after the client's end be read.
    let half = EventStream::half_closed(&server.address, &get("/subscribe?symbols=SPY"));
    assert!(half.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{half}");
    assert!(half.contains("\"code\":\"half_closed\""), "{half}");
    // So is a stream whose client sends more later.
    let mut stream = EventStream::subscribe(&server.address, &token, &["SPY"]);
    stream.await_price("SPY");
    stream.write("more");
    while stream.next().is_some() {}
}

//! The running exchange over real TCP, as seen by an independent client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tape::{Tape, TapeParts, TapePrint, TapeSymbol};
use super::{SimError, SimHandle, SimOptions, Speed, start, start_with};
use crate::exchange::wire::{FeedLine, FeedLineType, FeedSession};
use crate::types::{Clock, PriceCents, Symbol};

/// How long a test waits for something before it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A minute in which AAA prints 100 shares at 100 cents a hundred times a second, and BBB once a
/// second.
fn write_tape(directory: &Path) -> std::path::PathBuf {
    let symbol = |name| TapeSymbol {
        symbol: Symbol::new(name).unwrap(),
        previous_close: PriceCents::new(99).unwrap(),
    };
    let print = |millis, symbol| TapePrint { millis, price_cents: 100, shares: 100, symbol };
    let aaa = (0..60_000).step_by(10).map(|millis| print(millis, 0));
    let bbb = (0..60_000).step_by(1_000).map(|millis| print(millis, 1));
    let tape = Tape::new(TapeParts {
        source: "made up".to_owned(),
        day: 20_131_008,
        open_millis: 0,
        close_millis: 60_000,
        symbols: vec![symbol("AAA"), symbol("BBB")],
        prints: aaa.chain(bbb).collect(),
    });
    let path = directory.join("tape");
    std::fs::write(&path, tape.unwrap().encode().unwrap()).unwrap();
    path
}

pub(super) fn options(directory: &Path, speed: f64) -> SimOptions {
    let mut options = SimOptions::new(LOOPBACK);
    options.tape = Some(write_tape(directory));
    options.data_dir = Some(directory.join("exchange"));
    options.speed = Speed::new(speed).unwrap();
    options.universe = 0;
    options
}

pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

pub(super) fn post(exchange: &SimHandle, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("http://{}{path}", exchange.address());
    let mut response = agent().post(url).send_json(body).unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap_or(Value::Null))
}

pub(super) fn order(id: &str, limit: Option<i64>, shares: u64) -> Value {
    let mut order = json!({
        "clientOrderId": id, "side": "buy", "symbol": "AAA", "type": "market",
        "timeInForce": "gtc", "numShares": shares,
        "submitBefore": Clock.now().saturating_add_micros(60_000_000),
    });
    if let Some(limit) = limit {
        order["type"] = "limit".into();
        order["limitPriceInCents"] = limit.into();
    }
    order
}

pub(super) fn submit(exchange: &SimHandle, orders: &[Value]) -> Vec<Value> {
    let (status, mut body) = post(exchange, "/v1/orders", &json!({ "orders": orders }));
    assert_eq!(status, 200, "{body}");
    serde_json::from_value(body["results"].take()).unwrap()
}

pub(super) fn query(exchange: &SimHandle, id: &str) -> Value {
    let (status, mut body) = post(exchange, "/v1/orders/query", &json!({ "clientOrderIds": [id] }));
    assert_eq!(status, 200, "{body}");
    let mut record = body["results"][0].take();
    // The position of the feed is independent of the order.
    let as_of = record.as_object_mut().and_then(|record| record.remove("asOf"));
    assert!(as_of.is_some(), "every record says how complete it is");
    record
}

/// A feed connection after its session line.
pub(super) struct Feed {
    pub(super) session: FeedSession,
    lines: std::io::Lines<Box<dyn BufRead>>,
}

impl Feed {
    pub(super) fn open(exchange: &SimHandle, parameters: &str) -> Result<Self, (u16, Value)> {
        let url = format!("http://{}/v1/feed?{parameters}", exchange.address());
        let mut response = agent().get(url).call().unwrap();
        let status = response.status().as_u16();
        if status != 200 {
            return Err((status, response.body_mut().read_json().unwrap()));
        }
        let reader: Box<dyn BufRead> = Box::new(BufReader::new(response.into_body().into_reader()));
        let mut lines = reader.lines();
        let session = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Ok(Self { session, lines })
    }

    pub(super) fn next(&mut self) -> FeedLine {
        self.try_next().unwrap()
    }

    /// The next line; `None` when the feed was cut.
    pub(super) fn try_next(&mut self) -> Option<FeedLine> {
        let line = self.lines.next()?.ok()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Reads until a wanted line, and checks that sequences increase by one (heartbeats repeat the
    /// last).
    pub(super) fn until(&mut self, wanted: impl Fn(&FeedLine) -> bool) -> FeedLine {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "the line never came");
            let line = self.next();
            let heartbeat = line.line_type == FeedLineType::Heartbeat;
            self.session.sequence += u64::from(!heartbeat);
            assert_eq!(line.sequence, self.session.sequence, "no gap and no repeat");
            if wanted(&line) {
                return line;
            }
        }
    }
}

#[test]
fn a_feed_resumes_without_gap_or_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 100.0)).unwrap();
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    assert_eq!((feed.session.session.as_str(), feed.session.sequence), ("1", 0));
    let mut last = 0;
    for _ in 0..5 {
        last = feed.until(|line| line.sequence >= last + 500).sequence;
        feed = Feed::open(&exchange, &format!("session=1&from={}", last + 1)).unwrap();
        assert_eq!(feed.session.sequence, last);
    }
    feed.until(|line| line.line_type == FeedLineType::Heartbeat);
}

#[test]
fn positions_that_are_not_retained_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), 1_000.0);
    options.feed_retained_bytes = 64 << 10;
    let exchange = start(options).unwrap();
    Feed::open(&exchange, "").unwrap().until(|line| line.sequence > 5_000);
    for parameters in ["from=1", "session=1&from=1", "session=2", "session=1&from=9999999999"] {
        let (status, problem) = Feed::open(&exchange, parameters).map(drop).unwrap_err();
        assert_eq!((status, problem["code"].as_str()), (410, Some("gone")), "{parameters}");
    }
    for parameters in ["from=x", "form=1", "symbols=AAA,NONE"] {
        let (status, problem) = Feed::open(&exchange, parameters).map(drop).unwrap_err();
        assert_eq!((status, problem["code"].as_str()), (400, Some("bad_request")), "{parameters}");
    }
}

#[test]
fn a_filtered_feed_has_only_the_chosen_symbols() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 100.0)).unwrap();
    let mut feed = Feed::open(&exchange, "symbols=BBB").unwrap();
    let (begun, mut trades, mut heartbeat) = (Instant::now(), 0, 0);
    while trades < 20 || heartbeat == 0 {
        assert!(begun.elapsed() < PATIENCE, "the lines never came");
        let line = feed.next();
        match line.line_type {
            FeedLineType::Heartbeat => heartbeat = line.sequence,
            _ => {
                assert_eq!(line.symbol, Symbol::new("BBB").ok());
                trades += 1;
            }
        }
    }
    assert!(heartbeat > 20, "it carries the position of the whole feed");
}

#[test]
fn a_reader_that_falls_behind_is_disconnected() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), 100_000.0);
    options.feed_retained_bytes = 64 << 10;
    let exchange = start(options).unwrap();
    let mut slow = TcpStream::connect(exchange.address()).unwrap();
    slow.write_all(b"GET /v1/feed HTTP/1.1\r\nHost: exchange\r\n\r\n").unwrap();
    let mut head = [0; 12];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // 40 MB and more: all socket buffers together hold less.
    let sequence = || Feed::open(&exchange, "").unwrap().session.sequence;
    let (begun, begin) = (Instant::now(), sequence());
    while sequence() < begin + 300_000 {
        assert!(begun.elapsed() < PATIENCE, "the prints never came");
    }
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut body = Vec::new();
    let ended = slow.read_to_end(&mut body);
    assert!(ended.is_ok(), "the connection was closed, not left waiting: {ended:?}");
    assert!(!body.ends_with(b"0\r\n\r\n"), "and without the final chunk of a complete body");
}

#[test]
fn a_batch_answers_each_order_on_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 1.0)).unwrap();
    let mut late = order("late", Some(1), 1);
    late["submitBefore"] = 1.into();
    let mut unknown = order("unknown", Some(1), 1);
    unknown["symbol"] = "NONE".into();
    let mut lower_case = order("lower", Some(1), 1);
    lower_case["symbol"] = "aaa".into();
    let mut fraction = order("fraction", Some(1), 1);
    fraction["limitPriceInCents"] = json!(1.5);
    let mut typo = order("typo", Some(1), 1);
    typo["limitPrice"] = 1.into();
    let orders = [
        order("a", Some(1), 1),
        late,
        unknown,
        lower_case,
        fraction,
        typo,
        order("a", Some(2), 2),
        order("b", Some(1), 1),
    ];
    let results = submit(&exchange, &orders);
    let codes: Vec<_> =
        results.iter().map(|r| r["error"]["code"].as_str().unwrap_or("accepted")).collect();
    assert_eq!(
        codes,
        [
            "accepted",
            "too_late",
            "unknown_symbol",
            "unknown_symbol",
            "invalid_order",
            "invalid_order",
            "accepted",
            "accepted"
        ]
    );
    assert_eq!(results[0], results[6], "a known id gets its first answer");
    assert_eq!(submit(&exchange, &orders), results, "and again");
    let ids: Vec<_> = results.iter().map(|r| r["clientOrderId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "late", "unknown", "lower", "fraction", "typo", "a", "b"]);
}

#[test]
fn invalid_requests_get_problem_documents() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 1.0)).unwrap();
    let too_many = vec![order("a", Some(1), 1); 257];
    for (path, body) in [
        ("/v1/orders", json!({})),
        ("/v1/orders", json!({ "orders": [] })),
        ("/v1/orders", json!({ "orders": too_many })),
        ("/v1/orders", json!({ "orders": [order("with space", None, 1)] })),
        ("/v1/orders", json!({ "orders": [{ "numShares": 1 }] })),
        ("/v1/cancels", json!({ "externalOrderIds": [], "extra": 1 })),
        ("/v1/orders/query", json!({ "clientOrderIds": "a" })),
        ("/v1/webhooks", json!({ "url": "https://a/", "secret": "s" })),
    ] {
        let (status, problem) = post(&exchange, path, &body);
        assert_eq!((status, problem["code"].as_str()), (400, Some("bad_request")), "{path} {body}");
    }
    let huge = json!({ "orders": "x".repeat(300_000) });
    assert_eq!(post(&exchange, "/v1/orders", &huge).0, 413);
    assert_eq!(post(&exchange, "/v1/nothing", &json!({})).0, 404);
    assert_eq!(post(&exchange, "/v1/feed", &json!({})).0, 405);
}

#[test]
fn fills_on_the_feed_equal_the_queried_executions() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    let results = submit(&exchange, &[order("m", None, 250), order("l", Some(100), 50)]);
    let id = |n: usize| results[n]["externalOrderId"].as_str().unwrap().to_owned();
    let mut fills = Vec::new();
    while fills.iter().map(|line: &FeedLine| line.num_shares.unwrap()).sum::<u64>() < 300 {
        fills.push(feed.until(|line| line.order_id.is_some()));
    }
    for (n, name) in ["m", "l"].into_iter().enumerate() {
        let record = query(&exchange, name);
        assert_eq!(record["status"], "filled");
        let told: Vec<_> = fills
            .iter()
            .filter(|line| line.order_id.as_ref().unwrap().as_str() == id(n))
            .map(|line| {
                json!({
                    "executionId": line.execution_id, "priceInCents": line.price_in_cents,
                    "numShares": line.num_shares, "timestamp": line.timestamp,
                })
            })
            .collect();
        assert_eq!(record["executions"], Value::from(told));
    }
}

#[test]
fn day_orders_expire_at_the_close_and_the_session_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 200.0)).unwrap();
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    let mut day = order("day", Some(1), 1);
    day["timeInForce"] = "day".into();
    submit(&exchange, &[day, order("gtc", Some(1), 1)]);
    let line = feed.until(|line| line.order_id.is_some());
    assert_eq!(line.line_type, FeedLineType::Expired);
    feed.until(|line| line.line_type == FeedLineType::Trade);
    assert_eq!(query(&exchange, "day")["status"], "expired");
    assert_eq!(query(&exchange, "gtc")["status"], "open");
}

#[test]
fn orders_survive_a_restart_and_a_torn_journal() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    let first = submit(&exchange, &[order("m", None, 100), order("l", Some(1), 50)]);
    feed.until(|line| line.order_id.is_some());
    let before = ["m", "l"].map(|id| query(&exchange, id));
    assert_eq!((&before[0]["status"], &before[1]["status"]), (&json!("filled"), &json!("open")));
    exchange.stop().unwrap();
    let mut journal = std::fs::OpenOptions::new()
        .append(true)
        .open(directory.path().join("exchange/journal"))
        .unwrap();
    journal.write_all(&[17, 0, 0, 0, 1, 2, 3]).unwrap();

    let exchange = start(options(directory.path(), 10.0)).unwrap();
    assert_eq!(["m", "l"].map(|id| query(&exchange, id)), before);
    assert_eq!(Feed::open(&exchange, "").unwrap().session.session, "2");
    assert_eq!(Feed::open(&exchange, "session=1&from=1").map(drop).unwrap_err().0, 410);
    assert_eq!(
        submit(&exchange, &[order("m", None, 100)])[0],
        first[0],
        "the order is not placed twice"
    );
    let new = submit(&exchange, &[order("n", Some(1), 1)]);
    assert_ne!(new[0]["externalOrderId"], first[0]["externalOrderId"]);
    let ids = json!({ "externalOrderIds": [first[1]["externalOrderId"]] });
    let (_, cancelled) = post(&exchange, "/v1/cancels", &ids);
    assert_eq!(cancelled["results"][0]["status"], "cancelled");
    exchange.stop().unwrap();

    let exchange = start(options(directory.path(), 10.0)).unwrap();
    assert_eq!(query(&exchange, "l")["status"], "cancelled");
    assert_eq!(query(&exchange, "n")["status"], "open");
}

/// `kill -9` leaves exactly what the file contains at that moment: nothing waits for a clean stop.
#[test]
fn whatever_was_reported_is_already_in_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    for n in 0..5 {
        let (market, limit) = (format!("m{n}"), format!("l{n}"));
        let placed = submit(&exchange, &[order(&market, None, 50), order(&limit, Some(1), 50)]);
        let filled = feed.until(|line| line.order_id.is_some());
        let ids = json!({ "externalOrderIds": [placed[1]["externalOrderId"]] });
        post(&exchange, "/v1/cancels", &ids);
        feed.until(|line| line.line_type == FeedLineType::Cancelled);

        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("exchange")).unwrap();
        let journal = "exchange/journal";
        std::fs::copy(directory.path().join(journal), copy.path().join(journal)).unwrap();
        let after = start(options(copy.path(), 10.0)).unwrap();
        assert_eq!(query(&after, &limit)["status"], "cancelled");
        let record = query(&after, &market);
        assert_eq!(record["status"], "filled");
        assert_eq!(record["executions"][0]["executionId"], json!(filled.execution_id));
    }
}

#[test]
fn the_next_session_opens_after_the_last_and_takes_its_last_price_as_previous_close() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 200.0)).unwrap();
    let first = || -> Value {
        let url = format!("http://{}/v1/symbols", exchange.address());
        let mut body: Value = agent().get(url).call().unwrap().body_mut().read_json().unwrap();
        body["symbols"][0].take()
    };
    let before = first();
    assert_eq!(before["previousCloseInCents"], 99);
    let deadline = Instant::now() + PATIENCE;
    let after = loop {
        let listed = first();
        if listed["previousCloseInCents"] != 99 {
            break listed;
        }
        assert!(Instant::now() < deadline, "the session never ends");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((&after["previousCloseInCents"], &after["openInCents"]), (&json!(100), &json!(100)));
    assert!(after["sessionOpen"].as_u64() >= before["sessionClose"].as_u64());
}

#[test]
fn symbols_say_what_is_recorded_and_what_is_synthetic() {
    let mut options = SimOptions::new(LOOPBACK);
    options.universe = 3;
    let exchange = start(options).unwrap();
    let url = format!("http://{}/v1/symbols", exchange.address());
    let body: Value = agent().get(url).call().unwrap().body_mut().read_json().unwrap();
    let symbols = body["symbols"].as_array().unwrap();
    let names: Vec<_> = symbols.iter().map(|s| s["symbol"].as_str().unwrap()).collect();
    assert_eq!(names, ["AIG", "BAC", "IBM", "SPY", "IWM", "QQQ", "AAPL"]);
    let closes: Vec<_> = symbols.iter().map(|s| &s["previousCloseInCents"]).collect();
    assert_eq!(closes, [4_872, 1_380, 18_200, 16_745, 11_724, 8_822, 53_910]);
    let opens: Vec<_> = symbols.iter().take(4).map(|s| &s["openInCents"]).collect();
    assert_eq!(opens, [4_880, 1_383, 18_189, 16_740]);
    for (place, symbol) in symbols.iter().enumerate() {
        let source = symbol["source"].as_str().unwrap();
        assert_eq!(symbol["synthetic"], place >= 4);
        assert_eq!(source.starts_with("synthetic"), place >= 4, "{source}");
        assert!(source.contains("QuantConnect/Lean"));
        let session =
            symbol["sessionClose"].as_u64().unwrap() - symbol["sessionOpen"].as_u64().unwrap();
        assert_eq!(session, 23_400_000_000, "six and a half hours at speed 1");
    }
}

/// HMAC by its definition (RFC 2104): an implementation independent of the one under test.
fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    assert!(key.len() <= 64);
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        key.iter().zip(&mut block).for_each(|(key, block)| *block ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts one HTTP request, answers with `status`, and returns its signature and body.
fn take_webhook(listener: &TcpListener, status: &str) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut signature, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-signature" => signature = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    (&stream).write_all(answer.as_bytes()).unwrap();
    (signature, String::from_utf8(body).unwrap())
}

#[test]
fn webhooks_are_signed_and_retried_until_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = TcpListener::bind(LOOPBACK).unwrap();
    socket2::SockRef::from(&receiver).set_read_timeout(Some(PATIENCE)).unwrap(); // of `accept`
    let hook = json!({
        "url": format!("http://{}/exchange/trades", receiver.local_addr().unwrap()),
        "secret": "a secret",
    });
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    assert_eq!(post(&exchange, "/v1/webhooks", &hook).0, 204);
    let placed = submit(&exchange, &[order("a", None, 100)]);
    let (_, refused) = take_webhook(&receiver, "500 Internal Server Error");
    let (signature, body) = take_webhook(&receiver, "204 No Content");
    assert_eq!(refused, body, "the same lines again");
    let (time, value) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let age = (Clock.now().micros() / 1_000_000).abs_diff(time.parse().unwrap());
    assert!(age < 60, "the signature is recent");
    assert_eq!(value, hmac_sha256(b"a secret", format!("{time}.{body}").as_bytes()));
    let batch: crate::exchange::wire::WebhookBatch = serde_json::from_str(&body).unwrap();
    assert_eq!(batch.session, "1");
    let ids: Vec<_> =
        batch.lines.iter().map(|line| line.order_id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, [placed[0]["externalOrderId"].as_str().unwrap()]);
    exchange.stop().unwrap();

    let exchange = start(options(directory.path(), 10.0)).unwrap();
    submit(&exchange, &[order("b", None, 100)]);
    let (_, body) = take_webhook(&receiver, "200 OK");
    assert!(body.starts_with(r#"{"session":"2""#), "a restart keeps the webhook: {body}");
}

#[test]
fn errors_name_the_invalid_setting_and_what_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut SimOptions)| {
        let mut options = options(directory.path(), 1.0);
        change(&mut options);
        start(options).map(drop).unwrap_err().to_string()
    };
    let error = refused(&|o| o.from = Some("17:00".parse().unwrap()));
    assert!(error.contains("from") && error.contains("17:00:00"), "{error}");
    assert!(error.contains("00:00:00 or later and before 00:01:00"), "{error}");
    let error = refused(&|o| o.universe = 8_000);
    assert!(error.contains("universe") && error.contains("0 to 7104"), "{error}");
    let error = refused(&|o| o.tape = Some("/nonexistent/tape".into()));
    assert!(error.contains("/nonexistent/tape"), "{error}");
    let error = refused(&|o| o.tape = Some(file!().into()));
    assert!(error.contains("tape"), "{error}");
    let error = refused(&|o| o.feed_retained_bytes = 1);
    assert!(error.contains("feed-retained-bytes"), "{error}");
    let taken = TcpListener::bind(LOOPBACK).unwrap();
    let error = refused(&|o| o.listen = taken.local_addr().unwrap());
    assert!(error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
}

#[test]
fn a_data_directory_serves_one_exchange_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 1.0)).unwrap();
    let second = start(options(directory.path(), 1.0));
    assert!(matches!(second, Err(SimError::InUse { .. })));
    exchange.stop().unwrap();
    start(options(directory.path(), 1.0)).unwrap();
}

#[test]
fn the_owner_learns_when_the_exchange_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (ended, end) = mpsc::channel();
    let on_end = move || ended.send(()).unwrap();
    let exchange = start_with(options(directory.path(), 1.0), on_end).unwrap();
    assert!(!exchange.is_finished());
    exchange.request_stop();
    end.recv_timeout(PATIENCE).unwrap();
    exchange.join().unwrap();
}

//! The running exchange over real TCP, as seen by an independent client.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::test_server::{Feed, LOOPBACK, PATIENCE, agent, options, order, post, query, submit};
use super::{SimError, SimOptions, start, start_with};
use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::types::Symbol;

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

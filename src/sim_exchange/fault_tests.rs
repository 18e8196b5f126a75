//! Each fault as seen by an independent client, over real TCP.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::test_server::{Feed, PATIENCE, agent, exchange, options, order, post, query, submit};
use super::{SimHandle, start};
use crate::exchange::wire::FeedLineType;
use crate::testing::wait_until;

fn put(exchange: &SimHandle, settings: &Value) -> (u16, Value) {
    let url = format!("http://{}/admin/faults", exchange.address());
    let mut response = agent().put(url).send_json(settings).unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap_or(Value::Null))
}

pub(super) fn set(exchange: &SimHandle, settings: &Value) {
    let (status, body) = put(exchange, settings);
    assert_eq!(status, 200, "{body}");
}

fn report(exchange: &SimHandle) -> Value {
    try_report(exchange).unwrap()
}

/// `None` when the connection was cut, as by a restart.
fn try_report(exchange: &SimHandle) -> Option<Value> {
    let url = format!("http://{}/admin/faults", exchange.address());
    agent().get(url).call().ok()?.body_mut().read_json().ok()
}

/// How often a fault has happened, by `group.kind`.
fn done(exchange: &SimHandle, fault: &str) -> u64 {
    let (group, kind) = fault.split_once('.').unwrap();
    report(exchange)["done"][group][kind].as_u64().unwrap()
}

/// The bytes of the answer to a submit of these orders, up to the end of the connection.
fn raw_submit(exchange: &SimHandle, orders: &[Value]) -> Vec<u8> {
    let body = json!({ "orders": orders }).to_string();
    let request = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(exchange.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // The connection may be reset; what came before that counts.
    let _reset = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn connections_can_be_cut_before_or_after_the_work() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"submits": {"cutBefore": "next:1", "dropReply": "next:1"}}));
    assert_eq!(raw_submit(&exchange, &[order("before", Some(1), 1)]), b"");
    assert_eq!(query(&exchange, "before")["status"], "unknown");
    assert_eq!(raw_submit(&exchange, &[order("after", Some(1), 1)]), b"");
    assert_eq!(query(&exchange, "after")["status"], "open");
    let whole = raw_submit(&exchange, &[order("whole", Some(1), 1)]);
    assert!(whole.starts_with(b"HTTP/1.1 200"), "the next request is answered");
    assert_eq!(
        (done(&exchange, "submits.cutBefore"), done(&exchange, "submits.dropReply")),
        (1, 1)
    );
}

#[test]
fn an_answer_can_be_cut_in_the_middle() {
    let (_directory, exchange) = exchange();
    for count in [1, 40] {
        set(&exchange, &json!({"submits": {"cutInAnswer": "next:1"}}));
        let orders: Vec<Value> =
            (0..count).map(|n| order(&format!("{count}-{n}"), Some(1), 1)).collect();
        let answer = String::from_utf8(raw_submit(&exchange, &orders)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("all of the head");
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert!(!body.is_empty() && body.len() < length.parse().unwrap(), "{answer}");
        assert_eq!(query(&exchange, &format!("{count}-0"))["status"], "open");
    }
    assert_eq!(done(&exchange, "submits.cutInAnswer"), 2);
}

#[test]
fn requests_can_be_throttled() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"submits": {"throttle": "next:1", "throttleNamed": "next:1"}}));
    for _ in 0..2 {
        let answer = post(&exchange, "/v1/orders", &json!({ "orders": [order("a", Some(1), 1)] }));
        assert_eq!((answer.0, &answer.1["code"]), (429, &json!("too_many_requests")));
        assert_eq!(query(&exchange, "a")["status"], "unknown", "nothing was done");
    }
    set(&exchange, &json!({"submits": {"throttleNamed": "next:1"}}));
    let raw = String::from_utf8(raw_submit(&exchange, &[order("a", Some(1), 1)])).unwrap();
    assert!(raw.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{raw}");
    assert!(submit(&exchange, &[order("a", Some(1), 1)])[0]["externalOrderId"].is_string());
}

#[test]
fn results_can_be_spoilt_or_contradicted_and_answers_too_long() {
    let (_directory, exchange) = exchange();
    let orders = json!({ "orders": [order("a", Some(1), 1), order("b", Some(1), 1)] });
    set(
        &exchange,
        &json!({"submits": {"spoil": "next:1", "contradict": "next:1"},
        "queries": {"spoil": "next:1", "contradict": "next:1", "huge": "next:1"}}),
    );
    let (_, spoilt) = post(&exchange, "/v1/orders", &orders);
    let errors = spoilt["results"].as_array().unwrap().iter();
    assert_eq!(errors.filter(|result| result["error"].is_string()).count(), 1, "{spoilt}");
    let (_, contradicted) = post(&exchange, "/v1/orders", &orders);
    let results = contradicted["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    let last = results[2]["clientOrderId"].clone();
    let same: Vec<&Value> = results.iter().filter(|r| r["clientOrderId"] == last).collect();
    assert!(same.len() == 2 && same[0] != same[1], "{contradicted}");
    let ids = json!({"clientOrderIds": ["a"]});
    let (_, spoilt) = post(&exchange, "/v1/orders/query", &ids);
    assert_eq!(spoilt["results"][0]["status"], "open");
    let (_, contradicted) = post(&exchange, "/v1/orders/query", &ids);
    assert_eq!(contradicted["results"][1]["status"], "cancelled");
    let before = done(&exchange, "queries.huge");
    let url = format!("http://{}/v1/orders/query", exchange.address());
    let mut response = agent().post(url).send_json(&ids).unwrap();
    let limit = 64 << 20;
    let body = response.body_mut().with_config().limit(limit).read_to_vec().unwrap();
    assert!(body.len() > 16 << 20);
    assert_eq!(done(&exchange, "queries.huge"), before + 1);
}

#[test]
fn errors_can_come_before_or_after_the_work() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"submits": {"errorBefore": "next:1", "errorAfter": "next:1"}}));
    for (id, status) in [("before", "unknown"), ("after", "open")] {
        let answer = post(&exchange, "/v1/orders", &json!({ "orders": [order(id, Some(1), 1)] }));
        assert_eq!((answer.0, &answer.1["code"]), (500, &json!("fault")));
        assert_eq!(query(&exchange, id)["status"], status);
    }
}

#[test]
fn answers_can_be_garbage_misshapen_or_incomplete() {
    let (_directory, exchange) = exchange();
    set(
        &exchange,
        &json!({"submits": {"garbage": "next:1"}, "cancels": {"wrongShape": "next:1"},
            "queries": {"leaveOut": "next:1", "shuffle": "next:1"}}),
    );
    let answer = raw_submit(&exchange, &[order("a", Some(1), 1)]);
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(serde_json::from_slice::<Value>(&answer[body..]).is_err());

    let (_, answer) = post(&exchange, "/v1/orders/query", &json!({ "clientOrderIds": ["a"] }));
    assert_eq!(answer["results"], json!([]), "the only result is left out");
    let ids = ["a", "b", "c"];
    let (_, answer) = post(&exchange, "/v1/orders/query", &json!({ "clientOrderIds": ids }));
    let told: Vec<&str> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["clientOrderId"].as_str().unwrap())
        .collect();
    assert_ne!(told, ids);
    assert!(ids.iter().all(|id| told.contains(id)) && told.len() == 3);

    let ids = json!({ "externalOrderIds": [query(&exchange, "a")["externalOrderId"]] });
    let (status, answer) = post(&exchange, "/v1/cancels", &ids);
    assert!(status == 200 && answer["results"].is_null(), "{answer}");
    assert_eq!(query(&exchange, "a")["status"], "cancelled", "the work was done");
    for fault in ["submits.garbage", "cancels.wrongShape", "queries.leaveOut", "queries.shuffle"] {
        assert_eq!(done(&exchange, fault), 1, "{fault}");
    }
}

#[test]
fn orders_and_cancels_can_be_refused_with_a_reason() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"orders": {"reject": "next:1", "refuseCancel": "next:1"}}));
    let refused = submit(&exchange, &[order("refused", Some(1), 1)]);
    assert_eq!(refused[0]["error"]["code"], "rejected");
    assert!(!refused[0]["error"]["message"].as_str().unwrap().is_empty());
    assert_eq!(submit(&exchange, &[order("refused", Some(1), 1)]), refused, "the refusal is final");
    assert_eq!(query(&exchange, "refused")["status"], "rejected");

    let placed = submit(&exchange, &[order("kept", Some(1), 1)]);
    let ids = json!({ "externalOrderIds": [placed[0]["externalOrderId"]] });
    let (_, answer) = post(&exchange, "/v1/cancels", &ids);
    assert_eq!(answer["results"][0]["error"]["code"], "not_now");
    assert_eq!(query(&exchange, "kept")["status"], "open");
    let (_, answer) = post(&exchange, "/v1/cancels", &ids);
    assert_eq!(answer["results"][0]["status"], "cancelled");
}

#[test]
fn a_fill_can_precede_the_answer_to_its_submit() {
    let (_directory, exchange) = exchange();
    // The answer takes ten minutes; the fill does not wait for it.
    set(
        &exchange,
        &json!({"orders": {"fillFirst": 1}, "submits": {"delay": 1},
            "manner": {"submitDelayMs": 600_000}}),
    );
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    let body = json!({ "orders": [order("early", Some(1), 1)] }).to_string();
    let mut stream = TcpStream::connect(exchange.address()).unwrap();
    let head = format!("POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let fill = feed.until(|line| line.order_id.is_some());
    assert_eq!((fill.line_type, fill.num_shares), (FeedLineType::Trade, Some(1)));
    assert_eq!(fill.price_in_cents.unwrap().cents(), 1, "at its limit");
    stream.set_nonblocking(true).unwrap();
    let nothing_yet = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing_yet.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(query(&exchange, "early")["status"], "filled");
    assert_eq!((done(&exchange, "orders.fillFirst"), done(&exchange, "submits.delay")), (1, 1));
}

#[test]
fn orders_end_unasked_and_executions_are_busted() {
    let (directory, exchange) = exchange();
    set(
        &exchange,
        &json!({"orders": {"cancelUnasked": "next:1", "bust": "next:1"},
            "manner": {"laterMs": 0}}),
    );
    let mut feed = Feed::open(&exchange, "from=1").unwrap();
    submit(&exchange, &[order("cancelled", Some(1), 1)]);
    let line = feed.until(|line| line.order_id.is_some());
    assert_eq!(line.line_type, FeedLineType::Cancelled);
    assert_eq!(query(&exchange, "cancelled")["status"], "cancelled");

    submit(&exchange, &[order("busted", None, 100)]);
    let fill = feed.until(|line| line.order_id.is_some());
    let bust = feed.until(|line| line.line_type == FeedLineType::Bust);
    assert_eq!((&bust.execution_id, &bust.order_id), (&fill.execution_id, &fill.order_id));
    // The order is open again, so the next print fills it again.
    let again = feed.until(|line| line.order_id == fill.order_id);
    assert_eq!(again.line_type, FeedLineType::Trade);
    assert_ne!(again.execution_id, fill.execution_id);
    let record = query(&exchange, "busted");
    assert_eq!(record["executions"].as_array().unwrap().len(), 1, "{record}");
    assert_eq!(record["executions"][0]["executionId"], json!(again.execution_id));

    set(&exchange, &json!({"orders": {"expireUnasked": "next:1"}}));
    submit(&exchange, &[order("expired", Some(1), 1)]);
    let line = feed.until(|line| line.line_type == FeedLineType::Expired);
    assert_eq!(json!(line.order_id), query(&exchange, "expired")["externalOrderId"]);
    let before = ["busted", "cancelled", "expired"].map(|id| query(&exchange, id));
    exchange.stop().unwrap();
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    assert_eq!(["busted", "cancelled", "expired"].map(|id| query(&exchange, id)), before);
}

#[test]
fn lines_can_be_repeated_skipped_and_late() {
    let (_directory, exchange) = exchange();
    let mut feed = Feed::open(&exchange, "").unwrap();
    set(&exchange, &json!({"feed": {"repeat": "next:1"}}));
    let mut last = feed.next();
    loop {
        let line = feed.next();
        if line == last {
            break;
        }
        last = line;
    }

    set(&exchange, &json!({"feed": {"skip": "next:3"}}));
    loop {
        let line = feed.next();
        let jumped = line.sequence > last.sequence + 1;
        last = line;
        if jumped {
            break;
        }
    }

    set(&exchange, &json!({"feed": {"reorder": "next:1"}, "manner": {"reorderWindow": 3}}));
    loop {
        let line = feed.next();
        if line.sequence < last.sequence {
            assert!(last.sequence - line.sequence <= 3, "within the window");
            break;
        }
        last = line;
    }

    set(&exchange, &json!({"feed": {"repeatRenumbered": "next:1"}}));
    let mut seen = std::collections::HashMap::new();
    loop {
        let line = feed.next();
        let earlier = line.execution_id.clone().and_then(|id| seen.insert(id, line.sequence));
        if earlier.is_some() {
            assert_ne!(earlier, Some(line.sequence));
            break;
        }
    }
    for (fault, times) in
        [("feed.repeat", 1), ("feed.skip", 3), ("feed.reorder", 1), ("feed.repeatRenumbered", 1)]
    {
        assert_eq!(done(&exchange, fault), times, "{fault}");
    }
}

#[test]
fn lines_and_listings_can_break_the_contract() {
    let (_directory, exchange) = exchange();
    let odd = json!({"feed": {"blank": 0.3, "garbage": 0.3, "odd": 0.3, "oddListings": "next:1"}});
    set(&exchange, &odd);
    let stream = TcpStream::connect(exchange.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (&stream).write_all(b"GET /v1/feed HTTP/1.0\r\n\r\n").unwrap();
    let lines = std::io::BufRead::split(std::io::BufReader::new(&stream), b'\n');
    let (mut blank, mut unread, mut read) = (0, 0, 0);
    for line in lines.map_while(Result::ok).skip_while(|line| !line.starts_with(b"{")).take(200) {
        match crate::exchange::read_line(&line) {
            _ if line.trim_ascii().is_empty() => blank += 1,
            Err(_) => unread += 1,
            Ok(_) => read += 1,
        }
    }
    assert!(blank > 10 && unread > 30 && read > 30, "{blank} {unread} {read}");
    let symbols = || {
        let url = format!("http://{}/v1/symbols", exchange.address());
        let list: Value = agent().get(url).call().unwrap().body_mut().read_json().unwrap();
        list["symbols"].clone()
    };
    let listed = symbols();
    assert_eq!(listed[4]["symbol"], "AAA", "after four unreadable entries");
    assert_eq!(listed[5]["previousCloseInCents"], 0);
    assert_eq!(symbols().as_array().unwrap().len(), 2);
    assert_eq!(done(&exchange, "feed.oddListings"), 1);
}

#[test]
fn a_restart_can_keep_the_session_name() {
    let (_directory, exchange) = exchange();
    let before = report(&exchange)["session"].clone();
    assert_eq!(post(&exchange, "/admin/restart", &json!({"keepSession": true})).0, 202);
    wait_until(|| try_report(&exchange).is_some_and(|report| report["restarts"] == 1));
    assert_eq!(report(&exchange)["session"], before);
    let mut feed = Feed::open(&exchange, "").unwrap();
    assert!(feed.session.sequence < 6_000, "its sequences restart");
    feed.next();
}

#[test]
fn the_feed_can_stall_without_heartbeats_and_be_cut() {
    let (_directory, exchange) = exchange();
    let mut stalled = TcpStream::connect(exchange.address()).unwrap();
    stalled.write_all(b"GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    set(&exchange, &json!({"feed": {"stall": "next:1"}, "manner": {"stallMs": 600_000}}));
    wait_until(|| done(&exchange, "feed.stall") > 0);
    stalled.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while stalled.read(&mut buffer).is_ok() {}
    let mut other = Feed::open(&exchange, "").unwrap();
    other.until(|line| line.line_type == FeedLineType::Heartbeat);
    let nothing = stalled.read(&mut buffer).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "a heartbeat was due here too");

    set(&exchange, &json!({"feed": {"cut": "next:1"}}));
    while other.try_next().is_some() {}
    assert_eq!(done(&exchange, "feed.cut"), 1);
    assert!(Feed::open(&exchange, "").is_ok());
}

#[test]
fn faults_can_be_limited_to_order_lines() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"feed": {"skip": 1}, "manner": {"onlyOrderLines": true}}));
    let mut feed = Feed::open(&exchange, "").unwrap();
    submit(&exchange, &[order("a", None, 100)]);
    while done(&exchange, "feed.skip") == 0 {
        assert_eq!(feed.next().order_id, None);
    }
    assert_eq!(query(&exchange, "a")["status"], "filled");
}

#[test]
fn a_restart_closes_connections_and_keeps_or_loses_records() {
    let (_directory, exchange) = exchange();
    let mut feed = Feed::open(&exchange, "").unwrap();
    let old = submit(&exchange, &[order("old", Some(1), 1)]);
    let restart = |body: Value| {
        let before = report(&exchange)["restarts"].as_u64().unwrap();
        let (status, body) = post(&exchange, "/admin/restart", &body);
        assert_eq!(status, 202, "{body}");
        wait_until(|| try_report(&exchange).is_some_and(|report| report["restarts"] != before));
    };
    restart(json!({}));
    while feed.try_next().is_some() {}
    assert_eq!(Feed::open(&exchange, "").unwrap().session.session, "2");
    assert_eq!(submit(&exchange, &[order("old", Some(1), 1)]), old, "it remembers");

    // Everything since the old order was accepted lies within the hour, the order included.
    restart(json!({ "forgetMs": 3_600_000 }));
    assert_eq!(query(&exchange, "old")["status"], "unknown");
    let (status, problem) = post(&exchange, "/admin/restart", &json!({ "forgetMs": 3_600_001 }));
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("3600001"), "{problem}");
}

#[test]
fn a_start_can_forget_the_newest_records() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    submit(&exchange, &[order("first", Some(1), 1)]);
    // Let the clock advance between the two.
    let accepted = crate::types::Clock.now();
    wait_until(|| crate::types::Clock.now().micros_since(accepted) >= 5_000);
    submit(&exchange, &[order("last", Some(1), 1)]);
    exchange.stop().unwrap();
    let mut options = options(directory.path(), 10.0);
    options.faults = "manner.forget-ms=2".parse().unwrap();
    let exchange = start(options).unwrap();
    assert_eq!(query(&exchange, "first")["status"], "open");
    assert_eq!(query(&exchange, "last")["status"], "unknown");
}

#[test]
fn an_exchange_without_a_journal_refuses_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), 1.0);
    options.data_dir = None;
    let exchange = start(options).unwrap();
    let (status, problem) = post(&exchange, "/admin/restart", &json!({}));
    assert_eq!((status, &problem["code"]), (409, &json!("no_journal")));
}

#[test]
fn settings_are_validated_and_draws_repeat_from_their_seed() {
    let (_directory, exchange) = exchange();
    for (settings, parts) in [
        (json!({"submits": {"dropReply": 2}}), ["submits.dropReply", "2", "from 0 to 1"]),
        (json!({"submits": {"drop": 1}}), ["submits.drop", "unknown field", "`dropReply`"]),
        (json!({"manner": {"reorderWindow": 65}}), ["manner.reorderWindow", "65", "1 to 64"]),
    ] {
        let (status, problem) = put(&exchange, &settings);
        assert_eq!(status, 400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
    }
    let outcomes = || -> Vec<bool> {
        set(&exchange, &json!({"seed": 5, "queries": {"errorBefore": 0.5}}));
        let ids = json!({ "clientOrderIds": ["x"] });
        let failed = |_| post(&exchange, "/v1/orders/query", &ids).0 == 500;
        (0..40).map(failed).collect()
    };
    let first = outcomes();
    assert!(first.contains(&true) && first.contains(&false));
    assert_eq!(outcomes(), first);
    set(&exchange, &json!({"feed": {"skip": "next:9"}, "manner": {"onlyOrderLines": true}}));
    assert_eq!(
        report(&exchange)["settings"]["feed"]["skip"],
        "next:9",
        "what is left of the count"
    );
}

#[test]
fn all_orders_are_listed_in_pages() {
    let (_directory, exchange) = exchange();
    for first in (0..1_200).step_by(200) {
        let orders: Vec<Value> =
            (first..first + 200).map(|n| order(&format!("c{n}"), Some(1), 3)).collect();
        submit(&exchange, &orders);
    }
    let list = |query: &str| -> Vec<Value> {
        let url = format!("http://{}/admin/orders{query}", exchange.address());
        let mut body: Value = agent().get(url).call().unwrap().body_mut().read_json().unwrap();
        serde_json::from_value(body["orders"].take()).unwrap()
    };
    let mut all = list("");
    assert_eq!(all.len(), 1_000);
    let last = all[999]["externalOrderId"].as_str().unwrap().to_owned();
    all.extend(list(&format!("?after={last}")));
    let ids: Vec<&str> = all.iter().map(|o| o["clientOrderId"].as_str().unwrap()).collect();
    assert_eq!(ids, (0..1_200).map(|n| format!("c{n}")).collect::<Vec<_>>());
    assert_eq!((&all[7]["limitPriceInCents"], &all[7]["numShares"]), (&json!(1), &json!(3)));
}

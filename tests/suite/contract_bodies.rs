//! Request bodies: `null` equals an omitted field, a body that is too large gets `413`, and line ends
//! around a request are ignored.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::api::{self, Answer, Client};
use crate::support::events::EventStream;
use crate::support::{PATIENCE, Server};
use serde_json::{Value, json};
use ureq::http::{Method, Request};

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn operate(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(format!("{}{path}", server.admin));
    api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap()
}

/// Status, code and field of an answer.
fn told(answer: &Answer) -> (u16, Value, Value) {
    (answer.status, answer.body["code"].clone(), answer.body["field"].clone())
}

#[test]
fn null_is_the_same_as_leaving_a_field_out_but_no_price() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 1});
    for field in ["timeInForce", "clientOrderId"] {
        let mut with_null = order.clone();
        with_null[field] = Value::Null;
        let placed = alice.post("/order", &with_null);
        assert!(matches!(placed.status, 201 | 202), "{field}: {}", placed.text);
        assert_eq!(placed.body["timeInForce"], "day");
    }
    assert_eq!(alice.all_orders().len(), 2);
    for field in ["position", "symbol", "numShares"] {
        let (mut with_null, mut without) = (order.clone(), order.clone());
        with_null[field] = Value::Null;
        without.as_object_mut().unwrap().remove(field);
        let (null, missing) = (alice.post("/order", &with_null), alice.post("/order", &without));
        assert_eq!((null.status, &null.text), (400, &missing.text), "{field}");
        assert_eq!(null.body["field"], field);
    }
    // Neither a price of `null` nor a misspelt field may turn into a market order.
    for (field, value) in [("priceInCents", Value::Null), ("prcieInCents", Value::Null)] {
        let mut bad = order.clone();
        bad[field] = value;
        assert_eq!(told(&alice.post("/order", &bad)), told_of(field));
    }
    assert_eq!(alice.all_orders().len(), 2, "nothing was recorded");

    let body = json!({"symbols": ["SPY"], "maxRate": null, "mode": null}).to_string();
    let mut stream = EventStream::send(&server.address, &post("/subscribe", &alice, &body, ""));
    let open = stream.await_event("open", |event| event.name == "open");
    let path = format!("/subscribe/{}", open.data["streamId"].as_str().unwrap());
    for change in [json!({"add": null, "remove": null}), json!({"add": ["IBM"], "remove": null})] {
        let changed = alice.send(Method::PATCH, &path, change.to_string().as_bytes());
        assert_eq!(changed.status, 204, "{change}: {}", changed.text);
    }
    let null = alice.post("/subscribe", &json!({"symbols": null}));
    assert_eq!(told(&null), told(&alice.post("/subscribe", &json!({}))));

    let halt = json!({"all": null, "users": ["bob"], "symbols": null, "by": null, "reason": null});
    assert_eq!(operate(&server, "PUT", "/kill-switch", &halt).status, 200);
    let nothing = json!({"all": null, "users": null, "symbols": null});
    assert_eq!(operate(&server, "PUT", "/kill-switch", &nothing).status, 400);
    let cancel = json!({"all": null, "user": "alice", "symbol": null, "by": null, "reason": null});
    assert_eq!(operate(&server, "POST", "/mass-cancel", &cancel).body, json!({"asked": 2}));
    let nobody = json!({"all": null, "user": null});
    assert_eq!(operate(&server, "POST", "/mass-cancel", &nobody).status, 400);

    let login = |body: &str| {
        let request = Request::post(format!("{}/session", server.address));
        api::send(request.body(body.as_bytes().to_vec()).unwrap()).unwrap()
    };
    assert_eq!(told(&login(r#"{"user":null}"#)), told(&login("{}")));
    assert_eq!(login(r#"["alice"]"#).status, 400, "a list is no object");
    assert_eq!(alice.post("/order", &json!(["buy", "SPY", 1])).status, 400);
}

fn told_of(field: &str) -> (u16, Value, Value) {
    (400, json!("invalid_field"), json!(field))
}

fn post(path: &str, client: &Client, body: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\
         {more}\r\n{body}",
        client.token,
        body.len()
    )
}

/// Sends a request larger than the socket buffers, like a client that reads the answer only after
/// sending everything.
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn send_whole(address: &str, head: &str, body: &[u8]) -> String {
    let mut socket = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.ends_with(b"}") {
        let read = socket.read(&mut chunk).unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn too_large_bodies_are_413_however_they_are_framed_and_the_answer_arrives() {
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("webhook-secrets");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let more = ["--webhook-secret-file", secret.to_str().unwrap()];
    let server = Server::start(data.path(), &more);
    let alice = server.user(data.path(), "alice");
    let routes = [
        (&server.address, "POST /order"),
        (&server.address, "POST /subscribe"),
        (&server.address, "PATCH /subscribe/1-2-3"),
        (&server.address, "POST /session"),
        (&server.address, "POST /exchange/trades"),
        (&server.admin, "PUT /kill-switch"),
        (&server.admin, "POST /mass-cancel"),
    ];
    for (address, route) in routes {
        let head =
            format!("{route} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n", alice.token);
        for size in [5 << 20, 8 << 20] {
            let body = vec![b' '; size];
            let plain = format!("{head}Content-Length: {size}\r\n\r\n");
            let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n");
            for (framing, head, end) in
                [("length", &plain, &b""[..]), ("chunks", &chunked, b"\r\n0\r\n\r\n")]
            {
                let answer = send_whole(address, head, &[&body, end].concat());
                assert!(answer.starts_with("HTTP/1.1 413 "), "{route}, {framing}: {answer}");
                for part in ["\"code\":\"body_too_large\"", "\"field\":\"body\"", "bytes"] {
                    assert!(answer.contains(part), "{route}, {framing}: {answer}");
                }
            }
        }
    }
    // A body slightly too large does not cost the connection.
    let large = vec![b' '; 17 * 1024];
    assert_eq!(alice.send(Method::POST, "/order", &large).status, 413);
    assert!(alice.all_orders().is_empty());
}

#[test]
fn line_ends_around_requests_are_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50"]);
    let alice = server.user(data.path(), "alice");
    let body = json!({"symbols": ["SPY"]}).to_string();
    let request = post("/subscribe", &alice, &body, "");
    // After the body of a stream request, together with it and later.
    let mut stream = EventStream::send(&server.address, &format!("{request}\r\n"));
    stream.await_event("open", |event| event.name == "open");
    for line_ends in ["\r\n", "\n", "\r\n\r\n"] {
        stream.write(line_ends);
        stream.await_price("SPY");
        stream.await_price("SPY");
    }
    // Anything else is not.
    let closed =
        EventStream::until_closed(&server.address, &format!("{request}GET / HTTP/1.1\r\n"));
    assert!(!closed.contains("event:"), "{closed}");
    stream.write("G");
    while stream.next().is_some() {}

    // After every other body, and before a request.
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 1});
    let order = post("/order", &alice, &order.to_string(), "");
    let bad_order = post("/order", &alice, "{}", "");
    let session = post("/session", &alice, "", "");
    let change = post("/subscribe/1-2-3", &alice, "{}", "").replacen("POST", "PATCH", 1);
    let last = format!(
        "GET /symbols?limit=1 HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\
         Connection: close\r\n\r\n",
        alice.token
    );
    for line_ends in ["\r\n", "\r\n\r\n", "\n"] {
        let all = [&order, &bad_order, &session, &change, &last].map(String::as_str);
        let requests = format!("{line_ends}{}", all.join(line_ends));
        let answers = EventStream::until_closed(&server.address, &requests);
        let statuses: Vec<&str> =
            answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
        assert_eq!(statuses.len(), 5, "{line_ends:?}: {answers}");
        assert!(matches!(statuses[0], "201" | "202"), "{answers}");
        assert_eq!(statuses[1..], ["400", "200", "404", "200"], "{line_ends:?}: {answers}");
    }
}

//! Errors are sentences about the request: they name the field, show the value and say what is
//! allowed, without internals.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support::Server;
use crate::support::api::{self, Answer};
use serde_json::{Value, json};
use ureq::http::{Method, Request};

/// Words of libraries, and traces of an empty list.
const NEVER: &[&str] = &[
    "serde",
    "struct",
    "enum",
    "variant",
    "u64",
    "u32",
    "i64",
    "usize",
    "bool",
    "borrowed",
    "map",
    "sequence,",
    "integer",
    "expected a string",
    "invalid type",
    "invalid value",
    "invalid length",
    "missing field",
    "unknown field",
    "EOF",
    "trailing",
    "at line",
    "None",
    "Some(",
    "Err(",
    "InvalidToken",
    "InvalidSignature",
    "Json",
    "Base64",
    "are .",
    "are: .",
    "  ",
    "..",
    "\\",
];

fn check(what: &str, answer: &Answer, field: &str, said: &str) {
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!((400..500).contains(&answer.status), "{what}: {}", answer.text);
    assert_eq!(answer.body["field"].as_str().unwrap_or_default(), field, "{what}: {detail}");
    assert!(detail.contains(said), "{what}: {detail:?} lacks {said:?}");
    assert!(detail.ends_with('.'), "{what}: {detail:?} is no sentence");
    for word in NEVER {
        assert!(!detail.contains(word), "{what}: {detail:?} has {word:?}");
    }
}

#[test]
fn bodies() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let order = |more: &str| format!(r#"{{"position":"buy","symbol":"SPY","numShares":1{more}}}"#);
    let cases: &[(&str, String, &str, &str)] = &[
        ("POST /order", String::new(), "body", "empty"),
        ("POST /order", "{".into(), "body", "ends early"),
        ("POST /order", "{'a':1}".into(), "body", "line 1, column 2"),
        ("POST /order", format!("{}x", order("")), "body", "not valid JSON"),
        ("POST /order", "7".into(), "body", "must be a JSON object"),
        ("POST /order", "{\"a\":".repeat(200), "body", "nested too deeply"),
        ("POST /order", order(r#","side":"buy""#), "side", "numShares, priceInCents"),
        ("POST /order", order(r#","numShares":1"#), "numShares", "more than once"),
        ("POST /order", r#"{"symbol":"SPY"}"#.into(), "position", "\"buy\" or \"sell\""),
        ("POST /order", order("").replace("buy", "short"), "position", "\"short\" is not \"buy\""),
        ("POST /order", order("").replace("SPY", "S P"), "symbol", "\"S P\" is not a symbol"),
        ("POST /order", order("").replace("SPY", "NONE"), "symbol", "does not list NONE"),
        ("POST /order", order("").replace(":1", ":1.5"), "numShares", "1.5 is not a whole number"),
        ("POST /order", order("").replace(":1", ":0"), "numShares", "from 1 to 10000000"),
        ("POST /order", order("").replace(":1", ":[1]"), "numShares", "[1] is not a whole number"),
        ("POST /order", order(r#","priceInCents":null"#), "priceInCents", "null is not a price"),
        ("POST /order", order(r#","priceInCents":"1""#), "priceInCents", "1 to 1000000000"),
        ("POST /order", order(r#","timeInForce":"ioc""#), "timeInForce", "\"day\" or \"gtc\""),
        ("POST /order", order(r#","clientOrderId":"a b""#), "clientOrderId", "1 to 64 printable"),
        ("POST /subscribe", "{}".into(), "symbols", "1 to 1024 symbols; 0 were given"),
        ("POST /subscribe", r#"{"symbols":"SPY"}"#.into(), "symbols", "is not a list"),
        ("POST /subscribe", r#"{"symbols":[1]}"#.into(), "symbols[0]", "1 is not a symbol"),
        ("POST /subscribe", r#"{"symbols":["NONE",""]}"#.into(), "symbols", "\"NONE\", \"\""),
        ("POST /subscribe", r#"{"symbols":["SPY"],"mode":1}"#.into(), "mode", "\"latest\" or"),
        ("POST /subscribe", r#"{"symbols":["SPY"],"maxRate":0}"#.into(), "maxRate", "1 to 1000"),
        ("PATCH /subscribe/1-2-3", r#"{"add":1}"#.into(), "add", "is not a list"),
        ("PATCH /subscribe/1-2-3", "{}".into(), "", "no open stream"),
    ];
    for (route, body, field, said) in cases {
        let (method, path) = route.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = alice.send(method, path, body.as_bytes());
        check(&format!("{route} {}", &body[..body.len().min(60)]), &answer, field, said);
    }
}

#[test]
fn paths_queries_and_tokens() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    for (path, field, said) in [
        (
            "/orders?stauts=filled",
            "stauts",
            "status, symbol, clientOrderId, from, to, order, limit, cursor",
        ),
        ("/orders?status=done", "status", "filled, pending_cancel, cancelled or failed"),
        ("/orders?symbol=a%20b", "symbol", "\"a b\""),
        ("/orders?limit=501", "limit", "1 to 500"),
        ("/orders?limit=1&limit=1", "limit", "more than once"),
        ("/orders?cursor=1", "cursor", "an earlier page"),
        ("/orders?cursor=%zz", "cursor", "%zz"),
        ("/orders/stream?user=bob", "user", "lastEventId"),
        ("/order/1", "", "no order \"1\""),
        ("/order/1?full=1", "full", "takes no parameters"),
        ("/symbol/NONE", "", "does not list \"NONE\""),
        ("/symbol/SPY?x", "x", "takes no parameters"),
        ("/symbol/%zz", "", "%zz"),
        ("/symbols?limit=0", "limit", "1 to 1000"),
        ("/subscribe", "symbols", "1 to 1024"),
        ("/subscribe?symbols=SPY&orders=2", "orders", "\"0\" or \"1\""),
        ("/subscribe?symbols=SPY&maxRate=many", "maxRate", "1 to 1000"),
        ("/nothing", "", "/nothing"),
    ] {
        check(path, &alice.get(path), field, said);
    }
    check("PUT /orders", &alice.send(Method::PUT, "/orders", b""), "", "GET, HEAD");
    let (signed, _) = alice.token.rsplit_once('.').unwrap();
    for (token, said) in [
        ("x".to_owned(), "not a signed JWT"),
        ("a.b.c".to_owned(), "not a signed JWT"),
        (format!("{signed}.c2lnbmF0dXJl"), "not signed with this server's key"),
        (String::new(), "`Bearer <token>`"),
    ] {
        let other = api::Client::new(&server.address, &token);
        check(&token, &other.get("/orders"), "", said);
    }
    let nobody = api::get_anonymously(&format!("{}/orders", server.address)).unwrap();
    check("no token", &nobody, "", "POST /session");
    let request = Request::post(format!("{}/session", server.address));
    let login = request.body(br#"{"user":"two words"}"#.to_vec()).unwrap();
    check("log-in", &api::send(login).unwrap(), "user", "\"two words\"");

    let operate = |method: &str, path: &str, body: &Value| {
        let request = Request::builder().method(method).uri(format!("{}{path}", server.admin));
        api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap()
    };
    for (method, path, body, field, said) in [
        ("PUT", "/kill-switch", json!({}), "body", "`users` or `symbols`"),
        ("PUT", "/kill-switch", json!({"al": true}), "al", "all, users, symbols, by, reason"),
        ("PUT", "/kill-switch", json!({"all": "yes"}), "all", "\"yes\" is not true or false"),
        ("PUT", "/kill-switch", json!({"users": "bob"}), "users", "is not a list"),
        ("PUT", "/kill-switch", json!({"users": ["a b"]}), "users[0]", "\"a b\""),
        ("PUT", "/kill-switch", json!({"symbols": ["NONE"]}), "symbols", "does not list NONE"),
        ("PUT", "/kill-switch", json!({"users": vec!["u"; 2], "by": 1}), "by", "1 is not a string"),
        ("PUT", "/kill-switch?x=1", json!({"all": true}), "x", "takes no parameters"),
        ("POST", "/mass-cancel", json!({}), "body", "`user`, a `symbol`"),
        ("POST", "/mass-cancel", json!({"user": ""}), "user", "\"\""),
        ("DELETE", "/kill-switch", json!({}), "", "GET, HEAD, PUT"),
        ("GET", "/nothing", json!({}), "", "/nothing"),
    ] {
        check(&format!("{method} {path} {body}"), &operate(method, path, &body), field, said);
    }
}

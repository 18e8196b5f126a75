//! Each path of both listeners states its methods, and `HEAD` works wherever `GET` does.

use crate::support::api::{self, Answer};
use crate::support::events::EventStream;
use crate::support::{Server, token};
use serde_json::json;
use ureq::http::{Method, Request};

/// Paths for clients and what they allow.
const CLIENTS: &[(&str, &str)] = &[
    ("/session", "POST, DELETE"),
    ("/symbols", "GET, HEAD"),
    ("/symbol/SPY", "GET, HEAD"),
    ("/symbol/SPY/candles", "GET, HEAD"),
    ("/clock", "GET, HEAD"),
    ("/calendar", "GET, HEAD"),
    ("/subscribe", "GET, HEAD, POST"),
    ("/subscribe/1-2-3", "PATCH"),
    ("/order", "POST"),
    ("/order/019c0000-0000-7000-8000-000000000000", "GET, HEAD, DELETE"),
    ("/order/019c0000-0000-7000-8000-000000000000/executions", "GET, HEAD"),
    ("/orders", "GET, HEAD, DELETE"),
    ("/account", "GET, HEAD"),
    ("/positions", "GET, HEAD"),
    ("/positions/IBM", "GET, HEAD"),
    ("/orders/preview", "POST"),
    ("/portfolio", "GET, HEAD"),
    ("/activities", "GET, HEAD"),
    ("/orders/stream", "GET, HEAD"),
    ("/exchange/trades", "POST"),
    ("/", "GET, HEAD"),
    ("/style.css", "GET, HEAD"),
];
/// Paths for operators.
const OPERATORS: &[(&str, &str)] = &[
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/kill-switch", "GET, HEAD, PUT"),
    ("/mass-cancel", "POST"),
    ("/quarantine", "GET, HEAD"),
    ("/day-ends/2013-10-08", "GET, HEAD, POST"),
    ("/trial-balance", "GET, HEAD"),
    ("/accounts/alice", "GET, HEAD"),
    ("/accounts/alice/deposits", "POST"),
    ("/accounts/alice/withdrawals", "POST"),
];

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn ask(address: &str, token: &str, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(format!("{address}{path}"));
    let request = request.header("authorization", format!("Bearer {token}")).body(Vec::new());
    api::send(request.unwrap()).unwrap()
}

#[test]
fn what_a_path_does_not_have_is_answered_with_what_it_has() {
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("webhook-secrets");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let settings = ["--webhook-secret-file", secret.to_str().unwrap()];
    let server = Server::start(data.path(), &settings);
    let token = token(data.path(), "alice");
    let listeners = [(&server.address, CLIENTS), (&server.admin, OPERATORS)];
    for (address, paths) in listeners {
        for (path, allowed) in paths {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
                // Streams are read below.
                if method == "GET" && path.ends_with("stream") {
                    continue;
                }
                let answer = ask(address, &token, method, path);
                let is_allowed = allowed.split(", ").any(|one| one == method);
                assert_eq!(answer.status != 405, is_allowed, "{method} {path}: {}", answer.text);
                if !is_allowed {
                    assert_eq!(answer.headers["allow"], *allowed, "{method} {path}");
                    assert_eq!(answer.headers["content-type"], "application/problem+json");
                }
            }
        }
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
            for path in ["/nothing", "/orders/x", "/order/x/y", "/symbol/SPY/x"] {
                assert_eq!(ask(address, &token, method, path).status, 404, "{method} {path}");
            }
        }
    }
    let put = ask(&server.address, &token, "PUT", "/orders");
    assert_eq!(put.headers["allow"], "GET, HEAD, DELETE");
}

#[test]
fn head_shows_the_head_of_what_get_answers_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let order = alice.place_resting("SPY");
    let order = format!("/order/{}", order["orderId"].as_str().unwrap());
    let executions = format!("{order}/executions");
    for (address, path) in [
        (&server.address, "/symbols?limit=3"),
        (&server.address, "/orders"),
        (&server.address, "/orders?limit=0"),
        (&server.address, order.as_str()),
        (&server.address, executions.as_str()),
        (&server.address, "/order/unknown"),
        (&server.address, "/"),
        (&server.address, "/app.js"),
        (&server.address, "/nothing"),
        (&server.address, "/subscribe?symbols=NOSUCH"),
        (&server.admin, "/healthz"),
        (&server.admin, "/readyz"),
        (&server.admin, "/kill-switch"),
    ] {
        let get = ask(address, &alice.token, "GET", path);
        let head = ask(address, &alice.token, "HEAD", path);
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(head.headers.get(name), get.headers.get(name), "{name} of {path}");
        }
    }
    assert_eq!(ask(&server.address, "not-a-token", "HEAD", "/orders").status, 401);
    assert_eq!(alice.send(Method::HEAD, "/symbol/SPY", b"").status, 200);

    let opened = server.metric("streams_opened_total");
    for path in ["/subscribe?symbols=SPY", "/subscribe?symbols=SPY&orders=1", "/orders/stream"] {
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n",
            alice.token
        );
        let head = EventStream::until_closed(&server.address, &request);
        let stream = EventStream::send(&server.address, &request.replacen("HEAD", "GET", 1));
        assert_eq!(head.trim_end().split("\r\n").collect::<Vec<_>>(), stream.head, "{path}");
    }
    api::until("no stream is left", || (server.metric("streams_open") == 0).then_some(()));
    assert_eq!(server.metric("streams_opened_total") - opened, 3, "a head opens none");
    assert_eq!(alice.post("/subscribe", &json!({"symbols": []})).status, 400);
}

#[test]
fn requests_without_a_path_and_of_other_protocols_are_answered() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let answer = |request: &str| EventStream::until_closed(&server.address, request);
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let connect = answer(&head("CONNECT x:80"));
    assert!(connect.starts_with("HTTP/1.1 404 "), "{connect}");
    assert!(connect.contains("The request names no path."), "{connect}");
    assert!(answer(&head("OPTIONS *")).starts_with("HTTP/1.1 204 "));
    let http_2 = answer("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(http_2.starts_with("HTTP/1.1 400 "), "{http_2}");
    let many = "a: b\r\n".repeat(65);
    let many = answer(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"));
    assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
}

//! A stop does not wait for idle clients, and the admin listener answers until the end.

use std::net::TcpStream;
use std::time::Instant;

use crate::support::{self, Exchange, PATIENCE, Server, api};

#[test]
fn connections_without_a_request_keep_no_server_from_stopping() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    // One used connection that is kept alive, and one that was never used.
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/orders").status, 200);
    let accepted = server.metric("http_accepted_total");
    let _unused = TcpStream::connect(server.address.replace("http://", "")).unwrap();
    support::api::until("the connection to be accepted", || {
        // Each poll is a connection as well, so wait for one more than that.
        (server.metric("http_accepted_total") > accepted + 1).then_some(())
    });
    server.program.ask_to_stop();
    let status = server.program.wait();
    assert!(status.success(), "{status}");
}

#[test]
fn operators_are_answered_until_everything_else_has_ended() {
    let (data, books) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let exchange = Exchange::start(books.path(), &[]);
    let mut server = Server::start(data.path(), &["--exchange", &exchange.address]);
    // An order without an answer delays the stop until its timeout.
    let sends = server.metric("orders_submit_requests_total");
    exchange.program.freeze();
    let alice = server.user(data.path(), "alice");
    let ordering = std::thread::spawn(move || {
        let order = serde_json::json!({"position": "buy", "symbol": "IBM", "numShares": 1});
        alice.try_send(ureq::http::Method::POST, "/order", order.to_string().as_bytes())
    });
    api::until("the order to be sent", || {
        (server.metric("orders_submit_requests_total") > sends).then_some(())
    });
    let ask = |path: &str| api::get_anonymously(&format!("{}{path}", server.admin));
    assert_eq!(ask("/readyz").unwrap().body["state"], "ready");

    server.program.ask_to_stop();
    api::until("the stop", || (ask("/readyz")?.body["state"] == "draining").then_some(()));
    let mut answers = 0;
    let deadline = Instant::now() + PATIENCE;
    // At the first request without an answer, nothing else may be running.
    let left = loop {
        let Some(ready) = ask("/readyz") else { break server.program.threads() };
        assert_eq!(ready.status, 503, "{}", ready.text);
        assert_eq!(ready.body["checks"]["running"], false);
        assert!(ready.body["reasons"]["running"].as_str().unwrap().contains("draining"));
        if let Some(alive) = ask("/healthz") {
            assert_eq!((alive.status, alive.text.as_str()), (200, "alive\n"));
            answers += 1;
        }
        assert!(ask("/metrics").is_none_or(|page| page.text.ends_with("# EOF\n")));
        assert!(Instant::now() < deadline, "it does not end");
    };
    assert!(answers > 0);
    for thread in ["shard-0", "orders", "wal", "index", "feed"] {
        assert!(!left.iter().any(|name| name == thread), "{thread} among {left:?}");
    }
    assert!(server.program.wait().success());
    ordering.join().unwrap();
}

//! A server that starts before its exchange: every route reports it, and the server recovers by itself.

use crate::support::ports::free_address;
use crate::support::venue::Venue;
use crate::support::{Program, api, longbow, token};
use serde_json::json;
use ureq::http::Method;

#[test]
fn before_the_exchange_nothing_is_known_and_after_it_all() {
    let data = tempfile::tempdir().unwrap();
    let exchange = free_address();
    let mut command = longbow();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--exchange", &format!("http://{exchange}"), "--data-dir"]).arg(data.path());
    // Nobody has cash at an exchange that is not ours.
    command.args(["--account-mode", "unchecked"]);
    let program = Program::spawn(command);
    let address = program.await_line("listening on ");
    let admin = program.await_line("admin on ");
    let alice = api::Client::new(&address, &token(data.path(), "alice"));
    let readiness = || api::get_anonymously(&format!("{admin}/readyz")).unwrap();

    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 5, "priceInCents": 1});
    let requests = [
        (Method::GET, "/symbols", json!(null)),
        (Method::GET, "/symbol/SPY", json!(null)),
        (Method::GET, "/symbol/NEVER", json!(null)),
        (Method::POST, "/subscribe", json!({"symbols": ["SPY"]})),
        (Method::POST, "/order", order.clone()),
    ];
    for (method, path, body) in requests {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = alice.send(method, path, body.as_bytes());
        assert_eq!(answer.status, 503, "{path}: {}", answer.text);
        assert_eq!(answer.body["code"], "no_symbols_yet", "{path}");
        assert!(answer.headers.contains_key("retry-after"), "{path}");
    }
    let stream = alice.get("/subscribe?symbols=SPY");
    assert!(stream.status == 200 && stream.text.contains("retry:"), "a browser comes again");
    let ready = readiness();
    assert_eq!((ready.status, &ready.body["exchange"]), (503, &json!("away")));
    assert_eq!(alice.get("/orders").status, 200, "orders can be read");

    let venue = Venue::start_at(&exchange);
    api::until("the server to be ready", || {
        let ready = readiness();
        (ready.status == 200 && ready.body["exchange"] == "reachable").then_some(())
    });
    assert_eq!(alice.get("/symbol/SPY").status, 200);
    assert_eq!(alice.get("/symbol/NEVER").status, 404);
    alice.place_resting("SPY");
    assert_eq!(venue.orders().len(), 1);
}

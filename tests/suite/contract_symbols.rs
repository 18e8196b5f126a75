//! Symbols are matched in any case, and a path's escapes are decoded once.

use crate::support::events::EventStream;
use crate::support::market::Market;
use crate::support::{Server, api};
use serde_json::{Value, json};
use ureq::http::{Method, Request};

#[test]
fn every_case_is_the_same_symbol_wherever_it_stands() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50"]);
    let alice = server.user(data.path(), "alice");
    for path in ["/symbol/spy", "/symbol/Spy", "/symbol/%53PY", "/symbol/%73%70%79"] {
        assert_eq!(alice.get(path).body["symbol"], "SPY", "{path}");
    }
    let listed = |query: &str| alice.get(&format!("/symbols?{query}")).body["symbols"].clone();
    assert_eq!(listed("query=sp"), listed("query=SP"));
    assert_eq!(listed("cursor=bac"), listed("cursor=BAC"));

    let order = json!({"position": "buy", "symbol": "ibm", "numShares": 1, "priceInCents": 1,
                       "clientOrderId": "one"});
    let placed = alice.post("/order", &order);
    assert_eq!((placed.status, &placed.body["symbol"]), (201, &json!("IBM")), "{}", placed.text);
    let mut again = order.clone();
    again["symbol"] = json!("IBM");
    assert_eq!(alice.post("/order", &again).status, 200, "the same order");
    for symbol in ["ibm", "Ibm", "IBM"] {
        let page = alice.get(&format!("/orders?symbol={symbol}"));
        assert_eq!(page.body["orders"][0]["symbol"], "IBM", "{symbol}: {}", page.text);
    }

    let mut stream = EventStream::subscribe(&server.address, &alice.token, &["spy", "SPY", "bac"]);
    let open = stream.await_event("open", |event| event.name == "open");
    assert_eq!(open.data["symbols"], json!(["SPY", "BAC"]), "each once, as the exchange writes it");
    stream.await_price("SPY");
    let id = open.data["streamId"].as_str().unwrap();
    let change = |body: Value| {
        alice.send(Method::PATCH, &format!("/subscribe/{id}"), body.to_string().as_bytes()).status
    };
    assert_eq!(change(json!({"add": ["ibm"], "remove": ["spy"]})), 204);
    assert_eq!(change(json!({"add": ["Aig"], "remove": ["AIG"]})), 400, "one and the same");
    stream.await_price("IBM");
    let query = "symbols=spy,Spy";
    let mut by_query = EventStream::get(&server.address, &alice.token, query, "");
    let open = by_query.await_event("open", |event| event.name == "open");
    assert_eq!(open.data["symbols"], json!(["SPY"]));

    let operate = |method: &str, path: &str, body: Value| {
        let request = Request::builder().method(method).uri(format!("{}{path}", server.admin));
        api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap()
    };
    let halted = operate("PUT", "/kill-switch", json!({"symbols": ["spy", "SPY"]}));
    assert_eq!(halted.body["symbols"], json!(["SPY"]), "{}", halted.text);
    let refused =
        alice.post("/order", &json!({"position": "buy", "symbol": "Spy", "numShares": 1}));
    assert_eq!((refused.status, &refused.body["scope"]), (403, &json!("symbol")));
    let cancelled = operate("POST", "/mass-cancel", json!({"symbol": "ibm"}));
    assert_eq!(cancelled.body, json!({"asked": 1}), "{}", cancelled.text);
}

#[test]
fn escapes_are_undone_once_and_broken_ones_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let placed = alice.place_resting("SPY");
    let id = placed["orderId"].as_str().unwrap();
    let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (path, status) in [
        ("/%73ymbol/SPY".to_owned(), 200),
        ("/orders%3Flimit=1".to_owned(), 404),
        ("/%6Frders?%6Cimit=1".to_owned(), 200),
        (format!("/order/{escaped}"), 200),
        (format!("/order/{id}%20"), 404),
        ("/%61pp.js".to_owned(), 200),
        ("/symbol/%2553PY".to_owned(), 404),
        ("/symbol%2FSPY".to_owned(), 404),
        ("/symbol/SPY%00".to_owned(), 404),
        ("/symbol/%".to_owned(), 400),
        ("/symbol/SP%5".to_owned(), 400),
        ("/symbol/%GG".to_owned(), 400),
        ("/symbol/%ff".to_owned(), 400),
        ("/order/%zz".to_owned(), 400),
        ("/orders?symbol=%5".to_owned(), 400),
        ("/orders?symbol=%ff".to_owned(), 400),
    ] {
        let answer = alice.get(&path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        if status >= 400 {
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        }
    }
    let market = Market::start(&["BF/B", "BRK.A"]);
    let other_data = tempfile::tempdir().unwrap();
    let other = Server::start(other_data.path(), &["--exchange", &market.address]);
    let bob = other.user(other_data.path(), "bob");
    for (path, symbol) in
        [("BF%2FB", "BF/B"), ("bf%2fb", "BF/B"), ("BRK%2EA", "BRK.A"), ("brk.a", "BRK.A")]
    {
        let answer = bob.get(&format!("/symbol/{path}"));
        assert_eq!((answer.status, &answer.body["symbol"]), (200, &json!(symbol)), "{path}");
    }
    assert_eq!(bob.get("/symbol/BF/B").status, 404, "a slash separates");

    let operators = api::get_anonymously(&format!("{}/%68ealthz", server.admin)).unwrap();
    assert_eq!(operators.status, 200);
    let broken = api::get_anonymously(&format!("{}/%6", server.admin)).unwrap();
    assert_eq!((broken.status, &broken.body["code"]), (400, &json!("invalid_path")));
}

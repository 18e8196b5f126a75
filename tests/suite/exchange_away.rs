//! The exchange goes down and comes back: clients are told, orders are reconciled, nothing is lost.

use crate::support::events::EventStream;
use crate::support::{self, Exchange, Server, api};
use serde_json::json;

#[test]
fn an_exchange_that_comes_back_reconciles_what_was_open() {
    let (data, exchange_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let exchange = Exchange::start(exchange_data.path(), &["--speed", "20"]);
    let address = exchange.address.clone();
    let settings = ["--exchange", &address, "--order-reply-timeout-ms", "150"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let mut stream = EventStream::subscribe(&server.address, &alice.token, &["SPY"]);
    stream.await_price("SPY");
    let resting = alice.place_resting("IBM");

    exchange.program.kill();
    let down = stream.await_event("the feed to be down", |event| event.name == "feed");
    assert_eq!(down.data, json!({"up": false}));
    let not_ready = api::get_anonymously(&format!("{}/readyz", server.admin)).unwrap();
    assert_eq!((not_ready.status, &not_ready.body["checks"]["feed"]), (503, &json!(false)));
    assert_eq!(alice.get("/symbol/SPY").body["stale"], json!(true));

    // Recorded, with an unknown outcome.
    let limit = json!({"position": "buy", "symbol": "SPY", "numShares": 7, "priceInCents": 1});
    let unsure = alice.post("/order", &limit);
    assert_eq!(
        (unsure.status, &unsure.body["status"]),
        (202, &json!("pending")),
        "{}",
        unsure.text
    );

    let listen = address.strip_prefix("http://").unwrap();
    let _exchange = Exchange::start_at(listen, exchange_data.path(), &["--speed", "20"]);
    let up = stream.await_event("the feed to be up", |event| event.name == "feed");
    assert_eq!(up.data, json!({"up": true}));
    stream.await_price("SPY");

    // It did not reach the exchange in time, so it fails and is never placed twice.
    let unsure_id = unsure.body["orderId"].as_str().unwrap();
    let reconciled = api::until("the order to be reconciled", || {
        Some(alice.order(unsure_id)).filter(|order| order["status"] != "pending")
    });
    assert!(
        ["failed", "submitted"].contains(&reconciled["status"].as_str().unwrap()),
        "{reconciled}"
    );

    // The exchange kept the resting order over its own restart.
    let resting_id = resting["orderId"].as_str().unwrap();
    let cancelled = alice.delete(&format!("/order/{resting_id}"));
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
}

#[test]
fn a_killed_server_reconciles_what_was_in_flight() {
    let (data, exchange_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let exchange = Exchange::start(exchange_data.path(), &["--speed", "20"]);
    let server = Server::start(data.path(), &["--exchange", &exchange.address]);
    let token = support::token(data.path(), "alice");

    // Clients place orders as fast as they can until the server dies under them.
    let acknowledged: Vec<(String, u16)> = std::thread::scope(|scope| {
        let placing: Vec<_> = (0..4)
            .map(|number| {
                let client = api::Client::new(&server.address, &token);
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for count in 0.. {
                        let order = json!({
                            "position": "buy", "symbol": "SPY", "numShares": 1,
                            "priceInCents": 1, "clientOrderId": format!("{number}-{count}"),
                        });
                        let body = order.to_string();
                        let method = ureq::http::Method::POST;
                        let Some(answer) = client.try_send(method, "/order", body.as_bytes())
                        else {
                            break;
                        };
                        assert!(matches!(answer.status, 201 | 202 | 503), "{}", answer.text);
                        if answer.status != 503 {
                            let id = answer.body["orderId"].as_str().unwrap().to_owned();
                            acknowledged.push((id, answer.status));
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        let watcher = api::Client::new(&server.address, &token);
        api::until("some orders", || (watcher.all_orders().len() > 200).then_some(()));
        server.program.kill();
        placing.into_iter().flat_map(|placing| placing.join().unwrap()).collect()
    });
    assert!(acknowledged.len() > 100);

    let server = Server::start(data.path(), &["--exchange", &exchange.address]);
    let alice = server.user(data.path(), "alice");
    let orders = api::until("every order to be reconciled", || {
        let orders = alice.all_orders();
        orders.iter().all(|order| order["status"] != "pending").then_some(orders)
    });
    for (id, status) in &acknowledged {
        let order = orders.iter().find(|order| order["orderId"] == id.as_str());
        let order = order.unwrap_or_else(|| panic!("order {id} was acknowledged and is lost"));
        if *status == 201 {
            assert_eq!(order["status"], "submitted", "{order}");
        }
    }
    // The exchange has exactly the orders that we report as accepted.
    let ids: Vec<&str> = orders.iter().map(|order| order["orderId"].as_str().unwrap()).collect();
    let exchange_client = api::Client::new(&exchange.address, "");
    for (ids, orders) in ids.chunks(256).zip(orders.chunks(256)) {
        let answer = exchange_client.post("/v1/orders/query", &json!({ "clientOrderIds": ids }));
        assert_eq!(answer.status, 200, "{}", answer.text);
        for (theirs, ours) in answer.body["results"].as_array().unwrap().iter().zip(orders) {
            let expected = if ours["status"] == "submitted" { "open" } else { "unknown" };
            assert_eq!(theirs["status"], expected, "ours: {ours}, theirs: {theirs}");
        }
    }
}

//! An idempotency key names one order, however often and from wherever it is sent.

use crate::support::{self, Server};
use serde_json::{Value, json};

fn order(key: &str, shares: u64) -> Value {
    json!({
        "position": "buy", "symbol": "IBM", "numShares": shares, "priceInCents": 1,
        "clientOrderId": key, "timeInForce": "gtc",
    })
}

#[test]
fn one_key_is_one_order_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let token = support::token(data.path(), "alice");

    // Fifty at once, each on its own connection.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..50)
            .map(|_| {
                let client = support::api::Client::new(&server.address, &token);
                scope.spawn(move || client.post("/order", &order("key-1", 5)))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let id = answers[0].body["orderId"].as_str().unwrap().to_owned();
    for answer in &answers {
        assert!(matches!(answer.status, 200..=202), "{}", answer.text);
        assert_eq!(answer.body["orderId"], id.as_str());
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "one is the first");

    let alice = server.user(data.path(), "alice");
    let conflict = alice.post("/order", &order("key-1", 6));
    assert_eq!(
        (conflict.status, &conflict.body["code"]),
        (409, &json!("client_order_id_conflict"))
    );
    assert_eq!(conflict.body["order"]["orderId"], id.as_str());

    // The same key of another user is another order.
    let bob = server.user(data.path(), "bob");
    let theirs = bob.post("/order", &order("key-1", 5));
    assert_eq!(theirs.status, 201, "{}", theirs.text);
    assert_ne!(theirs.body["orderId"], id.as_str());

    server.program.kill();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let again = alice.post("/order", &order("key-1", 5));
    assert_eq!((again.status, &again.body["orderId"]), (200, &json!(id)), "{}", again.text);
    assert_eq!(alice.post("/order", &order("key-1", 6)).status, 409);
    assert_eq!(alice.all_orders().len(), 1);
}

//! `--commit postgres`: Postgres has an order before the client gets the answer. While Postgres is
//! down, no client is told of an order, but the exchange still gets recorded ones.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::Server;
use crate::support::api::{Answer, Client, until};
use crate::support::postgres::{Database, Postgres, assert_records_agree};
use serde_json::{Value, json};

const CUTS: usize = 5;

/// Short waits for the exchange, and so for Postgres.
fn settings(database: &Database) -> [&str; 7] {
    settings_with(database, "150")
}

fn settings_with<'a>(database: &'a Database, reply_timeout: &'a str) -> [&'a str; 7] {
    let (url, timeout) = (&database.url, "--order-reply-timeout-ms");
    ["--postgres", url, "--migrate", "--commit", "postgres", timeout, reply_timeout]
}

/// An order that rests at the exchange, with a `clientOrderId`.
fn resting(key: &str) -> Value {
    json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1,
        "clientOrderId": key})
}

/// Asserts that Postgres has an answered order in its version.
fn assert_there(database: &Database, order: &Value) {
    let (id, version) = (order["orderId"].as_str().unwrap(), &order["version"]);
    let found = format!(
        "SELECT count(*) FROM order_events WHERE order_id = '{id}' AND version = {version}"
    );
    assert_eq!(database.number(&found), 1, "{order}");
}

/// Places an order, repeating the request while Postgres is too slow.
fn placed(client: &Client, key: &str) -> Value {
    until("the order to be in Postgres", || {
        let answer = client.post("/order", &resting(key));
        if answer.status == 500 {
            assert_unknown(&answer);
            return None;
        }
        assert!(matches!(answer.status, 200..=202), "{}", answer.text);
        Some(answer.body)
    })
}

fn assert_unknown(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["code"]), (500, &json!("outcome_unknown")));
    let (advice, is_cancel) = (answer.text.as_str(), answer.text.contains("the cancel may be"));
    assert!(advice.contains("epeat the request"), "{advice}");
    assert_ne!(advice.contains("clientOrderId"), is_cancel, "{advice}");
}

#[test]
fn what_is_answered_is_in_postgres() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &settings(&database));
    let alice = server.user(data.path(), "alice");
    for number in 0..20 {
        let order = placed(&alice, &number.to_string());
        assert_there(&database, &order);
        let id = order["orderId"].as_str().unwrap();
        assert_there(&database, &alice.order(id));
        if number % 2 == 0 {
            let answer = alice.delete(&format!("/order/{id}"));
            assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
            assert_there(&database, &alice.order(id));
        }
    }
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn without_postgres_nobody_is_told_of_an_order_and_cancels_reach_the_exchange() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &settings(&database));
    let alice = server.user(data.path(), "alice");
    let old = placed(&alice, "old");
    let old = alice.await_status(old["orderId"].as_str().unwrap(), "submitted");
    let old = format!("/order/{}", old["orderId"].as_str().unwrap());

    postgres.kill();
    assert_unknown(&alice.post("/order", &resting("new")));
    // A repetition: the order is recorded, so the answer must not deny that.
    assert_unknown(&alice.post("/order", &resting("new")));
    let refused = alice.post("/order", &resting("newer"));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    let seen = alice.all_orders();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let cancels = server.metric("orders_cancel_requests_total");
    let cancel = alice.delete(&old);
    assert_unknown(&cancel);
    assert!(cancel.text.contains("the cancel may be recorded"), "{}", cancel.text);
    assert_eq!(server.metric("orders_cancel_requests_total"), cancels + 1);
    assert_eq!(alice.get(&old).body["status"], "submitted");
    assert!(server.metric("orders_postgres_unknown_total") >= 3);
    assert!(server.metric("orders_postgres_refused_total") >= 1);

    postgres.start_again();
    let again = until("the order to be told of", || {
        let answer = alice.post("/order", &resting("new"));
        (answer.status == 200).then_some(answer.body)
    });
    assert_there(&database, &again);
    alice.await_status(old.trim_start_matches("/order/"), "cancelled");
    until("new orders to be taken", || {
        (alice.post("/order", &resting("newer")).status < 300).then_some(())
    });
    assert_eq!(alice.all_orders().len(), 3);
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn a_stop_does_not_wait_for_postgres_and_a_start_is_ready_when_it_has_everything() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &settings(&database));
    let alice = server.user(data.path(), "alice");
    placed(&alice, "first");
    postgres.kill();
    assert_unknown(&alice.post("/order", &resting("second")));
    assert!(server.program.stop().success(), "nobody waits for it at the stop");

    let server = std::thread::scope(|scope| {
        let starting = scope.spawn(|| Server::start(data.path(), &settings(&database)));
        postgres.start_again();
        starting.join().unwrap()
    });
    let alice = server.user(data.path(), "alice");
    for order in alice.all_orders() {
        assert_there(&database, &order);
    }
    assert_eq!(alice.post("/order", &resting("second")).status, 200);
    assert_eq!(alice.all_orders().len(), 2);
    assert_records_agree(server, data.path(), &database.url);
}

/// Right after a lost connection the projection asks the index for the owner of a changed order, while
/// the index waits for Postgres.
#[test]
fn a_connection_that_is_cut_between_two_changes_holds_up_nobody() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    // Longer than a reconnect on a busy machine, shorter than the wait for the index.
    let server = Server::start(data.path(), &settings_with(&database, "5000"));
    let alice = server.user(data.path(), "alice");
    for number in 0..CUTS {
        let order = placed(&alice, &number.to_string());
        database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'longbow'",
        );
        let id = order["orderId"].as_str().unwrap();
        let answer = alice.delete(&format!("/order/{id}"));
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
        assert_there(&database, &alice.await_status(id, "cancelled"));
    }
    assert!(server.metric("projection_connects_total") > CUTS as u64);
    assert_records_agree(server, data.path(), &database.url);
}

//! Cancels and queries have separate connections: slow answers to one kind do not delay the other.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Mutex, mpsc};

use crate::support::venue::{CANCEL, QUERY, Reply, Request, Venue};
use crate::support::{self, Server};
use serde_json::json;

const PATIENT: [&str; 4] = ["--exchange-timeout-ms", "60000", "--order-reply-timeout-ms", "300"];

/// A hook that holds up every request until the sender is gone.
fn held() -> (mpsc::Sender<()>, impl Fn(&Request) -> Reply + Send + Sync + 'static) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let hook = move |_: &Request| {
        let _gone = released.lock().unwrap().recv();
        Reply::Default
    };
    (release, hook)
}

#[test]
fn a_cancel_does_not_wait_for_questions_and_a_question_not_for_cancels() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let address = venue.address();
    let mut settings = vec!["--exchange", &address];
    settings.extend(PATIENT);
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let order = alice.place_resting("IBM");
    let id = order["orderId"].as_str().unwrap();

    // A query waits at the exchange.
    let (release, hook) = held();
    venue.on_query(hook);
    venue.on_submit(|request: &Request| Reply::lost(request));
    let limit = json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1});
    assert_eq!(alice.post("/order", &limit).status, 202);
    venue.await_requests(QUERY, 1);
    let cancelled = alice.delete(&format!("/order/{id}"));
    assert_eq!(cancelled.status, 200, "it is confirmed: {}", cancelled.text);
    assert_eq!(venue.order(id).status, "cancelled");
    drop(release);
    venue.off(QUERY);
    venue.off(support::venue::SUBMIT);
    alice.await_status(id, "cancelled");

    // The reverse.
    let order = alice.place_resting("IBM");
    let (release, hook) = held();
    venue.on_cancel(hook);
    assert_eq!(alice.delete(&format!("/order/{}", order["orderId"].as_str().unwrap())).status, 202);
    venue.await_requests(CANCEL, 2);
    venue.on_submit(|request: &Request| Reply::lost(request));
    let placed = alice.post("/order", &limit);
    let id = placed.order()["orderId"].as_str().unwrap();
    alice.await_status(id, "submitted");
    drop(release);
}

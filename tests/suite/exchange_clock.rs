//! The exchange's clock differs from ours: deadlines are sent in its time, operators see the offset,
//! and orders are still accepted.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::sync::{Mutex, mpsc};

use crate::support::venue::{Options, Reply, Venue};
use crate::support::wall_clock::WallClock;
use crate::support::{Server, api, longbow};
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000;

fn readiness(server: &Server) -> (u16, Value) {
    let answer = api::get_anonymously(&format!("{}/readyz", server.admin)).unwrap();
    (answer.status, answer.body)
}

/// Waits until the server knows the offset of the exchange's clock; returns its readiness.
fn await_offset(server: &Server, micros: i64) -> (u16, Value) {
    api::until("the exchange's clock to be known", || {
        let (status, body) = readiness(server);
        let offset = body["exchangeClockOffsetMicros"].as_i64()?;
        ((offset - micros).abs() < SECOND).then_some((status, body))
    })
}

fn set(venue: &Venue, seconds: i64) {
    venue.set(|options: &mut Options| options.clock_offset_micros = seconds * SECOND);
}

#[test]
fn an_exchange_whose_clock_is_ahead_takes_orders() {
    let data = tempfile::tempdir().unwrap();
    let venue = Venue::start();
    set(&venue, 6);
    let server = Server::start(data.path(), &["--exchange", &venue.address()]);
    let (status, _) = await_offset(&server, 6 * SECOND);
    assert_eq!(status, 200, "it harms no order");
    server.program.await_error("the exchange's clock differs a lot from ours");
    let alice = server.user(data.path(), "alice");
    let body = json!({"position": "buy", "symbol": "IBM", "numShares": 5, "priceInCents": 1});
    let answer = alice.post("/order", &body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    let page = api::get_anonymously(&format!("{}/metrics", server.admin)).unwrap().text;
    let name = "longbow_exchange_clock_offset_micros ";
    let offset = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert!((5 * SECOND..7 * SECOND).contains(&offset.parse().unwrap()), "{offset}");
}

#[test]
fn beyond_the_limit_it_is_a_reason_not_to_be_ready_and_none_to_refuse_orders() {
    let data = tempfile::tempdir().unwrap();
    let venue = Venue::start();
    let settings = ["--exchange", &venue.address(), "--exchange-clock-limit-ms", "3000"];
    let server = Server::start(data.path(), &settings);
    await_offset(&server, 0);
    set(&venue, -10);
    let (status, body) = await_offset(&server, -10 * SECOND);
    assert_eq!((status, &body["checks"]["exchangeClock"]), (503, &json!(false)));
    let reason = body["reasons"]["exchangeClock"].as_str().unwrap();
    assert!(
        reason.contains("behind ours") && reason.contains("--exchange-clock-limit-ms"),
        "{reason}"
    );
    server.user(data.path(), "alice").place_resting("IBM");
    set(&venue, 0);
    let (status, body) = await_offset(&server, 0);
    assert_eq!(status, 200, "{body}");
}

#[test]
fn it_is_compared_with_the_machines_clock_even_while_order_times_are_ahead_of_that() {
    let data = tempfile::tempdir().unwrap();
    let machine = WallClock::new(data.path());
    let venue = Venue::start();
    let settings = ["--exchange", &venue.address()];
    let start = || Server::start_by(machine.show(longbow()), data.path(), &settings);
    machine.set(90);
    let server = start();
    await_offset(&server, -90 * SECOND);
    server.user(data.path(), "alice").place_resting("IBM");
    assert!(server.program.stop().success());
    machine.set(0);
    let server = start();
    let (status, body) = await_offset(&server, 0);
    assert_eq!(status, 200, "{body}");
    // Order times are still ahead, and deadlines are told in the exchange's time.
    let order = server.user(data.path(), "alice").place_resting("IBM");
    let told = venue.await_order(order["orderId"].as_str().unwrap()).terms["submitBefore"].as_i64();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ahead = told.unwrap() - i64::try_from(now.as_micros()).unwrap();
    assert!((-60 * SECOND..60 * SECOND).contains(&ahead), "{ahead}");
}

#[test]
fn what_an_exchange_behind_us_takes_late_is_not_called_failed() {
    let data = tempfile::tempdir().unwrap();
    let venue = Venue::start();
    set(&venue, -10);
    let settings = ["--exchange", &venue.address(), "--order-reply-timeout-ms", "150"];
    let server = Server::start(data.path(), &settings);
    await_offset(&server, -10 * SECOND);
    // Held up past the order's deadline.
    let (arrives, is_on_its_way) = mpsc::channel::<()>();
    let is_on_its_way = Mutex::new(is_on_its_way);
    venue.on_submit(move |request| {
        let _arrived = is_on_its_way.lock().unwrap().recv();
        Reply::lost(request)
    });
    let alice = server.user(data.path(), "alice");
    let body = json!({"position": "buy", "symbol": "IBM", "numShares": 5, "priceInCents": 1});
    let pending = alice.post("/order", &body);
    assert_eq!(pending.status, 202, "{}", pending.text);
    let id = pending.body["orderId"].as_str().unwrap();
    // Only after its deadline has passed there.
    alice.await_status(id, "failed");
    drop(arrives);
    let there = venue.await_order(id);
    assert_eq!(there.status, "rejected", "its deadline was told in its time");
    assert_eq!(alice.order(id)["status"], "failed");
}

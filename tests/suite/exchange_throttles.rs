//! An exchange that answers `429`: it did nothing, so the order is sent again after the pause, within
//! its deadline; otherwise the order is refused.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::api::Client;
use crate::support::venue::{CANCEL, QUERY, Reply, Request, SUBMIT, Venue};
use crate::support::{self, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    venue: Venue,
    server: Server,
    alice: Client,
    _data: TempDir,
}

impl World {
    fn start(more: &[&str]) -> Self {
        let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
        let address = venue.address();
        let mut settings = vec!["--exchange", &address];
        settings.extend(more);
        let server = Server::start(data.path(), &settings);
        let alice = server.user(data.path(), "alice");
        Self { venue, server, alice, _data: data }
    }

    fn is_there_and_ready(&self) {
        let ready = support::api::get_anonymously(&format!("{}/readyz", self.server.admin));
        assert_eq!(ready.unwrap().status, 200);
        assert_eq!(self.server.metric("orders_exchange_away"), 0, "it answers");
    }
}

fn too_many(retry_after: Option<&str>) -> Reply {
    let headers = retry_after.map(|value| ("Retry-After", value.to_owned()));
    Reply::Status(429, headers.into_iter().collect(), r#"{"code":"too_many"}"#.to_owned())
}

fn limit() -> Value {
    json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1})
}

#[test]
fn an_order_is_sent_again_after_the_pause_that_the_exchange_names() {
    let world = World::start(&[]);
    let in_two_seconds =
        httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(2));
    for retry_after in [Some("1"), None, Some("0"), Some("soon"), Some(&*in_two_seconds)] {
        let before = world.venue.requests(SUBMIT).len();
        let named = retry_after.map(str::to_owned);
        world.venue.on_submit(move |request: &Request| match request.number - before {
            1 => too_many(named.as_deref()),
            _ => Reply::Default,
        });
        let placed = world.alice.post("/order", &limit());
        assert_eq!(placed.status, 201, "{retry_after:?}: {}", placed.text);
        let [.., first, second] = &world.venue.requests(SUBMIT)[..] else { panic!("two requests") };
        assert_eq!(first.client_ids(), second.client_ids(), "the same order");
        let pause = second.came - first.came;
        let least = if retry_after == Some("1") { 1_000 } else { 25 };
        assert!(pause >= Duration::from_millis(least), "{retry_after:?}: {pause:?}");
    }
    assert_eq!(world.venue.orders().len(), 5, "each is placed once");
    world.is_there_and_ready();
}

#[test]
fn an_order_that_cannot_wait_so_long_is_refused_plainly_and_more_are_not_taken() {
    let world = World::start(&[]);
    world.venue.on_submit(|_: &Request| too_many(Some("3600")));
    let refused = world.alice.post("/order", &limit());
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("order_rejected")));
    let order = refused.order();
    assert_eq!(order["status"], "failed");
    assert!(order["reason"].as_str().unwrap().contains("429"), "{order}");
    assert_eq!(world.venue.requests(SUBMIT).len(), 1, "it is left alone");
    let turned_away = world.alice.post("/order", &limit());
    assert_eq!((turned_away.status, &turned_away.body["code"]), (503, &json!("exchange_busy")));
    assert!(turned_away.headers.contains_key("retry-after"));
    assert_eq!(world.alice.all_orders().len(), 1, "nothing was recorded");
    world.is_there_and_ready();
    assert_eq!(world.venue.requests(SUBMIT).len(), 1);
}

#[test]
fn an_order_that_meets_a_burst_of_refusals_is_taken_after_it() {
    let world = World::start(&["--order-reply-timeout-ms", "150"]);
    world.venue.on_submit(|request: &Request| match request.number {
        1..=6 => too_many(None),
        _ => Reply::Default,
    });
    // 25, 50, 100, 200, 400 and 800 ms: the client waits for longer than it would otherwise.
    let placed = world.alice.post("/order", &limit());
    assert_eq!(placed.status, 201, "{}", placed.text);
    assert_eq!(world.venue.requests(SUBMIT).len(), 7);
    assert_eq!(world.venue.orders().len(), 1);
    world.is_there_and_ready();
}

#[test]
fn an_exchange_that_goes_on_refusing_is_asked_less_and_less_until_the_deadline() {
    let world = World::start(&["--order-reply-timeout-ms", "150"]);
    world.venue.on_submit(|_: &Request| too_many(None));
    let began = Instant::now();
    let refused = world.alice.post("/order", &limit());
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(refused.order()["reason"].as_str().unwrap().contains("429"), "{}", refused.text);
    let requests = world.venue.requests(SUBMIT).len();
    assert!((5..=12).contains(&requests), "{requests}");
    world.venue.off(SUBMIT);
    // The exchange accepts orders again; one of the next orders finds out.
    support::api::until("an order that is taken", || {
        let answer = world.alice.post("/order", &limit());
        (answer.status == 201).then_some(())
    });
    world.is_there_and_ready();
}

#[test]
fn cancels_and_questions_are_sent_again() {
    let world = World::start(&[]);
    let order = world.alice.place_resting("IBM");
    world.venue.on_cancel(|request: &Request| match request.number {
        1 => too_many(Some("1")),
        2 => too_many(None),
        _ => Reply::Default,
    });
    let cancelled = world.alice.delete(&format!("/order/{}", order["orderId"].as_str().unwrap()));
    assert_eq!((cancelled.status, &cancelled.body["ok"]), (200, &json!(true)));
    assert_eq!(world.venue.requests(CANCEL).len(), 3);

    // Queries about the first order may still come; they do not count.
    let first = order["orderId"].as_str().unwrap().to_owned();
    let is_about_other =
        move |request: &Request| request.client_ids().iter().any(|id| *id != first);
    let (refused, is_about_new) = (AtomicUsize::new(0), is_about_other.clone());
    world.venue.on_query(move |request: &Request| {
        let number =
            if is_about_new(request) { refused.fetch_add(1, Ordering::Relaxed) } else { 2 };
        match number {
            0 => too_many(None),
            1 => too_many(Some("1")),
            _ => Reply::Default,
        }
    });
    let before = world.venue.requests(QUERY).len();
    world.venue.on_submit(|request: &Request| Reply::lost(request));
    let placed = world.alice.post("/order", &limit());
    assert_eq!(placed.status, 201, "{}", placed.text);
    let queries = world.venue.requests(QUERY);
    let about_new = queries.iter().skip(before).filter(|request| is_about_other(request));
    assert_eq!(about_new.count(), 3);
}

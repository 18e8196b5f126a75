//! Answers to a cancel that are lost, contradictory or false: both sides agree in the end, and no fill
//! is lost.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support;
use crate::support::venue::{CANCEL, Reply, Request};
use crate::support::world::World;
use serde_json::{Value, json};

/// Open orders are reconciled each second.
const EAGER: [&str; 4] = ["--cleanup-interval-seconds", "1", "--order-reply-timeout-ms", "500"];

fn refusal(request: &Request, code: &str) -> Value {
    json!({"externalOrderId": request.body["externalOrderIds"][0],
        "error": {"code": code, "message": "it is said"}})
}

fn both(request: &Request, code: &str, is_refusal_first: bool) -> Reply {
    Reply::edited(request, |answer| {
        let (cancelled, refusal) = (answer["results"][0].clone(), refusal(request, code));
        answer["results"] = if is_refusal_first {
            json!([refusal, cancelled])
        } else {
            json!([cancelled, refusal])
        };
    })
}

/// Refuses every cancel.
fn refuse(request: &Request, code: &str) -> Reply {
    Reply::Json(json!({"results": [refusal(request, code)]}))
}

type Answer = fn(&Request) -> Reply;

const ANSWERS: [(&str, Answer); 16] = [
    ("lost", Reply::lost),
    ("nothing done, nothing said", |_| Reply::Cut),
    ("silence", |_| Reply::Silence),
    ("done, and unknown", |request| both(request, "unknown", false)),
    ("unknown, and done", |request| both(request, "unknown", true)),
    ("done, and filled", |request| both(request, "filled", false)),
    ("filled, and done", |request| both(request, "filled", true)),
    ("unknown, and it is not", |request| refuse(request, "unknown")),
    ("filled, and it is not", |request| refuse(request, "filled")),
    ("already cancelled, and it is not", |request| refuse(request, "already_cancelled")),
    ("a code that nobody knows", |request| refuse(request, "maybe_later")),
    ("no results", |request| Reply::edited(request, |answer| answer["results"] = json!([]))),
    ("no result that can be read", |request| {
        Reply::edited(request, |answer| answer["results"] = json!([null, 7]))
    }),
    ("of another order", |request| {
        Reply::edited(request, |answer| answer["results"][0]["externalOrderId"] = "Y1".into())
    }),
    ("an error of the server, and done", |request| {
        request.answer();
        Reply::Status(500, vec![], "sorry".into())
    }),
    ("a server that is not there", |_| Reply::Status(503, vec![], "sorry".into())),
];

#[test]
fn both_sides_agree_about_a_cancel_whatever_its_answer_was() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    let mut orders = Vec::new();
    for (what, answer) in ANSWERS {
        let order = world.buy(10);
        venue.on_cancel(answer);
        let asked = world.alice.delete(&format!("/order/{order}"));
        assert!(matches!(asked.status, 200 | 202 | 409), "{what}: {} {}", asked.status, asked.text);
        if what.ends_with("it is not") {
            venue.await_more_requests(support::venue::QUERY, 2);
        }
        venue.off(CANCEL);
        orders.push((what, order));
        // Too many in a row would open the circuit breaker.
        world.buy(1);
    }
    for (what, order) in &orders {
        eprintln!("{what}");
        world.await_agreement(order);
    }
    // Later fills count, whatever the answers said.
    for (what, order) in orders.iter().filter(|(_, order)| venue.order(order).status == "open") {
        eprintln!("{what}");
        venue.fill(order, 100, 10);
        world.await_filled(order, 10);
    }
}

#[test]
fn a_fill_after_a_cancel_that_was_no_cancel_is_recorded() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    let order = world.buy(10);
    venue.on_cancel(|request| {
        let id = &request.body["externalOrderIds"][0];
        Reply::Json(json!({"results": [{"externalOrderId": id, "status": "cancelled"}]}))
    });
    assert_eq!(world.alice.delete(&format!("/order/{order}")).status, 200);
    venue.fill(&order, 100, 4);
    world.await_filled(&order, 4);
    venue.fill(&order, 100, 6);
    assert_eq!(world.await_filled(&order, 10)["status"], "filled");
}

#[test]
fn a_fill_of_all_that_is_left_overtakes_the_cancel() {
    let world = World::start(&[]);
    let venue = world.venue.clone();
    let order = world.buy(10);
    world.venue.fill(&order, 100, 3);
    let filled = order.clone();
    world.venue.on_cancel(move |_| {
        venue.fill(&filled, 100, 7);
        Reply::Default
    });
    let asked = world.alice.delete(&format!("/order/{order}"));
    assert_eq!(asked.status, 409, "{}", asked.text);
    let now = world.await_filled(&order, 10);
    assert_eq!(now["status"], "filled", "{now}");
}

//! The quarantine: an operator books or discards a case, or closes the order by hand. Each decision is
//! durable, is part of the order's history, and has its own command.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support;
use crate::support::api::{self, until};
use crate::support::world::World;
use serde_json::{Value, json};
use ureq::http::Request;

/// Lists the open cases.
fn cases(world: &World) -> Vec<Value> {
    let url = format!("{}/quarantine", world.server.admin);
    let answer = api::get_anonymously(&url).expect("operators are answered");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["cases"].as_array().expect("a list").clone()
}

fn post(world: &World, path: &str, body: &Value) -> api::Answer {
    let request = Request::post(format!("{}{path}", world.server.admin));
    api::send(request.body(body.to_string().into_bytes()).expect("a request")).expect("an answer")
}

/// A fill that the order's record lacks, a cent worse than the order's limit.
fn odd_fill(world: &World, order: &str, execution: &str) {
    let venue_order = world.venue.order(order);
    world.venue.feed_line(json!({"type": "trade", "executionId": execution,
        "symbol": venue_order.symbol(), "priceInCents": 101, "numShares": 5,
        "orderId": venue_order.external_id, "timestamp": 1}));
}

fn await_case(world: &World, execution: &str) -> Value {
    until("the case to be listed", || {
        cases(world).into_iter().find(|case| case["execution"]["executionId"] == execution)
    })
}

#[test]
fn an_operator_books_or_discards_what_does_not_fit_and_it_stays_so() {
    let mut world = World::start(&[]);
    let order = world.buy(10);
    odd_fill(&world, &order, "one");
    let case = await_case(&world, "one");
    assert_eq!((&case["orderId"], &case["cause"]), (&json!(order), &json!("beyond_limit")));
    assert_eq!((&case["counts"], &case["user"]), (&json!(false), &json!("alice")));
    world.restart(|_| ());
    let case = await_case(&world, "one");
    let path = |act: &str, case: &Value| format!("/quarantine/{order}/{}/{act}", case["case"]);

    let unsaid = post(&world, &path("book", &case), &json!({"by": "bob"}));
    assert_eq!((unsaid.status, &unsaid.body["field"]), (400, &json!("reason")), "{}", unsaid.text);
    let act = json!({"by": "bob", "reason": "confirmed by phone"});
    let booked = post(&world, &path("book", &case), &act);
    assert_eq!((booked.status, &booked.body["filledShares"]), (200, &json!(5)), "{}", booked.text);
    assert_eq!(world.alice.order(&order)["filledShares"], 5, "readers see it");
    assert_eq!(post(&world, &path("book", &case), &act).status, 404, "once");

    odd_fill(&world, &order, "two");
    let case = await_case(&world, "two");
    assert_eq!(post(&world, &path("discard", &case), &act).status, 200);
    world.restart(|_| ());
    odd_fill(&world, &order, "two");
    world.await_the_feed();
    assert_eq!(world.alice.order(&order)["filledShares"], 5);
    assert!(cases(&world).is_empty(), "it is decided for good");
}

#[test]
fn an_operator_closes_an_order_and_decides_by_command() {
    let world = World::start(&[]);
    let [first, second] = [world.buy(10), world.buy(10)];
    odd_fill(&world, &first, "odd");
    let case = await_case(&world, "odd")["case"].to_string();
    let run = |arguments: &[&str]| {
        let end = ["--by", "bob", "--reason", "stuck", "--admin-url", &world.server.admin];
        let arguments: Vec<&str> = arguments.iter().copied().chain(end).collect();
        let output = support::run(&arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (is_done, out, error) = run(&["quarantine", "book", &first, &case]);
    assert!(is_done && out.contains("\"filledShares\": 5"), "{out}{error}");
    let (is_done, out, error) = run(&["close-order", &second]);
    assert!(is_done && out.contains("\"cancelled\""), "{out}{error}");
    assert_eq!(world.alice.order(&second)["reason"], "closed by bob: stuck");
    let (is_done, out, error) = run(&["close-order", &second]);
    assert!(!is_done && out.is_empty() && error.contains("cancelled"), "{out}{error}");
    let (is_done, _, error) = run(&["quarantine", "book", &first, &case]);
    assert!(!is_done && error.contains("no open case with this number"), "{error}");
}

#[test]
fn what_an_operator_says_stays_within_its_line() {
    let world = World::start(&[]);
    let order = world.buy(10);
    let forged = "bob\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J";
    let act = json!({"by": forged, "reason": forged});
    assert_eq!(post(&world, &format!("/orders/{order}/close"), &act).status, 200);
    let line = world.server.program.await_error("an operator decides");
    let told = r"bob\n2026-01-01T00:00:00Z ERROR forged\u";
    assert_eq!(line.matches(told).count(), 2, "{line}");
    assert!(line.contains("peer=127.0.0.1:") && line.contains(&format!("close order {order}")));

    let directory = world.data().to_str().expect("a path");
    let arguments = ["wal", "inspect", "--format", "text", "--order", &order, "--data-dir"];
    let output = support::run(&[&arguments[..], &[directory]].concat());
    let lines = String::from_utf8(output.stdout).expect("text");
    assert!(lines.contains(r"bob\n2026") && !lines.contains('\u{1b}'), "{lines}");
}

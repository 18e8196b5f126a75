//! Contradictory or empty answers to a submit: the outcome is unknown, so the exchange is queried. They
//! cause neither a refusal nor a second order.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support;
use crate::support::venue::{CANCEL, Reply, SUBMIT};
use crate::support::world::{World, buy, id};
use serde_json::{Value, json};

type Spoil = fn(&mut Value);

fn refusal(result: &Value) -> Value {
    json!({"clientOrderId": result["clientOrderId"],
        "error": {"code": "halted", "message": "not today"}})
}

const SPOILT: [(&str, Spoil); 12] = [
    ("accepted and refused", |answer| {
        let one = answer["results"][0].clone();
        answer["results"] = json!([one, refusal(&one)]);
    }),
    ("refused and accepted", |answer| {
        let one = answer["results"][0].clone();
        answer["results"] = json!([refusal(&one), one]);
    }),
    ("refused, accepted and refused", |answer| {
        let one = answer["results"][0].clone();
        answer["results"] = json!([refusal(&one), one, refusal(&one)]);
    }),
    ("accepted under two ids", |answer| {
        let mut other = answer["results"][0].clone();
        other["externalOrderId"] = "another".into();
        answer["results"] = json!([other, answer["results"][0]]);
    }),
    ("an error and an id in one result", |answer| {
        answer["results"][0]["error"] = json!({"code": "halted", "message": "not today"});
    }),
    ("neither an error nor an id", |answer| {
        answer["results"][0] = json!({"clientOrderId": answer["results"][0]["clientOrderId"]});
    }),
    ("an empty id", |answer| answer["results"][0]["externalOrderId"] = "".into()),
    ("an id that is a number", |answer| answer["results"][0]["externalOrderId"] = 7.into()),
    ("no results", |answer| answer["results"] = json!([])),
    ("results of somebody else", |answer| {
        answer["results"] = json!([{"clientOrderId": "somebody else's", "externalOrderId": "Y1"}]);
    }),
    ("a refusal that says nothing", |answer| {
        let one = answer["results"][0].clone();
        answer["results"] = json!([one, {"clientOrderId": one["clientOrderId"], "error": null}]);
    }),
    ("no list", |answer| answer["results"] = json!("fine")),
];

#[test]
fn an_answer_that_contradicts_itself_is_asked_about() {
    let world = World::start(&[]);
    let venue = &world.venue;
    for (what, spoil) in SPOILT {
        venue.on_submit(move |request| Reply::edited(request, spoil));
        let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 1});
        let placed = world.alice.post("/order", &order);
        assert!(matches!(placed.status, 201 | 202), "{what}: {} {}", placed.status, placed.text);
        let order = world.alice.await_status(id(&placed.body), "submitted");
        let theirs = venue.order(id(&order));
        assert_eq!(order["externalOrderId"], theirs.external_id.as_str(), "{what}");
        // Too many in a row would open the circuit breaker.
        venue.off(SUBMIT);
        world.buy(1);
    }
    assert_eq!(venue.orders().len(), 2 * SPOILT.len());
    assert!(venue.orders().iter().all(|order| order.status == "open"));
    assert_eq!(venue.requests(CANCEL).len(), 0);
}

#[test]
fn results_in_another_order_and_beside_others_are_each_taken_for_itself() {
    let world = World::start(&[]);
    let venue = &world.venue;
    venue.on_submit(|request| {
        Reply::edited(request, |answer| {
            let results = answer["results"].as_array_mut().into_iter();
            results.for_each(|results| {
                results.reverse();
                results.push(json!({"clientOrderId": "nobody's", "externalOrderId": "Y"}));
                results.push(json!({"clientOrderId": 7}));
                results.push(Value::Null);
            });
        })
    });
    let orders: Vec<String> = std::thread::scope(|scope| {
        let placing: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let alice =
                        support::api::Client::new(&world.server.address, &world.alice.token);
                    buy(&alice, "SPY", 10)
                })
            })
            .collect();
        placing.into_iter().map(|placing| placing.join().expect("it is placed")).collect()
    });
    for order in &orders {
        let theirs = venue.order(order);
        assert_eq!(world.alice.order(order)["externalOrderId"], theirs.external_id.as_str());
    }
}

#[test]
fn ids_of_the_exchange_may_look_like_anything() {
    let world = World::start(&[]);
    let venue = &world.venue;
    let odd = [
        "ord/7?x=%20#",
        "\"quoted\\\"",
        "0",
        "null",
        "{}",
        "X,Y",
        "-_.~",
        "0123456789012345678901234567890123456789012345678901234567890123",
    ];
    for external_id in odd {
        venue.give_external_ids(&[external_id]);
        let order = world.buy(10);
        assert_eq!(world.alice.order(&order)["externalOrderId"], external_id);
        venue.fill(&order, 100, 4);
        world.await_filled(&order, 4);
        let cancelled = world.alice.delete(&format!("/order/{order}"));
        assert_eq!(cancelled.status, 200, "{external_id}: {}", cancelled.text);
        assert_eq!(venue.order(&order).status, "cancelled", "{external_id}");
    }
}

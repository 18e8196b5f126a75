//! Answers to a submit with two results for one order, or nothing readable: the outcome is unknown and
//! queried. It is never a refusal, and the order is placed once.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support::venue::{Reply, Request, Venue};
use crate::support::{self, Server};
use serde_json::{Value, json};

fn no(id: &Value) -> Value {
    json!({"clientOrderId": id, "error": {"code": "halted", "message": "not now"}})
}

type Edit = fn(&Value) -> Vec<Value>;

/// Edits of the single true result.
const ODD: [(&str, Edit); 11] = [
    ("accepted and refused", |true_one| vec![true_one.clone(), no(&true_one["clientOrderId"])]),
    ("refused and accepted", |true_one| vec![no(&true_one["clientOrderId"]), true_one.clone()]),
    ("an id and an error in one", |true_one| {
        let mut both = no(&true_one["clientOrderId"]);
        both["externalOrderId"] = true_one["externalOrderId"].clone();
        vec![both]
    }),
    ("two ids", |true_one| {
        let mut other = true_one.clone();
        other["externalOrderId"] = json!("another");
        vec![true_one.clone(), other]
    }),
    ("neither", |true_one| vec![json!({"clientOrderId": true_one["clientOrderId"]})]),
    ("nothing", |_| vec![]),
    ("somebody else's refusal", |_| vec![no(&json!("somebody-else"))]),
    ("an id of another type", |true_one| {
        vec![json!({"clientOrderId": true_one["clientOrderId"], "externalOrderId": 7})]
    }),
    ("an id that is none", |true_one| {
        vec![json!({"clientOrderId": true_one["clientOrderId"], "externalOrderId": "a b"})]
    }),
    ("an error of another type beside the id", |true_one| {
        let mut odd = true_one.clone();
        odd["error"] = json!("no");
        vec![odd]
    }),
    ("a refusal and something unreadable", |true_one| {
        let id = &true_one["clientOrderId"];
        vec![no(id), json!({"clientOrderId": id, "externalOrderId": []})]
    }),
];

#[test]
fn what_contradicts_itself_is_found_out_about_and_placed_once() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path(), &["--exchange", &venue.address()]);
    let alice = server.user(data.path(), "alice");
    let order = json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1});
    for (what, edit) in ODD {
        venue.on_submit(move |request: &Request| {
            Reply::edited(request, |answer| {
                let results = edit(&answer["results"][0]);
                answer["results"] = Value::from(results);
            })
        });
        let placed = alice.post("/order", &order);
        assert_eq!(placed.status, 201, "{what}: {}", placed.text);
        let id = placed.body["orderId"].as_str().unwrap();
        let there = venue.order(id);
        assert_eq!(placed.body["externalOrderId"], there.external_id.as_str(), "{what}");
    }
    assert_eq!(venue.orders().len(), ODD.len());

    // A real refusal is found the same way.
    venue.set(|options| options.rejects = Some(("halted".into(), "not today".into())));
    venue.on_submit(|request: &Request| {
        Reply::edited(request, |answer| {
            let mut results = answer["results"].as_array().unwrap().clone();
            let id = results[0]["clientOrderId"].clone();
            results.push(json!({"clientOrderId": id, "externalOrderId": "X-77"}));
            answer["results"] = Value::from(results);
        })
    });
    let refused = alice.post("/order", &order);
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("order_rejected")));
    assert!(server.metric("orders_unreadable_total") >= 5);
}

#[test]
fn one_id_for_two_orders_is_believed_of_neither() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let more = ["--exchange", &venue.address(), "--exchange-timeout-ms", "30000"];
    let server = Server::start(data.path(), &more);
    // One request with several orders, which gather while the first is held up.
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    venue.on_submit(move |request: &Request| {
        if request.number == 1 {
            let _released = hold.lock().unwrap().recv();
            return Reply::Default;
        }
        Reply::edited(request, |answer| {
            let results = answer["results"].as_array_mut().unwrap();
            let first = results[0]["externalOrderId"].clone();
            for result in results {
                result["externalOrderId"] = first.clone();
            }
        })
    });
    let users: Vec<_> = (0..8).map(|n| server.user(data.path(), &format!("user-{n}"))).collect();
    let order = json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1});
    let placed: Vec<Value> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, user) in users.iter().enumerate() {
            threads.push(scope.spawn(|| user.post("/order", &order)));
            if number == 0 {
                venue.await_requests(support::venue::SUBMIT, 1);
            }
        }
        venue.await_orders(7);
        held.send(()).unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap().body).collect()
    });
    for order in placed {
        let id = order["orderId"].as_str().unwrap();
        assert_eq!(order["externalOrderId"], venue.order(id).external_id.as_str(), "{order}");
    }
}

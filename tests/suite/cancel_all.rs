//! `DELETE /orders` cancels the open orders of its user, with an outcome for each.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::Server;
use crate::support::api::Client;
use crate::support::cluster::Cluster;
use crate::support::venue::Reply;
use crate::support::world::{World, buy, id};
use serde_json::{Value, json};

/// The outcomes by order, and whether there are more.
fn cancel_all(client: &Client, query: &str) -> (Vec<(String, String)>, bool) {
    let answer = client.delete(&format!("/orders{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let outcomes = answer.body["orders"].as_array().unwrap().iter();
    let outcome = |one: &Value| {
        let order_id = one["orderId"].as_str().unwrap().to_owned();
        if !one["order"].is_null() {
            assert_eq!(one["order"]["orderId"], one["orderId"]);
        }
        (order_id, one["outcome"].as_str().unwrap().to_owned())
    };
    (outcomes.map(outcome).collect(), answer.body["more"].as_bool().unwrap())
}

fn open(client: &Client) -> usize {
    client.get("/orders?status=open&limit=500").body["orders"].as_array().unwrap().len()
}

#[test]
fn a_user_cancels_all_orders_or_those_of_a_symbol_and_nobody_elses() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    assert_eq!(cancel_all(&alice, ""), (vec![], false));
    let ids: Vec<String> = ["IBM", "SPY", "IBM", "AIG"]
        .iter()
        .map(|symbol| id(&alice.place_resting(symbol)).to_owned())
        .collect();
    let bobs = bob.place_resting("IBM");

    for query in ["?symbol=", "?symbol=i%20bm", "?status=open", "?symbol=IBM&limit=1"] {
        assert_eq!(alice.delete(&format!("/orders{query}")).status, 400, "{query}");
    }
    assert_eq!(open(&alice), 4, "nothing was cancelled");
    let cancelled = |places: &[usize]| -> Vec<(String, String)> {
        places.iter().map(|&place| (ids[place].clone(), "cancelled".to_owned())).collect()
    };
    assert_eq!(cancel_all(&alice, "?symbol=ibm"), (cancelled(&[0, 2]), false));
    assert_eq!(open(&alice), 2);
    assert_eq!(cancel_all(&alice, ""), (cancelled(&[1, 3]), false));
    assert_eq!(cancel_all(&alice, ""), (vec![], false));
    assert_eq!((open(&alice), open(&bob)), (0, 1));
    assert_eq!(bob.order(id(&bobs))["status"], "submitted");
}

#[test]
fn each_order_has_the_outcome_that_its_own_cancel_would_have() {
    let world = World::start(&[]);
    let ids: Vec<String> = (0..4).map(|_| buy(&world.alice, "SPY", 10)).collect();
    // The exchange has filled one of them already, and refuses to cancel another.
    world.venue.fill_quietly(&ids[0], 100, 10);
    let refused = world.venue.order(&ids[1]).external_id;
    let filled = world.venue.order(&ids[0]).external_id;
    world.venue.on_cancel(move |request| {
        let asked = request.body["externalOrderIds"].as_array().unwrap().iter();
        let error = |id: &Value, code: &str| {
            json!({"externalOrderId": id, "error": {"code": code, "message": "an auction"}})
        };
        let result = |id: &Value| match id.as_str().unwrap() {
            id_text if id_text == refused => error(id, "not_now"),
            id_text if id_text == filled => error(id, "filled"),
            _ => json!({"externalOrderId": id, "status": "cancelled"}),
        };
        Reply::Json(json!({"results": asked.map(result).collect::<Vec<_>>()}))
    });
    let (outcomes, more) = cancel_all(&world.alice, "");
    assert!(!more);
    let of = |place: usize| {
        let found = outcomes.iter().find(|(order_id, _)| *order_id == ids[place]);
        found.map(|(_, outcome)| outcome.as_str()).unwrap()
    };
    assert!(matches!(of(0), "not_cancellable" | "pending_cancel"), "{outcomes:?}");
    assert_eq!((of(1), of(2), of(3)), ("cancel_rejected", "cancelled", "cancelled"));
    assert_eq!(world.alice.order(&ids[1])["status"], "submitted");
}

#[test]
fn one_request_is_bounded_and_says_when_there_are_more() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let body = json!({"position": "buy", "symbol": "IBM", "numShares": 1, "priceInCents": 1});
    for _ in 0..510 {
        assert!(matches!(alice.post("/order", &body).status, 201 | 202));
    }
    let (outcomes, more) = cancel_all(&alice, "");
    assert_eq!((outcomes.len(), more), (500, true));
    loop {
        let (_, more) = cancel_all(&alice, "");
        if !more && open(&alice) == 0 {
            break;
        }
    }
}

#[test]
fn every_node_of_a_cluster_takes_it() {
    let cluster = Cluster::start(&[]);
    let clients = cluster.clients("alice");
    for client in &clients {
        let order = client.place_resting("IBM");
        let (outcomes, more) = cancel_all(client, "");
        assert_eq!(
            (outcomes, more),
            (vec![(id(&order).to_owned(), "cancelled".to_owned())], false)
        );
    }
}

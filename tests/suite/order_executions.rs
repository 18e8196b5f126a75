//! `GET /order/:id/executions` has the fills of one order as they came, and marks those that were busted.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api::{Client, until};
use crate::support::cluster::Cluster;
use crate::support::world::World;
use serde_json::{Value, json};

fn executions(client: &Client, id: &str) -> Vec<Value> {
    let answer = client.get(&format!("/order/{id}/executions"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body["nextCursor"].is_null());
    answer.body["executions"].as_array().unwrap().clone()
}

/// Shares, price and whether it is busted, of each.
fn terms(executions: &[Value]) -> Vec<(u64, u64, bool)> {
    let number = |one: &Value, name: &str| one[name].as_u64().unwrap();
    let of = |one: &Value| {
        let busted = one["busted"].as_bool().unwrap();
        (number(one, "numShares"), number(one, "priceInCents"), busted)
    };
    executions.iter().map(of).collect()
}

/// Fills an order, with the same time in its record and in the line.
fn fill_at_its_time(world: &World, order: &str, cents: u64, shares: u64) -> String {
    let execution = world.venue.fill_quietly(order, cents, shares);
    let theirs = world.venue.order(order);
    let timestamp = theirs.executions.last().unwrap().timestamp;
    world.venue.feed_line(json!({"type": "trade", "executionId": execution, "symbol": "SPY",
        "priceInCents": cents, "numShares": shares, "orderId": theirs.external_id,
        "timestamp": timestamp}));
    execution
}

#[test]
fn they_are_listed_as_they_came_with_busts_and_after_restarts() {
    let mut world = World::start(&["--keep-ended-seconds", "0", "--wal-keep-mib", "0"]);
    let order = world.buy(10);
    assert!(executions(&world.alice, &order).is_empty());
    let ids: Vec<String> =
        (1..=4).map(|shares| fill_at_its_time(&world, &order, 90 + shares, shares)).collect();
    // As soon as an answer shows the fills, they are listed.
    world.alice.await_status(&order, "filled");
    let listed = executions(&world.alice, &order);
    let all = [(1, 91, false), (2, 92, false), (3, 93, false), (4, 94, false)];
    assert_eq!(terms(&listed), all);
    let listed_ids: Vec<&str> =
        listed.iter().map(|one| one["executionId"].as_str().unwrap()).collect();
    assert_eq!(listed_ids, ids);
    for (one, theirs) in listed.iter().zip(&world.venue.order(&order).executions) {
        assert_eq!(one["timestamp"], theirs.timestamp, "the exchange's time");
    }

    // By pages, which an execution that comes later does not shift.
    let page = world.alice.get(&format!("/order/{order}/executions?limit=3"));
    assert_eq!(page.body["executions"], json!(listed[..3]));
    let cursor = page.body["nextCursor"].as_str().unwrap().to_owned();
    world.venue.bust(&ids[1]);
    world.await_filled(&order, 8);
    let rest = world.alice.get(&format!("/order/{order}/executions?cursor={cursor}"));
    assert_eq!(rest.body["executions"], json!(listed[3..]));
    for (query, field) in [("limit=0", "limit"), ("cursor=none", "cursor"), ("x=1", "x")] {
        let refused = world.alice.get(&format!("/order/{order}/executions?{query}"));
        assert_eq!((refused.status, &refused.body["field"]), (400, &json!(field)), "{query}");
    }

    // The busted one stays, with what it was.
    world.venue.fill(&order, 95, 2);
    world.alice.await_status(&order, "filled");
    let busted = [(1, 91, false), (2, 92, true), (3, 93, false), (4, 94, false), (2, 95, false)];
    let listed = executions(&world.alice, &order);
    assert_eq!(terms(&listed), busted);

    // Another user's order is as unknown as none.
    for id in [&*order, "x", "019c0000-0000-7000-8000-000000000000"] {
        let answer = world.bob.get(&format!("/order/{id}/executions"));
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("not_found")), "{id}");
    }

    until("ended orders to leave memory", || {
        (world.server.metric("orders_ended_in_memory") == 0).then_some(())
    });
    assert_eq!(executions(&world.alice, &order), listed);
    world.restart(|_| ());
    assert_eq!(executions(&world.alice, &order), listed);
}

#[test]
fn every_node_of_a_cluster_lists_them() {
    let cluster = Cluster::start(&[]);
    let clients = cluster.clients("alice");
    let body = json!({"position": "buy", "symbol": "SPY", "numShares": 7});
    let placed = clients[0].post("/order", &body);
    let id = placed.body["orderId"].as_str().unwrap();
    let filled = clients[0].await_status(id, "filled");
    let listed = executions(&clients[0], id);
    let shares: u64 = terms(&listed).iter().map(|(shares, ..)| shares).sum();
    let value: u64 = terms(&listed).iter().map(|(shares, cents, _)| shares * cents).sum();
    assert_eq!(
        (&filled["filledShares"], &filled["filledValueInCents"]),
        (&json!(shares), &json!(value))
    );
    assert!(listed.iter().all(|one| one["timestamp"].is_u64()), "{listed:?}");
    let bobs = cluster.clients("bob");
    for (client, bob) in clients.iter().zip(&bobs) {
        assert_eq!(executions(client, id), listed);
        assert_eq!(bob.get(&format!("/order/{id}/executions")).status, 404);
    }
}

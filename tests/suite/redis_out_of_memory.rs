//! A Redis without memory refuses what is to be kept, and passes messages on: nodes say so, and all heals
//! once there is memory.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use serde_json::json;

use crate::support::api::until;
use crate::support::events::EventStream;
use crate::support::price_cluster::{Cluster, await_feed, prices_up_to};

/// What Redis says.
const NO_MEMORY: &str = "'maxmemory'";

/// What a node says about Redis, among these.
fn says(cluster: &Cluster, node: usize, among: &str) -> bool {
    let said = cluster.nodes[node].server.readiness();
    let said = said.and_then(|answer| Some(answer.body[among]["redis"].as_str()?.to_owned()));
    said.is_some_and(|said| said.contains(NO_MEMORY))
}

fn place(cluster: &Cluster) {
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 1});
    for node in &cluster.nodes {
        let answer = node.alice.post("/order", &order);
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
}

#[test]
fn a_redis_without_memory_shows_as_a_lost_feed_and_heals() {
    let cluster = Cluster::start(2);
    let (venue, redis) = (&cluster.venue, &cluster.redis);
    venue.trade("SPY", 1_000, 10);
    let mut streams: Vec<EventStream> =
        cluster.nodes.iter().map(|node| node.watch(&["SPY"])).collect();
    for stream in &mut streams {
        prices_up_to(stream, 1_000);
    }
    assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert!(redis.ask(&["SET", "key", "value"]).starts_with("OOM"));
    assert_eq!(redis.ask(&["PUBLISH", "channel", "message"]), "0");

    // Either may read the feed by then.
    let (holder, follower) = until("both to say so", || {
        let found = [(0, 1), (1, 0)].into_iter().find(|(holder, follower)| {
            says(&cluster, *holder, "warnings") && says(&cluster, *follower, "reasons")
        });
        found.filter(|(holder, _)| *holder == cluster.holder())
    });
    let said = cluster.nodes[holder].server.readiness().unwrap();
    assert_eq!((said.status, &said.body["checks"]["redis"]), (200, &json!(true)));
    let said = cluster.nodes[follower].server.readiness().unwrap();
    assert_eq!((said.status, &said.body["checks"]["redis"]), (503, &json!(false)));
    await_feed(&mut streams[follower], false);
    assert_eq!(cluster.nodes[follower].quote("SPY")["stale"], true);
    venue.trade("SPY", 1_001, 10);
    prices_up_to(&mut streams[holder], 1_001);
    place(&cluster);

    assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    await_feed(&mut streams[follower], true);
    venue.trade("SPY", 1_002, 10);
    for stream in &mut streams {
        prices_up_to(stream, 1_002);
    }
    for node in &cluster.nodes {
        node.server.await_ready();
        until("no more warnings", || {
            (node.server.readiness()?.body["warnings"] == json!({})).then_some(())
        });
    }
    place(&cluster);
}

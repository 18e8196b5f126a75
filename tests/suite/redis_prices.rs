//! Prices in Redis, as any program can read them: by `redis-cli`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::Server;
use crate::support::api::{Client, until};
use crate::support::redis::{Redis, Subscriber};
use crate::support::venue::Venue;
use serde_json::{Value, json};

struct World {
    venue: Venue,
    redis: Redis,
    server: Server,
    alice: Client,
    _data: tempfile::TempDir,
}

fn start() -> World {
    let (venue, redis, data) = (Venue::start(), Redis::start(), tempfile::tempdir().unwrap());
    let settings = ["--exchange", &venue.address(), "--redis", &redis.url()];
    let server = Server::start(data.path(), &settings);
    until("the feed in Redis", || (redis.key("stock:feed")["up"] == true).then_some(()));
    let alice = server.user(data.path(), "alice");
    World { venue, redis, server, alice, _data: data }
}

/// Takes price messages until one has this price; returns all of them.
fn await_price(subscriber: &Subscriber, cents: u64) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let (_, message) = subscriber.next();
        seen.push(message);
        if seen.last().unwrap()["priceInCents"] == cents {
            return seen;
        }
    }
}

#[test]
fn each_change_of_a_price_is_published_and_kept_in_a_key() {
    let World { venue, redis, alice, .. } = &start();
    let spy = redis.subscribe(&["stock:price:SPY"]);
    let mut sequences = Vec::new();
    for (cents, shares) in [(1_000, 10), (1_001, 20), (1_001, 5), (999, 1)] {
        sequences.push(venue.trade("SPY", cents, shares));
        venue.trade("IBM", 20_000 + cents, 1);
    }
    let messages = await_price(&spy, 999);
    let seen: Vec<(u64, u64)> = messages
        .iter()
        .map(|message| {
            assert_eq!(message["symbol"], "SPY");
            assert!(message["timestamp"].as_u64().unwrap() > 1_000_000_000_000_000);
            assert_eq!(message.as_object().unwrap().len(), 4, "{message}");
            (message["priceInCents"].as_u64().unwrap(), message["sequence"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        seen,
        [(1_000, sequences[0]), (1_001, sequences[1]), (999, sequences[3])],
        "a print at the same price is no change"
    );
    let last = redis.key("stock:last:SPY");
    let shown = alice.get("/symbol/SPY").body;
    for name in ["priceInCents", "openInCents", "highInCents", "lowInCents", "volume"] {
        assert!(shown[name].is_u64(), "{name} is missing: {shown}");
        assert_eq!(last[name], shown[name], "{name}");
    }
    let (session, _) = venue.position();
    assert_eq!((&last["session"], &last["sequence"]), (&json!(session), &json!(sequences[3])));
}

#[test]
fn a_redis_that_was_away_gets_every_key_again_and_the_newest_prices() {
    let mut world = start();
    let (venue, server) = (&world.venue, &world.server);
    venue.trade("SPY", 1_000, 10);
    venue.trade("IBM", 20_000, 10);
    until("both prices", || {
        (world.redis.key("stock:last:IBM")["priceInCents"] == 20_000).then_some(())
    });
    world.redis.kill();
    until("the loss", || (server.metric("bridge_up") == 0).then_some(()));
    for cents in 1_001..1_050 {
        venue.trade("SPY", cents, 1);
    }
    world.redis.start_again();
    let redis = &world.redis;
    until("the newest price", || {
        (redis.key("stock:last:SPY")["priceInCents"] == 1_049).then_some(())
    });
    assert_eq!(redis.key("stock:last:IBM")["priceInCents"], 20_000, "as it has not changed");
    let spy = redis.subscribe(&["stock:price:SPY"]);
    venue.trade("SPY", 2_000, 1);
    assert_eq!(await_price(&spy, 2_000).len(), 1);
}

#[test]
fn the_state_of_the_feed_is_told() {
    let World { venue, redis, server: _server, .. } = &start();
    let feed = redis.subscribe(&["stock:feed"]);
    let await_feed = |is_right: &dyn Fn(&Value) -> bool| loop {
        let (_, state) = feed.next();
        if is_right(&state) {
            return state;
        }
    };
    let (session, _) = venue.position();
    let state = await_feed(&|state| state["up"] == true);
    assert_eq!(state["session"], session);
    let sequence = venue.trade("SPY", 1_000, 10);
    await_feed(&|state| state["sequence"].as_u64().unwrap() >= sequence);
    venue.new_session("another");
    await_feed(&|state| state["up"] == true && state["session"] == "another");
}

#[test]
fn a_redis_that_is_not_there_holds_up_nothing() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let settings = ["--exchange", &venue.address(), "--redis", "redis://127.0.0.1:1"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    venue.trade("SPY", 1_000, 10);
    until("the price", || (alice.get("/symbol/SPY").body["priceInCents"] == 1_000).then_some(()));
    alice.place_resting("SPY");
    let line = server.program.await_error("Redis takes no prices");
    assert!(line.contains("refused"), "{line}");
    assert!(server.program.stop().success());
}

//! Several nodes and one connection to the exchange's feed: the others follow the node that has it.

use serde_json::json;

use crate::support::api::{Client, until};
use crate::support::events::EventStream;
use crate::support::price_cluster::{
    Cluster, await_feed, await_same_quote, prices_up_to, trade_until_ids,
};
use crate::support::redis::Redis;
use crate::support::venue::FEED;
use crate::support::{Server, run};

#[test]
fn a_follower_shows_the_prices_of_the_holder_under_the_same_ids() {
    let cluster = Cluster::start(2);
    let (venue, [holder, follower]) = (&cluster.venue, &cluster.nodes[..]) else { unreachable!() };
    venue.trade("SPY", 1_000, 10);
    venue.trade("IBM", 20_000, 7);
    let mut streams = [holder, follower].map(|node| node.watch(&["SPY"]));
    for stream in &mut streams {
        assert_eq!(prices_up_to(stream, 1_000).len(), 1);
    }
    for cents in [1_001, 1_002, 999] {
        venue.trade("AAPL", cents + 1, 5);
        venue.trade("SPY", cents, 5);
        let [one, other] = streams.each_mut().map(|stream| prices_up_to(stream, cents).pop());
        assert_eq!(one.unwrap().data, other.unwrap().data);
    }
    let mut cents = 2_000;
    for stream in &mut streams {
        // One after the other: ids come once a second at most, in each stream at its own times.
        let (traded, last) = trade_until_ids(venue, [stream], cents);
        let (session, sequence) = venue.position();
        assert_eq!(last[0].id, Some(format!("{session}-{sequence}")), "{last:?}");
        cents = traded;
    }
    await_same_quote(follower, holder, "SPY");
    // Nobody watches it here, and the first answer has it all the same.
    let quote = follower.quote("IBM");
    assert_eq!((&quote["priceInCents"], &quote["stale"]), (&20_000.into(), &false.into()));
    assert_eq!(quote["volume"], 7);
    assert_eq!(follower.quote("TSLA")["stale"], true, "it has never traded");
    let before = follower.server.metric("follower_prices_total");
    for cents in 1_000..1_020 {
        venue.trade("META", cents, 5);
    }
    venue.trade("SPY", 3_000, 5);
    prices_up_to(&mut streams[1], 3_000);
    let received = follower.server.metric("follower_prices_total") - before;
    assert_eq!(received, 1, "only what is watched");
    assert_eq!(holder.server.metric("follower_prices_total"), 0);
    assert_eq!(venue.requests(FEED).len(), 1, "one connection to the feed");
}

#[test]
fn a_stream_resumes_on_another_node() {
    let cluster = Cluster::start(2);
    let (venue, [holder, follower]) = (&cluster.venue, &cluster.nodes[..]) else { unreachable!() };
    let mut stream = holder.watch(&["SPY", "IBM"]);
    venue.trade("IBM", 20_000, 7);
    let (cents, last) = trade_until_ids(venue, [&mut stream], 1_000);
    let known = last[0].id.clone().unwrap();
    drop(stream);
    let sequence = venue.trade("SPY", cents + 1, 10);
    until("the follower to have come so far", || {
        let state = cluster.redis.key("stock:feed");
        (state["sequence"].as_u64()? >= sequence).then_some(())
    });
    let mut stream = follower.resume("SPY,IBM", &known);
    let next = stream.await_event("a price, and no reset", |event| {
        assert_ne!(event.name, "reset");
        event.name == "price"
    });
    let spy = json!(["SPY", cents + 1]);
    assert_eq!(json!([next.data["symbol"], next.data["priceInCents"]]), spy);
    let (_, last) = trade_until_ids(venue, [&mut stream], cents + 1);
    let known = last[0].id.clone().unwrap();
    venue.trade("IBM", 20_001, 1);
    let mut stream = holder.resume("SPY,IBM", &known);
    let known_price = &last[0].data;
    // The holder may hand its own streams a price after it has handed it to the other nodes.
    let next = stream.await_event("a price, and no reset", |event| {
        assert_ne!(event.name, "reset");
        event.name == "price" && event.data != *known_price
    });
    assert_eq!(next.data["priceInCents"], 20_001, "{known} {last:?} {next:?}");
}

/// As `/readyz` names it.
fn name_of(redis: &Redis) -> String {
    redis.url().replace("redis://", "Redis at ")
}

#[test]
fn a_lost_redis_shows_as_a_lost_feed_and_heals() {
    let mut cluster = Cluster::start(2);
    let venue = cluster.venue.clone();
    let (redis, reads) =
        (cluster.redis.url().replace("redis://", "Redis at "), "cmdstat_mget:calls=");
    let follower = &cluster.nodes[1].server;
    follower.program.await_error("prices and lines about orders come through Redis");
    for (symbol, cents) in [("SPY", 1_000), ("IBM", 20_000), ("AAPL", 5_000)] {
        venue.trade(symbol, cents, 10);
    }
    until("the keys", || {
        (cluster.redis.key("stock:last:AAPL")["priceInCents"] == 5_000).then_some(())
    });
    // The follower reads the keys of symbols that nobody watches, and now it reads no others.
    let read = || -> u64 {
        let counts = cluster.redis.ask(&["INFO", "commandstats"]);
        let calls = counts.split_once(reads).and_then(|(_, rest)| rest.split_once(','));
        calls.map_or(0, |(calls, _)| calls.parse().unwrap())
    };
    let before = read();
    until("the key of AAPL to be read", || (read() >= before + 2).then_some(()));
    let mut streams = [0, 1].map(|node: usize| cluster.nodes[node].watch(&["SPY"]));
    for stream in &mut streams {
        prices_up_to(stream, 1_000);
    }
    assert_eq!(cluster.nodes[1].quote("IBM")["stale"], false);
    cluster.redis.kill();
    await_feed(&mut streams[1], false);
    for (symbol, cents) in [("SPY", 1_000), ("IBM", 20_000), ("AAPL", 5_000)] {
        let quote = cluster.nodes[1].quote(symbol);
        assert_eq!((&quote["priceInCents"], &quote["stale"]), (&cents.into(), &true.into()));
    }
    let [holder, follower] = [0, 1].map(|node: usize| &cluster.nodes[node].server);
    let said = follower.await_word("reasons", "redis", &format!("{redis} cannot be reached"));
    assert_eq!((said.status, &said.body["checks"]["redis"]), (503, &false.into()));
    let feed = said.body["reasons"]["feed"].as_str().unwrap();
    assert!(feed.contains("through Redis, from node 0"), "{feed}");
    follower.program.await_error("Redis gives no prices");
    venue.trade("SPY", 1_001, 10);
    prices_up_to(&mut streams[0], 1_001);
    let said = holder.await_word("warnings", "redis", &format!("{redis} cannot be reached"));
    assert_eq!((said.status, &said.body["checks"]["redis"]), (200, &true.into()));
    holder.program.await_error("leaves it to another one as soon as");
    let output = run(&["nodes", "--postgres", &cluster.database.url]);
    let listed = String::from_utf8(output.stdout).unwrap();
    let feed = |line: &str| line.split_whitespace().nth(4).unwrap().to_owned();
    let feeds: Vec<String> = listed.lines().map(feed).collect();
    assert_eq!(feeds, ["feed", "yes", "no"], "{listed}");
    cluster.redis.start_again();
    // In either order.
    let (mut is_up, mut has_price) = (false, false);
    streams[1].await_event("the feed and the price", |event| {
        is_up |= event.name == "feed" && event.data["up"] == true;
        has_price |= event.name == "price" && event.data["priceInCents"] == 1_001;
        is_up && has_price
    });
    venue.trade("SPY", 1_002, 10);
    prices_up_to(&mut streams[1], 1_002);
    assert_eq!(cluster.nodes[1].quote("SPY")["stale"], false);
    let [holder, follower] = [0, 1].map(|node: usize| &cluster.nodes[node].server);
    follower.program.await_error("prices and lines about orders come through Redis");
    for server in [holder, follower] {
        let said = server.readiness().unwrap();
        assert_eq!((&said.body["reasons"], &said.body["warnings"]), (&json!({}), &json!({})));
    }
}

#[test]
fn a_redis_belongs_to_one_deployment() {
    let cluster = Cluster::start(1);
    let (venue, node) = (&cluster.venue, &cluster.nodes[0]);
    let strange = cluster.postgres.create("strange");
    // Channels, and who is connected, are of all databases of a Redis.
    for redis in [cluster.redis.url(), format!("{}/1", cluster.redis.url())] {
        let data = tempfile::tempdir().unwrap();
        let exchange = venue.address();
        let settings = ["--exchange", &exchange, "--redis", &redis, "--postgres", &strange.url];
        let more = ["--commit=postgres", "--migrate", "--keys", &cluster.keys, "--shards", "1"];
        let stranger = Server::start(data.path(), &[&settings[..], &more[..]].concat());
        stranger.await_word("warnings", "redis", "belongs to another deployment");
        stranger.program.await_error("belongs to another deployment");
        assert!(stranger.program.stop().success());
    }
    venue.trade("SPY", 1_234, 10);
    until("the price", || {
        (cluster.redis.key("stock:last:SPY")["priceInCents"] == 1_234).then_some(())
    });
    assert_eq!(node.server.metric("bridge_failures_total"), 0);
    assert_eq!(node.server.readiness().unwrap().body["warnings"], json!({}));
}

#[test]
fn a_follower_tells_the_last_prices_while_the_feed_is_down_and_whose_silence_it_is() {
    let cluster = Cluster::start(2);
    let (venue, [holder, follower]) = (&cluster.venue, &cluster.nodes[..]) else { unreachable!() };
    venue.trade("IBM", 20_000, 7);
    until("the key", || {
        (cluster.redis.key("stock:last:IBM")["priceInCents"] == 20_000).then_some(())
    });
    // One whose Redis is another one hears nothing.
    let (data, other) = (tempfile::tempdir().unwrap(), Redis::start());
    let lost = cluster.node_with_redis(data.path(), 5, &other.url());
    let silence = format!("nothing comes through {} from node 0, which", name_of(&other));
    let said = lost.await_word("reasons", "feed", &silence);
    assert_eq!(said.body["checks"]["redis"], true);
    lost.program.await_error(&silence);
    assert!(lost.program.stop().success());
    venue.close();
    let said = follower.server.await_word("reasons", "feed", "the exchange's feed is down");
    assert!(said.text.contains("says node 0, which reads"), "{}", said.text);
    assert_eq!(said.body["checks"]["redis"], true);
    let quotes = [holder, follower].map(|node| node.quote("IBM"));
    assert_eq!(quotes[0], quotes[1]);
    assert_eq!((&quotes[0]["priceInCents"], &quotes[0]["stale"]), (&20_000.into(), &true.into()));
}

#[test]
fn a_stream_of_every_print_is_told_of_gaps_where_prints_are_not_handed_on() {
    let cluster = Cluster::start(2);
    let (venue, follower) = (&cluster.venue, &cluster.nodes[1]);
    venue.trade("SPY", 1_000, 10);
    let (address, token) = (&follower.server.address, &follower.token);
    let mut stream = EventStream::get(address, token, "symbols=SPY&mode=every", "");
    prices_up_to(&mut stream, 1_000);
    venue.trade("SPY", 1_000, 10);
    let last = venue.trade("SPY", 1_001, 10);
    let gap = stream.await_event("a gap before the price", |event| {
        assert_ne!(event.name, "price");
        event.name == "gap"
    });
    assert_eq!(gap.data["to"], last - 1);
    prices_up_to(&mut stream, 1_001);
}

#[test]
fn a_node_ends_its_subscription_some_time_after_its_last_stream() {
    let cluster = Cluster::start(2);
    let (venue, follower) = (&cluster.venue, &cluster.nodes[1]);
    venue.trade("SPY", 1_000, 10);
    let mut stream = follower.watch(&["SPY"]);
    prices_up_to(&mut stream, 1_000);
    assert_eq!(follower.server.metric("follower_symbols"), 1);
    drop(stream);
    until("the end of the subscription", || {
        (follower.server.metric("follower_symbols") == 0).then_some(())
    });
    assert_eq!(cluster.redis.ask(&["PUBSUB", "NUMSUB", "stock:price:SPY"]), "stock:price:SPY\n0");
    venue.trade("SPY", 1_001, 10);
    assert_eq!(follower.quote("SPY")["priceInCents"], 1_001, "no old price is shown");
}

#[test]
fn a_fill_reaches_the_owner_of_the_order_that_follows() {
    let cluster = Cluster::start(2);
    let (venue, follower) = (&cluster.venue, &cluster.nodes[1]);
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 100});
    // Users are spread over both nodes.
    let (client, id) = until("a user of the follower", || {
        (0..8).find_map(|number| {
            let token = cluster.token(&format!("user{number}"));
            let client = Client::new(&follower.server.address, &token);
            let answer = client.post("/order", &order);
            let is_here = answer.headers.get("x-longbow-node").is_some_and(|node| node == "1");
            (answer.status == 201 && is_here).then(|| {
                let id = answer.order()["orderId"].as_str().unwrap().to_owned();
                (client, id)
            })
        })
    });
    let holes = follower.server.metric("follower_holes_total");
    venue.fill(&id, 100, 4);
    client.await_status(&id, "partially_filled");
    venue.fill(&id, 100, 6);
    client.await_status(&id, "filled");
    assert_eq!(follower.server.metric("follower_holes_total"), holes);
    assert!(cluster.redis.ask(&["XLEN", "orders:lines"]).parse::<u64>().unwrap() > 2);
}

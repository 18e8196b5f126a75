//! One of several nodes reads the exchange's feed: another one does when it is gone, and nobody when
//! it need not be.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support::api::until;
use crate::support::events::EventStream;
use crate::support::price_cluster::{
    Cluster, FIGURES, Node, await_same_quote, prices_up_to, trade_until_ids,
};
use crate::support::venue::FEED;

#[test]
fn a_follower_takes_over_when_the_holder_is_killed() {
    let mut cluster = Cluster::start(2);
    let venue = cluster.venue.clone();
    for (cents, shares) in [(1_000, 10), (1_010, 20), (990, 30), (1_005, 40)] {
        venue.trade("SPY", cents, shares);
        venue.trade("IBM", 20 * cents, shares);
    }
    until("the last price", || {
        let last = cluster.redis.key("stock:last:IBM");
        (last["priceInCents"] == 20_100).then_some(())
    });
    let mut stream = cluster.nodes[1].watch(&["SPY"]);
    prices_up_to(&mut stream, 1_005);
    let Node { server, .. } = cluster.nodes.remove(0);
    server.program.kill();
    // Nobody reads this yet.
    venue.trade("SPY", 1_006, 50);
    venue.trade("IBM", 20_120, 50);
    prices_up_to(&mut stream, 1_006);
    assert_eq!(cluster.holder(), 0);
    venue.trade("SPY", 1_007, 60);
    prices_up_to(&mut stream, 1_007);
    let node = &cluster.nodes[0];
    let quote = node.quote("SPY");
    let figures: Vec<u64> =
        FIGURES[..5].iter().map(|name| quote[*name].as_u64().unwrap()).collect();
    // The exchange tells 10,000 as the opening price.
    assert_eq!(figures, [1_007, 10_000, 10_000, 990, 210], "{quote}");
    let quote = node.quote("IBM");
    let figures: Vec<u64> =
        FIGURES[..5].iter().map(|name| quote[*name].as_u64().unwrap()).collect();
    assert_eq!(figures, [20_120, 10_000, 20_200, 10_000, 150], "{quote}");
    assert_eq!(node.server.metric("feed_gaps_total"), 0);
    let (_, last) = trade_until_ids(&venue, [&mut stream], 1_100);
    let (session, sequence) = venue.position();
    assert_eq!(last[0].id, Some(format!("{session}-{sequence}")));

    // The other node comes back and follows.
    cluster.nodes.push(cluster.start_node(0));
    assert_eq!(cluster.holder(), 0);
    let mut stream = cluster.nodes[1].watch(&["SPY"]);
    venue.trade("SPY", 1_008, 1);
    prices_up_to(&mut stream, 1_008);
    await_same_quote(&cluster.nodes[1], &cluster.nodes[0], "SPY");
}

/// Reads prices up to the one with this many cents. The feed is said to be neither lost nor back.
fn prices_go_on_up_to(stream: &mut EventStream, cents: u64) {
    stream.await_event("a price, and no word about the feed", |event| {
        assert_ne!(event.name, "feed", "{event:?}");
        event.data["priceInCents"] == cents
    });
}

#[test]
fn prices_go_on_while_postgres_is_away() {
    /// So many renewals fail in more than the lease of the feed: a tenth of a second between two.
    const FAILURES: u64 = 20;
    let mut cluster = Cluster::start(2);
    let venue = cluster.venue.clone();
    let mut streams = [0, 1].map(|node: usize| cluster.nodes[node].watch(&["SPY"]));
    venue.trade("SPY", 1_000, 1);
    for stream in &mut streams {
        prices_up_to(stream, 1_000);
    }
    let epoch = "SELECT epoch FROM leases WHERE name = 'feed'";
    let before = cluster.database.number(epoch);
    cluster.postgres.stop();
    let mut cents = 1_000;
    until("the leases to end", || {
        cents += 1;
        venue.trade("SPY", cents, 1);
        for stream in &mut streams {
            prices_go_on_up_to(stream, cents);
        }
        let failures = |node: &Node| node.server.metric("node_failed_renewals_total") >= FAILURES;
        cluster.nodes.iter().all(failures).then_some(())
    });
    cluster.postgres.start_again();
    cluster.database.await_number(
        "SELECT count(*) FROM leases WHERE name = 'feed' AND lease_until > clock_timestamp()",
        1,
    );
    venue.trade("SPY", 2_000, 1);
    for stream in &mut streams {
        prices_go_on_up_to(stream, 2_000);
    }
    assert_eq!((cluster.holder(), cluster.database.number(epoch)), (0, before));
    assert_eq!(venue.requests(FEED).len(), 1, "one connection to the feed");
}

#[test]
fn a_holder_that_alone_is_cut_off_from_postgres_follows_the_next_one() {
    let cluster = Cluster::start(2);
    let venue = cluster.venue.clone();
    let mut streams = [0, 1].map(|node: usize| cluster.nodes[node].watch(&["SPY"]));
    cluster.to_postgres.hold();
    cluster.to_postgres.cut();
    until("the other node to read the feed", || {
        let leads = |node: &Node| node.server.metric("node_leads_feed");
        let leads: Vec<u64> = cluster.nodes.iter().map(leads).collect();
        (leads == [0, 1]).then_some(())
    });
    venue.trade("SPY", 1_001, 1);
    for stream in &mut streams {
        prices_up_to(stream, 1_001);
    }
    until("prices to be followed", || {
        (cluster.nodes[0].server.metric("follower_prices_total") > 0).then_some(())
    });
    venue.trade("SPY", 1_002, 1);
    for stream in &mut streams {
        prices_up_to(stream, 1_002);
    }
    assert_eq!(venue.requests(FEED).len(), 2);
}

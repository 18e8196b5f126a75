//! Members that cannot reach each other, or Redis, and what else fails at once.

use crate::support::api::{self, until};
use crate::support::cluster::{Cluster, Placed, Traders, id_of};
use crate::support::relay::Relay;

/// Users who buy.
const BUYERS: usize = 12;

/// Each user buys at the market. All orders are filled, although no line about them may come.
fn buy(cluster: &Cluster, round: &str, placed: &mut Placed) {
    let mut bought = Vec::new();
    for number in 0..BUYERS {
        let user = format!("buyer-{number}");
        let mut client = cluster.client(&user);
        let id = id_of(&client.place(round, None));
        placed.orders.entry((user, round.to_owned())).or_default().insert(id.clone());
        bought.push((client, id));
    }
    for (mut client, id) in bought {
        client.await_status(&id, &["filled", "failed"]);
    }
}

/// What was placed by buyers and traders is there.
fn check(cluster: &Cluster, traders: Traders, mut bought: Placed) {
    let mut placed = traders.end();
    placed.orders.append(&mut bought.orders);
    placed.check(cluster);
}

#[test]
fn a_member_that_is_cut_off_from_redis_alone_trades_on() {
    let cluster = Cluster::start(&[]);
    let (traders, mut bought) = (Traders::begin(&cluster, 6), Placed::default());
    let taken = cluster.metric("node_partitions_taken_total");
    cluster.to_redis.hold();
    cluster.to_redis.cut();
    buy(&cluster, "cut", &mut bought);
    traders.await_progress();
    cluster.to_redis.release();
    until("Redis to be followed again", || {
        (cluster.member(2).metric("follower_up") == 1).then_some(())
    });
    buy(&cluster, "back", &mut bought);
    assert_eq!(cluster.metric("node_partitions_taken_total"), taken, "nobody's users moved");
    check(&cluster, traders, bought);
}

/// Which members read the feed, by their number.
fn leaders(cluster: &Cluster) -> Vec<usize> {
    let leads = |member: &usize| cluster.member(*member).metric("node_leads_feed") == 1;
    (0..3).filter(leads).collect()
}

const FEED_EPOCH: &str = "SELECT epoch FROM leases WHERE name = 'feed'";

/// Has the last member, which alone can be cut off, read the feed.
fn have_the_last_lead(cluster: &Cluster) {
    until("the last member to read the feed", || {
        let epoch = cluster.database.number(FEED_EPOCH);
        cluster.database.sql(
            "UPDATE leases SET epoch = epoch + 1, \
             lease_until = clock_timestamp() - interval '1 minute' WHERE name = 'feed'",
        );
        let leaders = until("somebody to read the feed", || {
            let is_taken = cluster.database.number(FEED_EPOCH) > epoch + 1;
            Some(leaders(cluster)).filter(|leaders| is_taken && leaders.len() == 1)
        });
        (leaders == [2]).then_some(())
    });
}

#[test]
fn a_holder_of_the_feed_that_alone_is_cut_off_from_redis_leaves_it_to_another() {
    let cluster = Cluster::start(&[]);
    let (traders, mut bought) = (Traders::begin(&cluster, 6), Placed::default());
    have_the_last_lead(&cluster);
    buy(&cluster, "before", &mut bought);
    cluster.to_redis.hold();
    cluster.to_redis.cut();
    until("another member to read the feed", || {
        matches!(leaders(&cluster)[..], [0 | 1]).then_some(())
    });
    let epoch = cluster.database.number(FEED_EPOCH);
    buy(&cluster, "cut", &mut bought);
    cluster.to_redis.release();
    until("Redis to be followed again", || {
        (cluster.member(2).metric("follower_up") == 1).then_some(())
    });
    buy(&cluster, "back", &mut bought);
    traders.await_progress();
    assert_eq!(cluster.database.number(FEED_EPOCH), epoch, "it is not taken back");
    check(&cluster, traders, bought);
}

#[test]
fn followers_notice_that_the_stream_of_lines_began_anew_behind_what_they_have_read() {
    /// Lines that a follower takes in two seconds.
    const SOME_LINES: u64 = 3;
    let cluster = Cluster::start(&[]);
    let followers = || {
        let leaders = leaders(&cluster);
        (0..3).filter(move |member| !leaders.contains(member))
    };
    let holes = |member: usize| cluster.member(member).metric("follower_holes_total");
    let before: Vec<u64> = (0..3).map(holes).collect();
    // As if the feed's lease had been set back from there.
    cluster.redis.ask(&["XADD", "orders:lines", "999999-1", "entry", "{}"]);
    until("it to be read", || {
        followers().all(|member| holes(member) > before[member]).then_some(())
    });
    let lines = |member: usize| cluster.member(member).metric("follower_order_lines_total");
    let before: Vec<u64> = (0..3).map(lines).collect();
    until("lines to be followed again", || {
        followers().all(|member| lines(member) >= before[member] + SOME_LINES).then_some(())
    });
}

#[test]
fn trading_goes_on_without_redis_for_a_minute() {
    /// A connection fails each second: for a minute.
    const FAILURES: [u64; 3] = [20, 40, 60];
    let mut cluster = Cluster::start(&[]);
    let (traders, mut bought) = (Traders::begin(&cluster, 6), Placed::default());
    let epoch = cluster.database.number(FEED_EPOCH);
    cluster.redis.kill();
    buy(&cluster, "without", &mut bought);
    for failures in FAILURES {
        until("Redis to be away for long", || {
            (cluster.member(2).metric("follower_failures_total") >= failures).then_some(())
        });
        traders.await_progress();
    }
    buy(&cluster, "after-a-minute", &mut bought);
    assert_eq!(
        cluster.database.number(FEED_EPOCH),
        epoch,
        "nobody is better placed to read the feed"
    );
    cluster.redis.start_again();
    until("Redis to be followed again", || (cluster.metric("follower_up") == 2).then_some(()));
    buy(&cluster, "with", &mut bought);
    traders.await_progress();
    check(&cluster, traders, bought);
}

#[test]
fn the_last_member_does_everything_when_the_others_are_killed_at_once() {
    let mut cluster = Cluster::start(&[]);
    let (traders, mut bought) = (Traders::begin(&cluster, 6), Placed::default());
    traders.await_progress();
    // The first has the feed, too.
    assert_eq!(cluster.member(0).metric("node_leads_feed"), 1);
    cluster.kill(0);
    cluster.kill(1);
    traders.await_progress();
    cluster.await_even_shares();
    until("the feed to be taken over", || {
        (cluster.member(2).metric("node_leads_feed") == 1).then_some(())
    });
    buy(&cluster, "alone", &mut bought);
    cluster.start_member(0);
    cluster.start_member(1);
    cluster.await_even_shares();
    traders.await_progress();
    check(&cluster, traders, bought);
}

#[test]
fn members_that_cannot_reach_each_other_serve_their_own_users() {
    let cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 6);
    traders.await_progress();
    let peer_addresses = "SELECT node_id, peer_address FROM nodes ORDER BY node_id";
    let relays: Vec<Relay> = cluster
        .database
        .sql(peer_addresses)
        .iter()
        .map(|row| {
            let (node, address) = (row[0].as_ref().unwrap(), row[1].as_ref().unwrap());
            let relay = Relay::start(&format!("http://{address}"));
            let by_relay = relay.address.replace("http://", "");
            cluster.database.sql(&format!(
                "UPDATE nodes SET peer_address = '{by_relay}' WHERE node_id = {node}"
            ));
            relay
        })
        .collect();
    // Until each member asks the others through the relays.
    until("the relays to be used", || {
        let clients = cluster.clients("anybody");
        clients.iter().for_each(|client| drop(client.get("/orders")));
        relays.iter().any(Relay::is_used).then_some(())
    });
    relays.iter().for_each(|relay| relay.set_closed(true));
    traders.await_progress();
    let clients = cluster.clients("anybody");
    let statuses: Vec<u16> = clients.iter().map(|client| client.get("/orders").status).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 1, "its owner alone, and the others say so: {statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    relays.iter().for_each(|relay| relay.set_closed(false));
    until("every member to serve everybody", || {
        let is_served = |client: &api::Client| client.get("/orders").status == 200;
        clients.iter().all(is_served).then_some(())
    });
    traders.await_progress();
    traders.end().check(&cluster);
}

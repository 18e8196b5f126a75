//! Members of a cluster share the users: take them over, hand them over, and lose nothing.

use crate::support::cluster::{Cluster, Traders};

#[test]
fn users_of_a_killed_member_trade_on_with_the_others() {
    let mut cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    cluster.kill(1);
    traders.await_progress();
    cluster.await_even_shares();
    cluster.start_member(1);
    cluster.await_even_shares();
    traders.await_progress();
    traders.end().check(&cluster);
}

#[test]
fn a_member_that_stops_hands_its_users_over_first() {
    let mut cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    for number in 0..3 {
        assert!(cluster.take(number).program.stop().success());
        traders.await_progress();
        cluster.start_member(number);
        cluster.await_even_shares();
    }
    traders.await_progress();
    traders.end().check(&cluster);
}

#[test]
fn a_member_that_was_frozen_for_longer_than_its_lease_ends() {
    let mut cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    let mut frozen = cluster.take(2);
    frozen.program.freeze();
    traders.await_progress();
    cluster.await_even_shares();
    frozen.program.thaw();
    assert_eq!(frozen.program.wait().code(), Some(1));
    traders.await_progress();
    traders.end().check(&cluster);
}

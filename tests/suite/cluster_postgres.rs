//! Postgres decides who owns which users: it restarts, and it is out of reach for one member.

use crate::support::cluster::{Cluster, Traders};
use crate::support::postgres::Postgres;

#[test]
fn a_postgres_that_restarts_moves_no_users() {
    let mut cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    let taken = cluster.metric("node_partitions_taken_total");
    cluster.postgres.stop();
    cluster.await_expired_leases();
    cluster.postgres.start_again();
    traders.await_progress();
    cluster.await_even_shares();
    assert_eq!(cluster.metric("node_partitions_taken_total"), taken, "every owner was first");
    traders.end().check(&cluster);
}

#[test]
fn a_member_that_is_cut_off_from_postgres_loses_its_users_and_ends_when_it_hears_of_that() {
    let mut cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    cluster.to_postgres.hold();
    cluster.to_postgres.cut();
    let mut cut_off = cluster.take(2);
    traders.await_progress();
    cluster.await_even_shares();
    cluster.to_postgres.release();
    assert_eq!(cut_off.program.wait().code(), Some(1));
    cluster.start_member(2);
    cluster.await_even_shares();
    traders.await_progress();
    traders.end().check(&cluster);
}

/// A cluster whose Postgres has a standby, trades while the primary is lost in this way and the standby takes
/// its place.
fn fail_over(lose: impl FnOnce(&mut Postgres)) {
    let primary = Postgres::start();
    let standby = primary.start_standby();
    let both = primary.database_of_both(&standby);
    let mut cluster = Cluster::start_with(primary, both, &[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    lose(&mut cluster.postgres);
    standby.promote();
    traders.await_progress();
    cluster.await_even_shares();
    traders.await_progress();
    traders.end().check(&cluster);
}

#[test]
fn a_standby_takes_the_place_of_a_postgres_that_is_killed() {
    fail_over(Postgres::kill);
}

#[test]
fn a_standby_takes_the_place_of_a_postgres_that_is_frozen() {
    fail_over(|primary| primary.pause());
}

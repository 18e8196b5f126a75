//! Postgres decides who owns which users: it restarts, and it is out of reach for one member.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::json;

use crate::support::Server;
use crate::support::api::until;
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
    refuses_orders_truly(&cluster);
    cluster.postgres.start_again();
    traders.await_progress();
    cluster.await_even_shares();
    assert_eq!(cluster.metric("node_partitions_taken_total"), taken, "every owner was first");
    for member in cluster.running() {
        member.program.await_error("this node has its lease in Postgres again");
    }
    traders.end().check(&cluster);
}

/// While Postgres is away every member says so, whoever has the user, and none that anything was handed over.
fn refuses_orders_truly(cluster: &Cluster) {
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1});
    for client in cluster.clients("somebody") {
        for answer in [client.post("/order", &order), client.get("/orders")] {
            assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")));
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains("does not hear from its database"), "{detail}");
            assert_eq!(answer.headers["retry-after"], "1");
        }
    }
    for member in cluster.running() {
        let said = member.await_word("reasons", "postgres", "Postgres does not answer");
        assert_eq!(said.body["checks"]["postgres"], false);
        until("the connection to count as lost", || {
            (member.metric("projection_connected") == 0).then_some(())
        });
    }
}

#[test]
fn an_idle_member_notices_within_seconds_that_postgres_does_not_answer() {
    let cluster = Cluster::start(&[]);
    cluster.postgres.pause();
    // Nothing is written, and nothing is refused by the system of a process that hangs.
    for member in cluster.running() {
        until("the connection to count as lost", || {
            (member.metric("projection_connected") == 0).then_some(())
        });
        member.await_word("reasons", "postgres", "Postgres does not answer");
        member.program.await_error("Postgres is not following the log; new orders are refused");
    }
    cluster.postgres.resume();
    cluster.running().for_each(Server::await_ready);
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
    // The one that was lost may not even refuse a question.
    cluster.database = standby.database();
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

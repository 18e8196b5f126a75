//! A member whose clock is far from that of Postgres: one that starts is refused, and one that runs says so.

use serde_json::json;

use crate::support::api::until;
use crate::support::cluster::Cluster;
use crate::support::longbow;
use crate::support::wall_clock::WallClock;

#[test]
fn a_clock_far_from_that_of_postgres_keeps_a_member_out_and_shows_while_it_runs() {
    let mut cluster = Cluster::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::new(folder.path());
    clock.set(-60);
    let said = cluster.refusal_by(clock.show(longbow()), ("--node-id", "9"));
    let (_, rest) = said.split_once("this machine's clock is ").unwrap();
    let (seconds, rest) = rest.split_once(" s behind Postgres' clock").unwrap();
    assert!((55.0..65.0).contains(&seconds.parse::<f64>().unwrap()), "{said}");
    assert!(rest.contains("by 4 s") && rest.contains("NTP"), "{said}");

    clock.set(0);
    assert!(cluster.take(2).program.stop().success());
    cluster.start_member_by(clock.show(longbow()), 2);
    cluster.await_even_shares();
    clock.set(7);
    let member = cluster.member(2);
    let told = member.await_word("warnings", "clock", "ahead of Postgres' clock");
    assert_eq!((told.status, &told.body["checks"]["node"]), (200, &json!(true)), "it serves");
    member.program.await_error("ahead of Postgres' clock");
    let ahead = member.metric("node_clock_ahead_micros");
    assert!((6_000_000..8_000_000).contains(&ahead), "{ahead}");
    for number in 0..8 {
        let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 1});
        for client in cluster.clients(&format!("user-{number}")) {
            let answer = client.post("/order", &order);
            assert_eq!(answer.status, 201, "nodes understand each other yet: {}", answer.text);
        }
    }
    clock.set(0);
    member.program.await_error("near Postgres' clock again");
    until("no more warnings", || (member.readiness()?.body["warnings"] == json!({})).then_some(()));
}

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

#[test]
fn an_operator_drains_a_member() {
    let cluster = Cluster::start(&[]);
    let nodes = |action: &[&str]| {
        let command = [&["nodes"], action, &["--postgres", &cluster.database.url]].concat();
        let output = crate::support::run(&command);
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (is_done, said) = nodes(&["drain", "1"]);
    assert!(is_done && said.contains("node 1 hands over"), "{said}");
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace().take(4).map(str::to_owned).collect()
    };
    let listed = crate::support::api::until("its users to be elsewhere", || {
        let (_, list) = nodes(&[]);
        let listed: Vec<Vec<String>> = list.lines().skip(1).map(words).collect();
        (listed[1][3] == "0/64").then_some(listed)
    });
    assert_eq!(listed[1][1], "draining");
    let said = cluster.member(1).await_word("reasons", "running", "draining");
    assert_eq!((said.status, &said.body["state"]), (503, &"draining".into()));
    assert_eq!(cluster.member(2).readiness().expect("an answer").body["state"], "ready");
    assert_eq!((&*listed[0][3], &*listed[2][3]), ("32/64", "32/64"));
    // The first has the feed.
    assert_eq!(cluster.member(0).metric("node_leads_feed"), 1);
    assert!(nodes(&["drain", "0"]).0);
    crate::support::api::until("the feed to be handed over", || {
        let leads = [0, 1, 2].map(|member| cluster.member(member).metric("node_leads_feed"));
        let publishes = [0, 1, 2].map(|member| cluster.member(member).metric("bridge_up"));
        (leads == [0, 0, 1] && publishes == leads).then_some(())
    });
    let (is_done, said) = nodes(&["drain", "2"]);
    assert!(!is_done && said.contains("no node but 2 takes users"), "{said}");
    let (is_done, _) = nodes(&["drain", "7"]);
    assert!(!is_done, "there is no such node");

    let (data, url) = (cluster.data(0), &cluster.database.url);
    let verified = crate::offline::command("verify", &data, Some(url));
    assert_eq!(verified.code, 2, "{verified:?}");
    assert!(verified.errors.contains("only what a member of a cluster"), "{verified:?}");
}

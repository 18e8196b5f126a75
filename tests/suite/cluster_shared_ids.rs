//! An exchange that gives one id to orders of users whom different members have: each fill counts for the
//! order whose record shows it, and no order is cancelled in place of another.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api;
use crate::support::cluster::{Cluster, ClusterClient, id_of};
use crate::support::venue::{CANCEL, Venue};
use serde_json::{Value, json};
use ureq::http::Method;

/// Open orders are compared each second, and clients wait half a second for an outcome.
const EAGER: [&str; 4] = ["--cleanup-interval-seconds", "1", "--order-reply-timeout-ms", "500"];

/// A cluster at an exchange of its own, and two users whom different members have.
struct World {
    venue: Venue,
    cluster: Cluster,
    users: [ClusterClient; 2],
    owners: [i64; 2],
}

impl World {
    fn start() -> Self {
        let venue = Venue::start();
        let cluster = Cluster::start_at(venue.address(), &EAGER);
        let mut first = cluster.client("user-0");
        let owner =
            |user: &mut ClusterClient| cluster.owner_of(&id_of(&user.place("whose", Some(1))));
        let of_first = owner(&mut first);
        let another = (1..).find_map(|number| {
            let mut user = cluster.client(&format!("user-{number}"));
            let owner = owner(&mut user);
            (owner != of_first).then_some((user, owner))
        });
        let (second, of_second) = another.expect("no member has all users");
        Self { venue, cluster, users: [first, second], owners: [of_first, of_second] }
    }

    /// An order of each user, all under one id.
    fn place_under(&mut self, id: &str) -> [String; 2] {
        self.venue.give_external_ids(&[id, id]);
        self.users.each_mut().map(|user| id_of(&user.place(id, Some(40_000))))
    }

    fn await_order(&mut self, user: usize, order: &str, what: (&str, u64)) {
        let path = format!("/order/{order}");
        api::until(&format!("order {order} to be {what:?}"), || {
            let order = self.users[user].send(&Method::GET, &path, &Value::Null).body;
            (order["status"] == what.0 && order["filledShares"] == what.1).then_some(())
        });
    }

    /// Waits until the owners of both know that the id is shared.
    fn await_news(&self, ids: u64) {
        api::until("the owners to know", || {
            (self.cluster.metric("orders_second_external_ids_total") >= 2 * ids).then_some(())
        });
    }
}

#[test]
fn a_fill_counts_for_the_order_whose_record_shows_it() {
    let mut world = World::start();
    let [first, second] = world.place_under("7");
    // Perhaps before anybody knows.
    world.venue.fill(&second, 400, 1);
    world.await_order(1, &second, ("filled", 1));
    world.await_order(0, &first, ("submitted", 0));
    world.await_news(1);
    let [third, fourth] = world.place_under("8");
    world.await_news(2);
    world.venue.fill(&third, 400, 1);
    world.await_order(0, &third, ("filled", 1));
    world.await_order(1, &fourth, ("submitted", 0));
    world.venue.fill(&first, 400, 1);
    world.await_order(0, &first, ("filled", 1));
    world.await_order(1, &second, ("filled", 1));
}

#[test]
fn no_order_is_cancelled_in_place_of_another() {
    let mut world = World::start();
    let [first, second] = world.place_under("7");
    world.await_news(1);
    let path = format!("/order/{first}");
    let cancel = world.users[0].send(&Method::DELETE, &path, &json!(null));
    assert_eq!(cancel.status, 202, "{}", cancel.text);
    world.venue.await_queries_of(&[&second], 2);
    assert_eq!(world.venue.requests(CANCEL).len(), 0, "it may mean the other one");
    world.venue.fill(&second, 400, 1);
    world.await_order(1, &second, ("filled", 1));
    world.await_order(0, &first, ("cancelled", 0));
}

#[test]
fn who_takes_over_one_of_them_knows_of_the_other() {
    let mut world = World::start();
    let [first, second] = world.place_under("7");
    world.await_news(1);
    world.cluster.kill(usize::try_from(world.owners[1]).expect("the number of a member"));
    world.cluster.await_even_shares();
    world.venue.fill(&first, 400, 1);
    world.await_order(0, &first, ("filled", 1));
    world.await_order(1, &second, ("submitted", 0));
    world.venue.fill(&second, 400, 1);
    world.await_order(1, &second, ("filled", 1));
}

//! An exchange whose record of one order is unreadable, or makes the whole answer unreadable: all other
//! orders are still reconciled.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api::Client;
use crate::support::venue::{Reply, Request, Venue};
use crate::support::{self, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Frequent reconciliation, so that records supply what the feed lacks.
const QUICK: [&str; 4] = ["--cleanup-interval-seconds", "1", "--cleanup-grace-ms", "100"];
const ORDERS: usize = 24;

struct World {
    venue: Venue,
    server: Server,
    alice: Client,
    ids: Vec<String>,
    _data: TempDir,
}

impl World {
    /// Starts with orders filled only in the record, by four shares each.
    fn start() -> Self {
        let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
        let address = venue.address();
        let mut settings = vec!["--exchange", &address];
        settings.extend(QUICK);
        let server = Server::start(data.path(), &settings);
        let alice = server.user(data.path(), "alice");
        let ids = (0..ORDERS)
            .map(|_| alice.place_resting("IBM")["orderId"].as_str().unwrap().to_owned())
            .collect();
        Self { venue, server, alice, ids, _data: data }
    }

    fn fill_quietly(&self) {
        for id in &self.ids {
            self.venue.fill_quietly(id, 1, 4);
        }
    }

    fn await_fills_of_all_but(&self, odd: &str) {
        for id in self.ids.iter().filter(|id| *id != odd) {
            let order = self.alice.await_status(id, "partially_filled");
            assert_eq!(order["filledShares"], 4);
        }
    }

    fn shares(&self, id: &str) -> Value {
        self.alice.order(id)["filledShares"].clone()
    }
}

#[test]
fn a_record_that_cannot_be_read_takes_no_other_with_it() {
    let world = World::start();
    let odd = &world.ids[7];
    let external = world.venue.order(odd).external_id;
    world.venue.show(
        odd,
        Some(json!({"clientOrderId": odd, "externalOrderId": external, "status": "suspended"})),
    );
    world.fill_quietly();
    world.await_fills_of_all_but(odd);
    assert_eq!(world.shares(odd), 0);
    world.venue.show(odd, None);
    world.alice.await_status(odd, "partially_filled");
    assert!(world.server.metric("orders_unreadable_total") >= 1);
}

#[test]
fn an_execution_of_nothing_takes_no_other_with_it() {
    let world = World::start();
    world.fill_quietly();
    let real = &world.ids[3];
    for (number, odd) in [
        json!({"executionId": "zero", "priceInCents": 1, "numShares": 0, "timestamp": 1}),
        json!({"executionId": "half", "priceInCents": 1, "numShares": 0.5, "timestamp": 1}),
        json!({"executionId": "free", "priceInCents": 0, "numShares": 3, "timestamp": 1}),
        json!(7),
    ]
    .into_iter()
    .enumerate()
    {
        let id = &world.ids[3 + number];
        let mut record = world.venue.record(id);
        record["executions"].as_array_mut().unwrap().insert(0, odd);
        world.venue.show(id, Some(record));
    }
    world.await_fills_of_all_but("none");
    assert_eq!(world.shares(real), 4);
    assert!(world.server.metric("orders_unreadable_total") >= 4);
}

/// A reply that is unreadable as a whole.
type Hopeless = fn() -> Reply;
const HOPELESS: [(&str, Hopeless); 4] = [
    ("no JSON", || {
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"results\":[".to_vec())
    }),
    ("an error", || Reply::Status(503, vec![], "no".to_owned())),
    ("cut", || Reply::Cut),
    ("over 16 MiB", || Reply::Json(json!({"results": [], "more": "x".repeat(17 << 20)}))),
];

#[test]
fn an_answer_that_fails_as_a_whole_is_asked_for_in_parts() {
    let world = World::start();
    for (number, (what, hopeless)) in HOPELESS.into_iter().enumerate() {
        let odd = world.ids[number].clone();
        let asked = odd.clone();
        world.venue.on_query(move |request: &Request| match request.client_ids() {
            ids if ids.contains(&asked) => hopeless(),
            _ => Reply::Default,
        });
        // Filled only in the record; one more share each round.
        for id in &world.ids {
            world.venue.fill_quietly(id, 1, 1);
        }
        for id in world.ids.iter().filter(|id| **id != odd) {
            let wanted = json!(number + 1);
            support::api::until(&format!("{what}: the fills of the others"), || {
                (world.shares(id) == wanted).then_some(())
            });
        }
        assert_eq!(world.shares(&odd), json!(number), "{what}");
        // It is queried alone, and is reconciled once the exchange recovers.
        world.venue.off(support::venue::QUERY);
        support::api::until(&format!("{what}: the odd one's"), || {
            (world.shares(&odd) == json!(number + 1)).then_some(())
        });
    }
}

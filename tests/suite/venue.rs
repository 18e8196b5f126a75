//! The program works with an exchange written from the contract alone.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;

use crate::support::api::Client;
use crate::support::venue::{FEED, QUERY, Reply, SUBMIT, Venue, WEBHOOKS};
use crate::support::{self, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    venue: Venue,
    server: Server,
    alice: Client,
    _data: TempDir,
}

impl World {
    fn start(more: &[&str]) -> Self {
        let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
        let address = venue.address();
        let mut settings = vec!["--exchange", &address];
        settings.extend(more);
        let server = Server::start(data.path(), &settings);
        let alice = server.user(data.path(), "alice");
        Self { venue, server, alice, _data: data }
    }
}

fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

#[test]
fn an_order_is_accepted_filled_by_the_feed_and_another_cancelled() {
    let world = World::start(&[]);
    let World { venue, alice, .. } = &world;
    let order = alice.place_resting("SPY");
    assert_eq!(order["externalOrderId"], venue.order(id(&order)).external_id.as_str());
    venue.fill(id(&order), 1, 4);
    let order = alice.await_status(id(&order), "partially_filled");
    assert_eq!(order["filledShares"], 4, "{order}");
    let busted = venue.fill(id(&order), 1, 5);
    support::api::until("nine shares", || {
        (alice.order(id(&order))["filledShares"] == 9).then_some(())
    });
    venue.bust(&busted);
    venue.fill(id(&order), 1, 6);
    alice.await_status(id(&order), "filled");

    let other = alice.place_resting("IBM");
    let cancelled = alice.delete(&format!("/order/{}", id(&other)));
    assert_eq!((cancelled.status, &cancelled.body["ok"]), (200, &json!(true)));
    assert_eq!(venue.order(id(&other)).status, "cancelled");
    alice.await_status(id(&other), "cancelled");

    let unasked = alice.place_resting("IBM");
    venue.end_order(id(&unasked), "expired");
    alice.await_status(id(&unasked), "cancelled");

    venue.set(|options| options.rejects = Some(("halted".into(), "not today".into())));
    let refused =
        alice.post("/order", &json!({"position": "buy", "symbol": "SPY", "numShares": 1}));
    assert_eq!(refused.status, 422, "{}", refused.text);
    let path = format!("/order/{}", id(refused.order()));
    assert_eq!(alice.get(&path).body["status"], "failed");
}

#[test]
fn an_answer_that_is_lost_is_asked_about() {
    let world = World::start(&[]);
    let World { venue, alice, .. } = &world;
    venue.on_submit(|request| match request.number {
        1 => Reply::lost(request),
        _ => Reply::Default,
    });
    let order = alice.place_resting("SPY");
    assert_eq!(venue.await_requests(SUBMIT, 1).len(), 1);
    assert_eq!(venue.orders().len(), 1);
    assert!(venue.requests(QUERY).iter().any(|query| query.client_ids() == [id(&order)]));
    venue.off(SUBMIT);
    alice.place_resting("SPY");
}

#[test]
fn prices_come_and_the_feed_goes_on_where_it_was_cut() {
    let world = World::start(&[]);
    let World { venue, server, alice, .. } = &world;
    let mut stream =
        support::events::EventStream::subscribe(&server.address, &alice.token, &["SPY"]);
    venue.trade("SPY", 12_345, 100);
    assert_eq!(stream.await_price("SPY").0, 12_345);
    let (session, sequence) = venue.position();
    venue.cut_feed();
    venue.trade("SPY", 12_346, 100);
    assert_eq!(stream.await_price("SPY").0, 12_346);
    let again = venue.await_requests(FEED, 2).remove(1);
    assert_eq!(again.query["session"], session);
    assert_eq!(again.query["from"], (sequence + 1).to_string());

    venue.new_session("another");
    venue.trade("SPY", 12_347, 100);
    // It may have come before the new feed began.
    venue.await_more_requests(FEED, 1);
    support::api::until("the next day's price", || {
        venue.trade("SPY", 12_348, 100);
        (alice.get("/symbol/SPY").body["priceInCents"] == 12_348).then_some(())
    });

    // The exchange goes down and comes back, and replays the fills in between.
    let order = alice.place_resting("SPY");
    let listen = venue.address().strip_prefix("http://").unwrap().to_owned();
    venue.close();
    venue.fill(id(&order), 1, 10);
    venue.listen(&listen);
    alice.await_status(id(&order), "filled");
}

#[test]
fn fills_come_by_webhook_alone() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    venue.set(|options| (options.webhook, options.orders_on_feed) = (true, false));
    let secrets = data.path().join("secrets");
    fs::write(&secrets, "a secret that both sides know of!\n").unwrap();
    // A port that is free now, for the address to register.
    let listen = support::ports::free_address();
    let url = format!("http://{listen}/exchange/trades");
    let address = venue.address();
    let settings = [
        ["--exchange", &address, "--listen", &listen],
        ["--webhook-url", &url, "--webhook-secret-file", secrets.to_str().unwrap()],
    ];
    let server = Server::start(data.path(), settings.as_flattened());
    let alice = server.user(data.path(), "alice");
    venue.await_requests(WEBHOOKS, 1);
    let order = alice.place_resting("SPY");
    venue.fill(id(&order), 1, 10);
    alice.await_status(id(&order), "filled");
    support::api::until("the post to be confirmed", || {
        venue.posts().iter().any(|(_, status)| *status == 204).then_some(())
    });
}

//! `account` and `position` events on the order stream: nothing that moved an account is missed, also by who
//! is cut off meanwhile or resumes after a restart.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api;
use crate::support::events::{Event, EventStream};
use crate::support::world::World;
use serde_json::{Value, json};
use ureq::http::Request;

const CASH: [&str; 4] = ["--account-mode", "cash", "--opening-balance-cents", "100000"];

fn stream(world: &World, last_id: Option<&str>) -> EventStream {
    let resume = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let token = &world.alice.token;
    let request = format!(
        "GET /orders/stream?account=1 HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{resume}\r\n"
    );
    EventStream::send(&world.server.address, &request)
}

/// What a client knows of an account.
#[derive(Default)]
struct Client {
    account: Value,
    position: Value,
    last_id: Option<String>,
}

impl Client {
    fn take(&mut self, event: &Event) {
        match event.name.as_str() {
            "account" => {
                let rises = event.data["version"].as_u64() >= self.account["version"].as_u64();
                assert!(rises, "{event:?} after {}", self.account);
                self.account = event.data.clone();
            }
            "position" => self.position = event.data.clone(),
            _ => {}
        }
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
    }

    /// Reads until an order has so many shares filled.
    fn read_until_filled(&mut self, stream: &mut EventStream, order: &str, shares: u64) {
        stream.await_event("the fill", |event| {
            self.take(event);
            event.data["orderId"] == order && event.data["filledShares"] == shares
        });
    }
}

fn deposit(world: &World, id: &str, cents: i64) {
    let body = json!({"id": id, "amountInCents": cents, "by": "carol", "reason": "wire"});
    let request = Request::post(format!("{}/accounts/alice/deposits", world.server.admin));
    let answer = api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn whoever_sees_an_order_has_seen_its_account() {
    let mut world = World::start(&CASH);
    let (mut client, mut events) = (Client::default(), stream(&world, None));
    let order = world.buy(10);
    world.venue.fill(&order, 100, 4);
    client.read_until_filled(&mut events, &order, 4);
    assert_eq!(
        (&client.account["cashInCents"], &client.account["reservedCashInCents"]),
        (&json!(99_600), &json!(600))
    );
    assert_eq!(
        (&client.position["symbol"], &client.position["shares"], &client.position["costInCents"]),
        (&json!("SPY"), &json!(4), &json!(400))
    );

    deposit(&world, "d1", 50);
    events.await_event("the deposit", |event| {
        client.take(event);
        event.data["cashInCents"] == 99_650
    });

    // Away, while an order is filled and cash comes.
    drop(events);
    world.venue.fill(&order, 100, 2);
    world.await_filled(&order, 6);
    deposit(&world, "d2", 1);
    let mut events = stream(&world, client.last_id.as_deref());
    client.read_until_filled(&mut events, &order, 6);
    assert_eq!(
        (&client.account["cashInCents"], &client.position["shares"]),
        (&json!(99_451), &json!(6))
    );

    // Away, while the server restarts.
    drop(events);
    world.venue.fill(&order, 100, 1);
    world.await_filled(&order, 7);
    deposit(&world, "d3", 2);
    world.restart(|_venue| {});
    let mut events = stream(&world, client.last_id.as_deref());
    client.read_until_filled(&mut events, &order, 7);
    let account = world.alice.get("/account").body;
    for field in ["cashInCents", "reservedCashInCents", "depositsInCents", "version"] {
        assert_eq!(client.account[field], account[field], "{field}");
    }
    assert_eq!(client.position["shares"], 7);
}

#[test]
fn only_who_asks_gets_them() {
    let world = World::start(&CASH);
    let mut events = world.alice.order_stream().unwrap();
    let order = world.buy(1);
    world.venue.fill(&order, 100, 1);
    events.await_event("the fill", |event| {
        assert!(event.name != "account" && event.name != "position", "{event:?}");
        event.data["filledShares"] == 1
    });
    let wrong = world.alice.get("/orders/stream?account=yes");
    assert_eq!((wrong.status, &wrong.body["field"]), (400, &json!("account")));
}

//! No client sees an event without data, be it for an id, a heartbeat or a `retry:`.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use crate::support::clients::{LineClient, Seen, SseClient};
use crate::support::events::EventStream;
use crate::support::market::Market;
use crate::support::{Server, token};
use serde_json::{Value, json};

/// Starts a client for an address and a token.
type Start = fn(&str, &str) -> LineClient;

/// A scripted market, and streams with a heartbeat after a second of silence.
struct World {
    data: tempfile::TempDir,
    market: Market,
    server: Server,
}

impl World {
    fn start() -> std::io::Result<Self> {
        let data = tempfile::tempdir()?;
        let market = Market::start(&["SPY", "IBM"]);
        let settings = ["--exchange", &market.address, "--heartbeat-seconds", "1"];
        let server = Server::start(data.path(), &settings);
        Ok(Self { data, market, server })
    }

    /// Waits for heartbeats, which older streams have as well.
    fn await_heartbeats(&self, token: &str, count: usize) {
        let stream = EventStream::get(&self.server.address, token, "symbols=SPY", "");
        stream.await_heartbeats(count);
    }
}

fn next(client: &mut LineClient) -> Seen {
    let seen = client.next();
    assert_ne!(seen.data, Value::Null, "an event without data: {seen:?}");
    seen
}

fn sees_no_empty_event(start: Start) {
    let world = World::start().unwrap();
    let token = token(world.data.path(), "alice");
    for query in ["", "&mode=every&orders=1"] {
        let address = format!("{}/subscribe?symbols=SPY,IBM{query}", world.server.address);
        let mut client = start(&address, &token);
        assert_eq!(next(&mut client).name, "open");
        let mut id = String::new();
        for round in 1..=2 {
            world.await_heartbeats(&token, 2);
            let cents = 1_000 + round;
            let sequence = world.market.print("SPY", cents);
            let seen = loop {
                let seen = next(&mut client);
                // The snapshot may come first.
                if seen.price() == ("SPY", cents) && !seen.id.is_empty() {
                    break seen;
                }
            };
            let place = seen.id.split('/').next().unwrap();
            assert!(place.ends_with(&format!("-{sequence}")), "{seen:?} is no id of {sequence}");
            assert_ne!(seen.id, id);
            id = seen.id;
        }
    }

    let alice = world.server.user(world.data.path(), "alice");
    let mut orders = start(&format!("{}/orders/stream", world.server.address), &token);
    assert_eq!(next(&mut orders).name, "open");
    world.await_heartbeats(&token, 2);
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 1});
    alice.post("/order", &order);
    assert_eq!(next(&mut orders).data["status"], "pending");
    world.server.program.ask_to_stop();
    while next(&mut orders).name != "goodbye" {}
}

#[test]
fn with_fetch_event_source() {
    sees_no_empty_event(LineClient::fetch_event_source);
}

#[test]
fn with_sseclient() {
    sees_no_empty_event(LineClient::sseclient);
}

#[test]
fn with_sseclient_py() {
    sees_no_empty_event(LineClient::sseclient_py);
}

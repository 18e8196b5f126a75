//! A server with default settings beside the independent exchange, and the server's data.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::Request;

use super::api::{self, Answer, Client, until};
use super::venue::{Order, Venue, signature};
use super::{PATIENCE, Server};

/// The webhook secret.
const SECRET: &str = "a secret that both sides know of!";

pub(crate) struct World {
    pub venue: Venue,
    pub server: Server,
    pub alice: Client,
    pub bob: Client,
    more: Vec<String>,
    data: TempDir,
}

impl World {
    pub(crate) fn start(more: &[&str]) -> Self {
        let (venue, data) = (Venue::start(), tempfile::tempdir().expect("a folder"));
        let secrets = data.path().join("secrets");
        std::fs::write(&secrets, format!("{SECRET}\n")).expect("a file");
        let mut more: Vec<String> = more.iter().map(|&setting| setting.to_owned()).collect();
        let secrets = secrets.to_str().expect("a printable path").to_owned();
        more.extend(["--webhook-secret-file".to_owned(), secrets]);
        let server = Self::serve(&venue, &data, &more);
        let [alice, bob] = ["alice", "bob"].map(|name| server.user(data.path(), name));
        Self { venue, server, alice, bob, more, data }
    }

    /// The server's data directory.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    fn serve(venue: &Venue, data: &TempDir, more: &[String]) -> Server {
        let address = venue.address();
        let mut settings = vec!["--exchange", &address];
        settings.extend(more.iter().map(String::as_str));
        Server::start(data.path(), &settings)
    }

    /// Kills the server, lets the exchange continue alone, and starts the server again.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce(&Venue)) {
        self.server.program.kill_in_place();
        meanwhile(&self.venue);
        self.server = Self::serve(&self.venue, &self.data, &self.more);
        let [alice, bob] = ["alice", "bob"].map(|name| self.server.user(self.data.path(), name));
        (self.alice, self.bob) = (alice, bob);
    }

    /// Places an accepted limit order of Alice to buy SPY at a dollar.
    pub(crate) fn buy(&self, shares: u64) -> String {
        buy(&self.alice, "SPY", shares)
    }

    /// Waits until a number of shares of Alice's order are filled.
    pub(crate) fn await_filled(&self, id: &str, shares: u64) -> Value {
        self.alice.await_order(&format!("{shares} filled shares of {id}"), id, |order| {
            (order["filledShares"] == shares).then(|| order.clone())
        })
    }

    /// Waits until each of these orders was queried so often that the first answer from now on has been
    /// processed.
    pub(crate) fn await_answers_about(&self, ids: &[&str]) {
        self.venue.await_queries_of(ids, 3);
    }

    /// Waits until both sides agree on Alice's order. Returns the exchange's.
    pub(crate) fn await_agreement(&self, id: &str) -> Order {
        self.alice.await_order(&format!("agreement about {id}"), id, |ours| {
            let theirs = self.venue.order(id);
            let filled = theirs.filled_shares();
            let status = match theirs.status.as_str() {
                "open" if filled == 0 => "submitted",
                "open" => "partially_filled",
                "expired" => "cancelled",
                "rejected" => "failed",
                other => other,
            };
            (ours["filledShares"] == filled && ours["status"] == status).then_some(theirs)
        })
    }

    /// Waits until earlier feed lines are processed and the feed position is recorded.
    pub(crate) fn await_the_feed(&self) {
        let order = self.buy(1);
        self.venue.fill(&order, 100, 1);
        self.alice.await_status(&order, "filled");
    }

    /// Waits until a record of the feed position, which is logged each second, follows everything logged
    /// before.
    pub(crate) fn await_positions(&self) {
        let mut seen = std::collections::BTreeSet::new();
        until("the feed's position to be logged", || {
            self.venue.trade("SPY", 100, 1);
            seen.insert(self.server.metric("index_position"));
            (seen.len() > 4).then_some(())
        });
    }

    /// Posts signed lines, as the exchange does.
    pub(crate) fn post_lines(&self, lines: &[Value]) -> Answer {
        let (session, _) = self.venue.position();
        let body = json!({"session": session, "lines": lines}).to_string();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let seconds = i64::try_from(seconds.as_secs()).expect("it is early enough");
        let header = format!("t={seconds},v1={}", signature(SECRET, seconds, &body));
        let request = Request::post(format!("{}/exchange/trades", self.server.address));
        let request = request.header("X-Signature", header).body(body.into_bytes());
        api::send(request.expect("a valid request")).expect("an answer")
    }
}

/// Places an accepted order at a dollar.
pub(crate) fn buy(client: &Client, symbol: &str, shares: u64) -> String {
    let order =
        json!({"position": "buy", "symbol": symbol, "numShares": shares, "priceInCents": 100});
    let answer = client.post("/order", &order);
    assert_eq!(answer.status, 201, "{}", answer.text);
    id(&answer.body).to_owned()
}

pub(crate) fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap_or_else(|| panic!("no order: {order}"))
}

/// Tracks what was read of each order, and checks that it only grows.
#[derive(Default)]
pub(crate) struct Growing(HashMap<String, Value>);

impl Growing {
    /// Reads all orders of a user. No fill, version or final status may be taken back.
    pub(crate) fn look(&mut self, client: &Client) -> Vec<Value> {
        let orders = client.all_orders();
        for order in &orders {
            let Some(before) = self.0.insert(id(order).to_owned(), order.clone()) else { continue };
            for field in ["version", "filledShares", "filledValueInCents"] {
                let [then, now] = [&before, order].map(|order| order[field].as_u64());
                assert!(then <= now, "{field} went back: {before}, then {order}");
            }
            if before["status"] == "filled" {
                assert_eq!(order["status"], "filled", "{before}, then {order}");
            }
            assert_ne!(order["status"], "failed", "{before}, then {order}");
        }
        assert_eq!(orders.len(), self.0.len(), "an order is gone");
        orders
    }

    /// Reads for at least this long, and until the condition holds.
    pub(crate) fn look_until(
        &mut self,
        client: &Client,
        at_least: Duration,
        mut is_so: impl FnMut(&[Value]) -> bool,
    ) {
        let started = Instant::now();
        loop {
            let orders = self.look(client);
            if is_so(&orders) && started.elapsed() >= at_least {
                return;
            }
            assert!(started.elapsed() < at_least + PATIENCE, "waited too long: {orders:?}");
            std::thread::sleep(api::LOOK_INTERVAL);
        }
    }
}

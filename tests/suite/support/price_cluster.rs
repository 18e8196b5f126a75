//! Several nodes with a Postgres, a Redis and an exchange of their own, for tests of prices.

use std::path::Path;

use serde_json::Value;

use super::api::{Client, until};
use super::events::{Event, EventStream};
use super::postgres::{Database, Postgres};
use super::redis::Redis;
use super::relay::Relay;
use super::venue::Venue;
use super::{Server, run};

pub(crate) struct Node {
    pub server: Server,
    pub alice: Client,
    pub token: String,
    _data: tempfile::TempDir,
}

pub(crate) struct Cluster {
    pub nodes: Vec<Node>,
    /// The folder of the keys that they share.
    pub keys: String,
    pub venue: Venue,
    pub redis: Redis,
    pub database: Database,
    pub postgres: Postgres,
    /// The first node reaches Postgres by this.
    pub to_postgres: Relay,
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts so many nodes, one after the other: the first reads the feed.
    pub(crate) fn start(nodes: usize) -> Self {
        let (venue, redis, postgres) = (Venue::start(), Redis::start(), Postgres::start());
        let database = postgres.database();
        let to_postgres = Relay::start(&format!("http://{}", postgres.address()));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = folder.path().join("keys").to_str().expect("a printable path").to_owned();
        assert!(run(&["keys", "init", &keys]).status.success());
        let mut cluster = Self {
            nodes: Vec::new(),
            keys,
            venue,
            redis,
            database,
            postgres,
            to_postgres,
            _folder: folder,
        };
        for _ in 0..nodes {
            let node = cluster.start_node(cluster.nodes.len());
            cluster.nodes.push(node);
        }
        assert_eq!(cluster.holder(), 0);
        cluster
    }

    pub(crate) fn start_node(&self, number: usize) -> Node {
        let data = tempfile::tempdir().expect("a temporary folder");
        let server = self.node_with_redis(data.path(), number, &self.redis.url());
        server.await_ready();
        let token = self.token("alice");
        let alice = Client::new(&server.address, &token);
        Node { server, alice, token, _data: data }
    }

    /// A node with this Redis, which need not be ready.
    pub(crate) fn node_with_redis(&self, data: &Path, number: usize, redis: &str) -> Server {
        let exchange = self.venue.address();
        let by_relay = self.to_postgres.address.replace("http://", "");
        let postgres = match number {
            0 => self.database.url.replace(&self.postgres.address(), &by_relay),
            _ => self.database.url.clone(),
        };
        let number = format!("--node-id={number}");
        let settings = ["--exchange", &exchange, "--redis", redis, "--postgres"];
        let more = [postgres.as_str(), "--commit=postgres", "--migrate", &number];
        let keys = ["--keys", self.keys.as_str(), "--shards", "1"];
        Server::start_unready(data, &[&settings[..], &more[..], &keys[..]].concat())
    }

    /// A user's token, which every node takes.
    pub(crate) fn token(&self, user: &str) -> String {
        let output = run(&["token", "--keys", &self.keys, "--user", user]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// The node that reads the feed.
    pub(crate) fn holder(&self) -> usize {
        until("a node to read the feed", || {
            self.nodes.iter().position(|node| node.server.metric("node_leads_feed") == 1)
        })
    }
}

impl Node {
    pub(crate) fn watch(&self, symbols: &[&str]) -> EventStream {
        EventStream::subscribe(&self.server.address, &self.token, symbols)
    }

    pub(crate) fn resume(&self, symbols: &str, id: &str) -> EventStream {
        let headers = format!("Last-Event-ID: {id}\r\n");
        EventStream::get(&self.server.address, &self.token, &format!("symbols={symbols}"), &headers)
    }

    pub(crate) fn quote(&self, symbol: &str) -> Value {
        self.alice.get(&format!("/symbol/{symbol}")).body
    }
}

/// Reads prices up to the one with this many cents.
pub(crate) fn prices_up_to(stream: &mut EventStream, cents: u64) -> Vec<Event> {
    let mut prices = Vec::new();
    loop {
        let price = stream.await_event("a price", |event| event.name == "price");
        let is_last = price.data["priceInCents"] == cents;
        prices.push(price);
        if is_last {
            return prices;
        }
    }
}

/// Trades at ever other prices, above `cents`, until the last one comes in all streams with an id that
/// covers it: ids are not in every event, and name a position that may be before the event's own.
/// Returns the cents, and what came with each stream.
pub(crate) fn trade_until_ids<'a>(
    venue: &Venue,
    streams: impl IntoIterator<Item = &'a mut EventStream>,
    mut cents: u64,
) -> (u64, Vec<Event>) {
    let mut streams: Vec<_> = streams.into_iter().collect();
    until("ids", || {
        cents += 1;
        let traded = venue.trade("SPY", cents, 1);
        let last =
            |stream: &mut &mut EventStream| prices_up_to(stream, cents).pop().expect("the last");
        let last: Vec<Event> = streams.iter_mut().map(last).collect();
        let covers = |event: &Event| sequence_of(event).is_some_and(|sequence| sequence >= traded);
        last.iter().all(covers).then_some((cents, last))
    })
}

/// The sequence of an event's id, `session-sequence`.
fn sequence_of(event: &Event) -> Option<u64> {
    let (_, sequence) = event.id.as_ref()?.rsplit_once('-')?;
    Some(sequence.parse().expect("a sequence"))
}

pub(crate) fn await_feed(stream: &mut EventStream, is_up: bool) {
    stream.await_event("the state of the feed", |event| {
        event.name == "feed" && event.data["up"] == is_up
    });
}

pub(crate) const FIGURES: [&str; 6] =
    ["priceInCents", "openInCents", "highInCents", "lowInCents", "volume", "timestamp"];

/// Waits until a node tells the same of a symbol as another.
pub(crate) fn await_same_quote(one: &Node, other: &Node, symbol: &str) {
    until("the same figures", || {
        let (this, that) = (one.quote(symbol), other.quote(symbol));
        let is_same = FIGURES.iter().all(|name| this[name] == that[name]);
        (is_same && this["stale"] == false).then_some(())
    });
}

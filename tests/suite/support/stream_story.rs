//! The test cases for every client of a price stream, with scripted prices.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::clients::{Seen, SseClient, sequence_of};
use super::market::Market;
use super::proxy::Proxy;
use super::relay::Relay;
use super::{PATIENCE, Server, api, token};

/// What the clients request.
pub(crate) const PATH: &str = "/subscribe?symbols=SPY,IBM,BAC";
/// The user of the streams.
pub(crate) const USER: &str = "alice";
/// Prints in a row, each seen before the next.
const PRINTS: usize = 20;
/// How early a client's timer may fire.
const TIMER_SLACK: Duration = Duration::from_millis(20);

/// A server and its surroundings: exchange - server - proxy, if any - relay - client.
pub(crate) struct World {
    pub market: Market,
    pub server: Server,
    pub proxy: Option<Proxy>,
    pub relay: Relay,
    pub token: String,
    data: TempDir,
    last_cents: i64,
}

impl World {
    /// Starts a server that clients reach directly.
    pub(crate) fn start() -> Self {
        Self::behind(|_| None)
    }

    /// Starts a server behind a proxy.
    pub(crate) fn behind(proxy: impl FnOnce(&Server) -> Option<Proxy>) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let market = Market::start(&["SPY", "IBM", "BAC"]);
        let server = Server::start(data.path(), &["--exchange", &market.address]);
        let proxy = proxy(&server);
        let relay = Relay::start(proxy.as_ref().map_or(&server.address, |proxy| &proxy.address));
        let token = token(data.path(), USER);
        if let Some(proxy) = &proxy {
            proxy.await_server(&token);
        }
        Self { market, server, proxy, relay, token, data, last_cents: 1_000 }
    }

    /// Where the clients connect to.
    pub(crate) fn address(&self) -> String {
        format!("{}{PATH}", self.relay.address)
    }

    /// Prints a trade at a new price.
    pub(crate) fn print(&mut self, symbol: &str) -> Print {
        self.last_cents += 1;
        let sequence = self.market.print(symbol, self.last_cents);
        Print { symbol: symbol.to_owned(), cents: self.last_cents, sequence }
    }

    /// Prints a trade at a new price, and waits until the server shows it.
    pub(crate) fn print_and_publish(&mut self, symbol: &str) -> Print {
        let print = self.print(symbol);
        let user = api::Client::new(&self.server.address, &self.token);
        api::until("the price to be known", || {
            let known = user.get(&format!("/symbol/{symbol}"));
            (known.body["priceInCents"] == print.cents).then_some(())
        });
        print
    }

    /// Waits until the server has `count` streams, without sends that could reveal a closed socket.
    pub(crate) fn await_streams(&self, count: u64) {
        let said = || {
            let names = ["stream_sends_total", "stream_heartbeats_total"];
            names.map(|name| self.server.metric(name))
        };
        let before = said();
        api::until(&format!("{count} streams"), || {
            (self.server.metric("streams_open") == count).then_some(())
        });
        assert_eq!(said(), before, "noticed without having to send");
    }
}

/// One trade.
#[derive(Debug, PartialEq)]
pub(crate) struct Print {
    symbol: String,
    cents: i64,
    sequence: u64,
}

impl Print {
    fn is(&self, seen: &Seen) -> bool {
        seen.price() == (&self.symbol, self.cents)
    }
}

pub(crate) fn expect_open(client: &mut impl SseClient) {
    let open = client.next();
    assert_eq!(open.name, "open", "{open:?}");
    assert_eq!(open.data["symbols"], json!(["SPY", "IBM", "BAC"]));
}

pub(crate) fn expect_print(client: &mut impl SseClient, print: &Print) -> Seen {
    let seen = client.next();
    assert!(print.is(&seen), "{seen:?} is not {print:?}");
    seen
}

/// Expects one price of each of these, in any order.
pub(crate) fn expect_snapshot(client: &mut impl SseClient, prints: &[Print]) {
    let mut left: Vec<&Print> = prints.iter().collect();
    while !left.is_empty() {
        let seen = client.next();
        let place = left.iter().position(|print| print.is(&seen));
        left.remove(place.unwrap_or_else(|| panic!("{seen:?} is none of {left:?}")));
    }
}

/// The reconnect delay that a stream tells its client.
fn retry_of(answer: &str) -> Duration {
    let retry = answer.rsplit_once("retry: ").expect("a retry").1;
    let digits: String = retry.chars().take_while(char::is_ascii_digit).collect();
    Duration::from_millis(digits.parse().expect("milliseconds"))
}

/// A new client sees the snapshot, then each print before the next one, with ids that cover what it has
/// seen. The relay's first request must be this client's.
pub(crate) fn sees_each_print<C: SseClient>(
    world: &mut World,
    start: impl FnOnce(&World) -> C,
) -> C {
    let known = ["SPY", "IBM"].map(|symbol| world.print_and_publish(symbol));
    let mut client = start(world);
    expect_open(&mut client);
    expect_snapshot(&mut client, &known);
    let retry = retry_of(&world.relay.await_answer(&world.relay.await_request(1), "retry: "));
    assert!((1_000..=5_000).contains(&retry.as_millis()), "{retry:?}");
    for round in 0..PRINTS {
        let print = world.print(["SPY", "IBM", "BAC"][round % 3]);
        let seen = expect_print(&mut client, &print);
        // An id covers everything sent before it, and nothing after it.
        let id = seen.sequence().unwrap_or(0);
        assert!(id <= print.sequence, "{seen:?} knows of more than {print:?}");
    }
    client
}

/// Prints until the client has an id that covers a print of SPY; returns the id's sequence.
pub(crate) fn await_id(world: &mut World, client: &mut impl SseClient) -> u64 {
    let spy = world.print("SPY");
    expect_print(client, &spy);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no id in {PATIENCE:?}");
        let print = world.print("IBM");
        let seen = expect_print(client, &print);
        if let Some(sequence) = seen.sequence().filter(|&sequence| sequence >= spy.sequence) {
            assert_eq!(seen.id, format!("{}-{sequence}", world.market.session()));
            return sequence;
        }
    }
}

/// A disconnected client reconnects by itself and gets only what changed.
pub(crate) fn resumes(world: &mut World, client: &mut impl SseClient) {
    let known = await_id(world, client);
    let before = world.relay.await_request(1);
    world.relay.hold();
    world.relay.cut();
    world.relay.await_end(&before);
    world.await_streams(0);
    let missed = world.print_and_publish("IBM");
    world.relay.release();
    let again = world.relay.await_request(2);
    let id = again.last_event_id.expect("the client sends Last-Event-ID");
    assert!(sequence_of(&id).is_some_and(|sequence| sequence >= known), "{id} is before {known}");
    expect_open(client);
    expect_print(client, &missed);
    let next = world.print("BAC");
    expect_print(client, &next);
    assert_eq!(world.server.metric("streams_resumed_total"), 1);
}

/// A client learns that the exchange is down, and that it is back.
pub(crate) fn hears_of_the_feed(world: &mut World, client: &mut impl SseClient) {
    world.market.go_away();
    let down = client.next();
    assert_eq!((down.name.as_str(), &down.data), ("feed", &json!({"up": false})));
    world.market.come_back();
    let up = client.next();
    assert_eq!((up.name.as_str(), &up.data), ("feed", &json!({"up": true})));
    let print = world.print("SPY");
    expect_print(client, &print);
}

/// A stopping server sends a goodbye and ends the stream. Returns the time of the end.
pub(crate) fn ends_with_goodbye(world: &mut World, client: &mut impl SseClient) -> Instant {
    world.server.program.ask_to_stop();
    let goodbye = client.next();
    assert_eq!(goodbye.name, "goodbye", "{goodbye:?}");
    let ended = world.relay.await_end(&world.relay.await_request(1));
    assert!(world.server.program.wait().success(), "a stop is no failure");
    ended
}

/// A stopping server sends a goodbye. Its client returns to the next server no earlier than told, and
/// gets a reset, because the exchange has begun another session meanwhile. Behind a proxy it returns
/// while the server is down, and must not give up.
pub(crate) fn comes_back_to_another_server(world: &mut World, client: &mut impl SseClient) {
    await_id(world, client);
    let before = world.relay.await_request(1);
    if world.proxy.is_none() {
        world.relay.hold();
    }
    let ended = ends_with_goodbye(world, client);
    world.market.begin_session();
    if world.proxy.is_some() {
        let away = world.relay.await_request(2);
        retry_of(&world.relay.await_answer(&away, "retry: "));
        let goodbye = client.next();
        assert_eq!(goodbye.name, "goodbye", "nobody is there yet: {goodbye:?}");
        world.relay.await_end(&away);
        world.relay.hold();
    }

    let [listen, admin] =
        [&world.server.address, &world.server.admin].map(|address| address.replace("http://", ""));
    let exchange = &world.market.address;
    let settings = ["--listen", &listen, "--admin-listen", &admin, "--exchange", exchange];
    world.server = Server::start(world.data.path(), &settings);
    let known = ["SPY", "IBM", "BAC"].map(|symbol| world.print_and_publish(symbol));
    if let Some(proxy) = &world.proxy {
        proxy.await_server(&world.token);
    }
    world.relay.release();
    expect_open(client);
    let reset = client.next();
    assert_eq!(reset.name, "reset", "{reset:?}");
    expect_snapshot(client, &known);
    let told = retry_of(&world.relay.await_answer(&before, "event: goodbye"));
    let stayed_away = world.relay.await_request(2).came - ended;
    let least = client.least_absence(told);
    assert!(stayed_away + TIMER_SLACK >= least, "away for {stayed_away:?}, told {told:?}");
}

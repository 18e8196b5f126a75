//! A hub over real loopback sockets, driven slice by slice.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::market::{
    Listing, MarketLimits, MarketWriter, Print, ShardWatch, Watchers, open_market,
};
use crate::types::{PriceCents, Symbol, SymbolIndex, TimestampMicros, UserId};

use super::{Hub, HubOptions, Next};
use crate::stream::{
    Heartbeat, Mode, NoOrders, OrderSource, ResumePoint, StreamLimits, StreamMetrics, StreamQuotas,
    StreamRequest,
};

pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) market: MarketWriter,
    pub(super) sequence: u64,
    pub(super) watch: Arc<ShardWatch>,
    quotas: Arc<StreamQuotas>,
}

pub(super) fn symbol(name: &str) -> Symbol {
    Symbol::new(name).unwrap()
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

impl World {
    pub(super) fn new(limits: StreamLimits) -> Self {
        Self::with_orders(limits, Box::new(NoOrders))
    }

    pub(super) fn with_orders(limits: StreamLimits, orders: Box<dyn OrderSource>) -> Self {
        let watch = Arc::new(ShardWatch::new());
        let (mut market, reader) =
            open_market(Watchers::new(vec![Arc::clone(&watch)]), MarketLimits::default());
        let listings: Vec<Listing> = ["IBM", "SPY", "AIG"]
            .map(|name| Listing {
                symbol: symbol(name),
                previous_close: PriceCents::new(1).ok(),
                open: None,
                session: None,
                source: Arc::from("test"),
                synthetic: false,
            })
            .into();
        market.list(&listings).unwrap();
        market.begin_session("7", 1);
        market.set_up(true);
        let metrics = StreamMetrics::default();
        let options = HubOptions { node: None, shard: 3, limits, metrics, orders };
        let hub = Hub::new(reader, Arc::clone(&watch), options).unwrap();
        let quotas = Arc::new(StreamQuotas::new(100, 100));
        Self { hub, market, sequence: 0, watch, quotas }
    }

    pub(super) fn print(&mut self, name: &str, cents: i64) {
        self.sequence += 1;
        let print = Print {
            symbol: self.index(name),
            price: PriceCents::new(cents).unwrap(),
            num_shares: 1,
            counts_volume: true,
            timestamp: TimestampMicros::new(self.sequence),
            sequence: self.sequence,
            execution: 0,
        };
        self.market.print(&print);
        self.market.end_batch(self.sequence);
    }

    pub(super) fn index(&self, name: &str) -> SymbolIndex {
        self.market.index_of(&symbol(name)).unwrap()
    }

    pub(super) fn request(&self, names: &[&str]) -> StreamRequest {
        let symbols = names.iter().map(|name| (symbol(name), self.index(name))).collect();
        let permit = self.quotas.reserve(&user("alice")).unwrap();
        StreamRequest {
            permit,
            symbols,
            mode: Mode::Latest,
            max_rate: None,
            heartbeat: Heartbeat::Comment,
            resume: None,
            orders: None,
        }
    }

    /// Opens a stream of the newest prices.
    pub(super) fn watch(&mut self, names: &[&str]) -> TcpStream {
        let request = self.request(names);
        self.open(request)
    }

    pub(super) fn open(&mut self, request: StreamRequest) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        self.hub.adopt(server.into(), request).unwrap();
        client
    }

    /// Runs slices until the condition holds; five seconds at most.
    pub(super) fn run_until(&mut self, mut condition: impl FnMut(&Hub) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !condition(&self.hub) {
            assert!(Instant::now() < deadline, "the hub did not get there");
            self.hub.run_slice();
        }
    }

    /// Lets every stream's next send carry an id.
    pub(super) fn make_ids_due(&mut self) {
        for connection in self.hub.connections.iter_mut() {
            connection.schedule.make_id_due();
        }
    }

    pub(super) fn is_any_blocked(&self) -> bool {
        self.hub.connections.iter().any(|connection| connection.schedule.is_blocked())
    }

    pub(super) fn run_idle(&mut self) {
        while self.hub.run_slice() != Next::Sleep {}
    }
}

/// Whether a hub has sent every stream what it owes it.
pub(super) fn has_sent_all(hub: &Hub) -> bool {
    let mut connections = hub.connections.iter();
    connections.all(|connection| !connection.schedule.is_blocked() && !connection.has_news())
}

/// Reads until the text has `wanted`; five seconds at most.
pub(super) fn read_until(client: &mut TcpStream, wanted: &str) -> String {
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = client.read(&mut chunk).unwrap();
        assert!(read > 0, "the stream ended before {wanted:?}: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&chunk[..read]);
        if String::from_utf8_lossy(&text).contains(wanted) {
            return String::from_utf8(text).unwrap();
        }
    }
}

/// All that is there to be read now.
pub(super) fn read_now(client: &mut TcpStream) -> String {
    client.set_nonblocking(true).unwrap();
    let mut text = Vec::new();
    let outcome = client.read_to_end(&mut text).map_err(|error| error.kind());
    assert!(matches!(outcome, Ok(_) | Err(ErrorKind::WouldBlock)), "{outcome:?}");
    client.set_nonblocking(false).unwrap();
    String::from_utf8(text).unwrap()
}

pub(super) fn prices(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("priceInCents")).collect()
}

#[test]
fn a_stream_starts_with_what_is_known_and_goes_on_with_what_changes() {
    let mut world = World::new(StreamLimits::default());
    world.print("SPY", 100);
    let mut client = world.watch(&["SPY", "IBM"]);
    world.run_idle();
    let text = read_until(&mut client, "\"priceInCents\":100");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(prices(&text).len(), 1, "IBM has never traded: {text}");
    world.print("SPY", 100);
    world.print("AIG", 5);
    world.print("IBM", 7);
    world.run_idle();
    let text = read_until(&mut client, "\"priceInCents\":7");
    assert_eq!(prices(&text).len(), 1, "nothing changed but IBM: {text}");
}

#[test]
fn several_changes_leave_in_one_send_and_end_with_an_id() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch(&["SPY", "IBM"]);
    world.print("SPY", 100);
    world.print("IBM", 200);
    world.print("SPY", 101);
    world.run_idle();
    assert_eq!(world.hub.metrics.sends.get(), 1);
    let text = read_until(&mut client, "id: 7-3\n\n");
    assert_eq!(prices(&text).len(), 2, "the older price of SPY is replaced: {text}");
    assert!(text.contains("\"priceInCents\":101"));
}

#[test]
fn a_resumed_stream_is_told_only_what_changed() {
    let mut world = World::new(StreamLimits::default());
    world.print("SPY", 100);
    world.print("IBM", 200);
    world.print("SPY", 101);
    let resume = |world: &World, id: &str| StreamRequest {
        resume: ResumePoint::parse(id),
        ..world.request(&["SPY", "IBM"])
    };
    let request = resume(&world, "7-2");
    let mut client = world.open(request);
    world.run_idle();
    let text = read_until(&mut client, "\"priceInCents\":101");
    assert_eq!(prices(&text).len(), 1, "{text}");
    assert!(!text.contains("event: reset"));
    for gone in ["6-2", "7-999"] {
        let request = resume(&world, gone);
        let mut client = world.open(request);
        world.run_idle();
        let text = read_until(&mut client, "\"priceInCents\":200");
        assert!(text.contains("event: reset"), "{gone}: {text}");
        assert_eq!(prices(&text).len(), 2);
    }
}

#[test]
fn a_client_that_does_not_read_gets_the_newest_when_it_does_and_costs_little() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch(&["SPY"]);
    let (mut cents, mut since_last_send) = (0, 0);
    // Full for good once a thousand prints in a row leave nothing to send.
    while since_last_send < 1_000 {
        let sends = world.hub.metrics.sends.get();
        cents += 1;
        world.print("SPY", cents);
        world.run_idle();
        since_last_send =
            if world.hub.metrics.sends.get() > sends { 0 } else { since_last_send + 1 };
        assert!(cents < 200_000, "the socket never fills");
    }
    let connection = world.hub.connections.iter().next().unwrap();
    assert!(connection.unsent.len() < 200, "at most the rest of one frame");
    let newest = format!("\"priceInCents\":{cents},");
    let reader = std::thread::spawn(move || read_until(&mut client, &newest));
    world.run_until(has_sent_all);
    let text = reader.join().unwrap();
    for frame in text.split("\n\n").filter(|frame| frame.contains("event: price")) {
        let whole = frame.lines().nth(1).is_some_and(|data| data.ends_with('}'));
        assert!(frame.starts_with("event: price\ndata: {") && whole, "{frame:?}");
    }
    assert!(prices(&text).len() + 900 < usize::try_from(cents).unwrap(), "prices were conflated");
}

#[test]
fn a_stream_that_stays_full_is_closed() {
    let limits = StreamLimits { stall: Duration::ZERO, ..StreamLimits::default() };
    let mut world = World::new(limits);
    let _never_reads = world.watch(&["SPY"]);
    let mut cents = 0;
    while world.hub.metrics.closed_stalled.get() == 0 {
        cents += 1;
        world.print("SPY", cents);
        world.run_idle();
        assert!(cents < 2_000_000, "never closed");
    }
    assert!(world.hub.is_empty());
}

#[test]
fn closed_clients_leave_nothing_behind() {
    let mut world = World::new(StreamLimits::default());
    let clients: Vec<_> = (0..3).map(|_| world.watch(&["SPY", "IBM"])).collect();
    let mut kept = world.watch(&["IBM", "SPY"]);
    drop(clients);
    world.run_until(|hub| hub.len() == 1);
    assert_eq!(world.hub.metrics.closed_by_client.get(), 3);
    world.print("SPY", 100);
    world.run_idle();
    read_until(&mut kept, "\"priceInCents\":100");
    drop(kept);
    world.run_until(Hub::is_empty);
    assert!(!world.watch.is_watched(world.index("SPY")), "nobody watches it any longer");
}

#[test]
fn a_rate_limit_holds_back_and_never_for_good() {
    let mut world = World::new(StreamLimits::default());
    let request = StreamRequest { max_rate: Some(20), ..world.request(&["SPY"]) };
    let mut client = world.open(request);
    world.run_idle();
    let sends = world.hub.metrics.sends.get();
    for cents in 1..=50 {
        world.print("SPY", cents);
        world.run_idle();
    }
    assert!(world.hub.metrics.sends.get() <= sends + 3, "the rest merges into the next slot");
    world.run_until(has_sent_all);
    read_until(&mut client, "\"priceInCents\":50,");
}

#[test]
fn a_silent_stream_is_kept_alive_and_told_of_the_feed() {
    let limits = StreamLimits { heartbeat: Duration::from_millis(1), ..StreamLimits::default() };
    let mut world = World::new(limits);
    let mut client = world.watch(&["SPY"]);
    world.run_until(|hub| hub.metrics.heartbeats.get() > 0);
    let text = read_until(&mut client, ": hb\n");
    assert!(!text.contains(": hb\n\n"), "a comment ends no block: {text}");
    world.market.set_up(false);
    world.run_idle();
    read_until(&mut client, "event: feed\ndata: {\"up\":false}\n\n");
    world.market.set_up(true);
    world.run_idle();
    read_until(&mut client, "event: feed\ndata: {\"up\":true}\n\n");
}

#[test]
fn a_stream_that_asks_for_events_is_kept_alive_by_them() {
    let limits = StreamLimits { heartbeat: Duration::from_millis(1), ..StreamLimits::default() };
    let mut world = World::new(limits);
    let request = StreamRequest { heartbeat: Heartbeat::Event, ..world.request(&["SPY"]) };
    let mut client = world.open(request);
    world.run_until(|hub| hub.metrics.heartbeats.get() > 0);
    read_until(&mut client, "event: heartbeat\ndata: {}\n\n");
}

/// The blocks of a stream, without its comments; each must have data.
fn blocks(text: &str) -> Vec<String> {
    let body = text.split_once("\r\n\r\n").map_or(text, |(_, body)| body);
    let lines: Vec<&str> = body.lines().filter(|line| !line.starts_with(':')).collect();
    let blocks = lines.split(|line| line.is_empty()).map(|lines| lines.join("\n"));
    let blocks: Vec<String> = blocks.filter(|block| !block.is_empty()).collect();
    for block in &blocks {
        assert!(block.contains("data: {"), "{block:?} in {text}");
        assert!(block.matches("id: ").count() <= 1, "{block:?}");
    }
    blocks
}

#[test]
fn the_id_stands_in_the_last_event_of_a_send_and_no_block_is_without_data() {
    for mode in [Mode::Latest, Mode::Every] {
        let mut world = World::new(StreamLimits::default());
        world.print("SPY", 100);
        world.run_idle();
        let request = StreamRequest { mode, ..world.request(&["SPY", "IBM"]) };
        let mut client = world.open(request);
        // Symbols that nobody watches move the feed as well.
        world.print("AIG", 5);
        world.run_idle();
        let first = blocks(&read_until(&mut client, "id: 7-2\n\n"));
        assert!(first[0].starts_with("event: open\nretry: "), "{first:?}");
        assert!(first[1].starts_with("event: price\n") && first[1].ends_with("\nid: 7-2"));
        assert_eq!(first.len(), 2);
        // Within the same second there is no other.
        world.print("IBM", 7);
        world.print("SPY", 101);
        world.run_idle();
        let next = blocks(&read_until(&mut client, "\"priceInCents\":101,\"timestamp\":4}\n\n"));
        assert!(next.iter().all(|block| !block.contains("id: ")), "{next:?}");
        world.make_ids_due();
        world.market.set_up(false);
        world.run_idle();
        let told = blocks(&read_until(&mut client, "id: 7-4\n\n"));
        assert_eq!(told, ["event: feed\ndata: {\"up\":false}\nid: 7-4"]);
    }
    // Nothing has traded: the first event is the last.
    let mut world = World::new(StreamLimits::default());
    world.print("AIG", 5);
    let mut silent = world.watch(&["SPY"]);
    world.run_idle();
    let only = blocks(&read_until(&mut silent, "id: 7-1\n\n"));
    assert!(only.len() == 1 && only[0].starts_with("event: open\n"), "{only:?}");
}

#[test]
fn an_id_that_was_cut_off_comes_whole_and_covers_only_what_has_left() {
    for mode in [Mode::Latest, Mode::Every] {
        let mut world = World::new(StreamLimits::default());
        let request = StreamRequest { mode, ..world.request(&["SPY", "IBM", "AIG"]) };
        let mut client = world.open(request);
        world.run_idle();
        let mut cents = 0;
        // Each send wants an id, so that the socket fills in the middle of one sooner or later.
        while !world.is_any_blocked() {
            for _ in 0..7 {
                cents += 1;
                world.print(["SPY", "IBM", "AIG"][usize::try_from(cents % 3).unwrap()], cents);
            }
            world.make_ids_due();
            world.run_idle();
            assert!(cents < 2_000_000, "the socket never fills");
        }
        let end = format!("\"priceInCents\":{cents},");
        let reader = std::thread::spawn(move || {
            let mut text = read_until(&mut client, &end);
            text.push_str(&read_until(&mut client, "id: "));
            while !text.ends_with("\n\n") {
                text.push_str(&read_until(&mut client, "\n"));
            }
            text
        });
        let mut last = cents;
        while !reader.is_finished() {
            world.run_idle();
            last += 1;
            world.make_ids_due();
            // Prints carry their sequences as prices here.
            world.print("SPY", last);
        }
        let mut newest = 0;
        for block in blocks(&reader.join().unwrap()) {
            let number = |before: &str| -> Option<i64> {
                let rest = block.split_once(before)?.1;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            };
            newest = newest.max(number("priceInCents\":").unwrap_or(0));
            if let Some(known) = number("id: 7-") {
                assert_eq!(known, newest, "everything up to there has come: {block}");
            }
        }
    }
}

#[test]
fn a_lapped_hub_catches_up_from_the_table() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch(&["SPY"]);
    world.run_idle();
    world.print("SPY", 100);
    for cents in 0..i64::try_from(crate::market::RING_SLOTS).unwrap() + 10 {
        world.print("IBM", cents + 1);
    }
    world.run_idle();
    assert!(world.hub.metrics.lapped_ticks.get() > 0);
    read_until(&mut client, "\"priceInCents\":100,");
}

#[test]
fn a_lapped_hub_catches_up_on_symbols_that_outnumber_the_listed_ones() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch(&["AIG"]);
    world.run_idle();
    let listing = |name| world.hub.feed.directory().listing(world.index(name)).unwrap().clone();
    let still_listed = [listing("SPY"), listing("AIG")];
    world.market.replace_list(&still_listed).unwrap();
    world.print("AIG", 100);
    for cents in 0..i64::try_from(crate::market::RING_SLOTS).unwrap() + 10 {
        world.print("SPY", cents + 1);
    }
    world.run_idle();
    assert!(world.hub.metrics.lapped_ticks.get() > 0);
    read_until(&mut client, "\"priceInCents\":100,");
}

#[test]
fn a_stop_says_goodbye() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch(&["SPY"]);
    world.run_idle();
    read_until(&mut client, "event: open");
    let mut goodbyes = world.hub.plan_goodbyes(true);
    world.hub.say_goodbyes(&mut goodbyes);
    assert!(world.hub.is_empty());
    let text = read_now(&mut client);
    assert!(text.contains("event: goodbye\n") && text.contains("retry: "), "{text}");
}

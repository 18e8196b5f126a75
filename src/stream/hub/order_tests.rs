//! Order events over real loopback sockets, from a feed of orders that the tests write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

use super::Hub;
use super::tests::{World, has_sent_all, prices, read_until, user};
use crate::stream::connection_id::ConnectionId;
use crate::stream::limits::MAX_SEND_BYTES;
use crate::stream::order_events::OrderEvents;
use crate::stream::{
    ChangedUsers, EventSink, OpenOrders, OrderCursor, OrderSource, OrderWish, OrdersFrom,
    StoreQuery, StoreReply, StoredEvents, StreamLimits, StreamRequest, WrittenChanges,
};

/// Orders of one user: some open at the start, then numbered changes, the older of them stored.
#[derive(Default)]
struct Book {
    open: Vec<u64>,
    /// The change at place n has cursor n + 1.
    changes: Vec<String>,
    /// Changes up to here are in the store only.
    stored_up_to: u64,
    /// Changes up to here are nowhere.
    lost_up_to: u64,
    told: VecDeque<ChangedUsers>,
    watched: Vec<UserId>,
}

#[derive(Clone, Default)]
struct FakeFeed(Rc<RefCell<Book>>);

impl FakeFeed {
    fn change(&self, what: &str) {
        let mut book = self.0.borrow_mut();
        book.changes.push(what.to_owned());
        book.told.push_back(ChangedUsers::One(user("alice")));
    }

    fn events(
        &self,
        after: u64,
        EventSink { out, most_bytes, id_prefix, .. }: EventSink<'_>,
    ) -> u64 {
        let (book, begin, mut cursor) = (self.0.borrow(), out.len(), after);
        for what in book.changes.iter().skip(usize::try_from(after).unwrap()) {
            if out.len() - begin >= most_bytes {
                break;
            }
            cursor += 1;
            out.extend_from_slice(b"event: order\nid: ");
            out.extend_from_slice(id_prefix);
            out.extend_from_slice(format!("{cursor}\ndata: {what}\n\n").as_bytes());
        }
        cursor
    }

    /// Answers a query as the store would.
    fn answer(&self, query: &StoreQuery) -> StoreReply {
        let mut bytes = Vec::new();
        let id_prefix = &query.id_prefix;
        let to = EventSink { out: &mut bytes, most_bytes: 1_000, id_prefix, with_account: false };
        let cursor = at(self.events(place(&query.after), to));
        StoreReply::Events(StoredEvents { bytes, cursor, has_more: true })
    }
}

impl OrderSource for FakeFeed {
    fn watch(&mut self, user: &UserId) {
        self.0.borrow_mut().watched.push(user.clone());
    }

    fn unwatch(&mut self, user: &UserId) {
        self.0.borrow_mut().watched.retain(|watched| watched != user);
    }

    fn next_changed(&mut self) -> Option<ChangedUsers> {
        self.0.borrow_mut().told.pop_front()
    }

    fn has_changed(&self) -> bool {
        !self.0.borrow().told.is_empty()
    }

    fn write_open(
        &self,
        _user: &UserId,
        after: Option<OrderId>,
        EventSink { out, most_bytes, .. }: EventSink<'_>,
    ) -> OpenOrders {
        let (book, begin) = (self.0.borrow(), out.len());
        let cursor = at(book.changes.len() as u64);
        let mut last = None;
        for &number in &book.open {
            let id = OrderId::from_u128(u128::from(number));
            if after.is_some_and(|after| id <= after) {
                continue;
            }
            if out.len() - begin >= most_bytes {
                return OpenOrders { next: last, cursor };
            }
            out.extend_from_slice(format!("event: order\ndata: \"open {number}\"\n\n").as_bytes());
            last = Some(id);
        }
        OpenOrders { next: None, cursor }
    }

    fn write_changes(
        &self,
        _user: &UserId,
        after: &OrderCursor,
        to: EventSink<'_>,
    ) -> WrittenChanges {
        let after = place(after);
        let (stored, lost) = (self.0.borrow().stored_up_to, self.0.borrow().lost_up_to);
        if after < lost {
            return WrittenChanges::Lost;
        }
        if after < stored {
            return WrittenChanges::Stored;
        }
        let cursor = self.events(after, to);
        let has_more = cursor < self.0.borrow().changes.len() as u64;
        WrittenChanges::UpTo { cursor: at(cursor), has_more }
    }

    fn write_cursor(&self, cursor: &OrderCursor, out: &mut Vec<u8>) {
        out.extend_from_slice(place(cursor).to_string().as_bytes());
    }
}

fn at(place: u64) -> OrderCursor {
    OrderCursor::at(Lsn(place))
}

fn place(cursor: &OrderCursor) -> u64 {
    let OrderCursor::Position(mark) = cursor else { panic!("{cursor:?}: none is given out here") };
    mark.lsn.0
}

fn world(limits: StreamLimits) -> (World, FakeFeed) {
    let feed = FakeFeed::default();
    (World::with_orders(limits, Box::new(feed.clone())), feed)
}

impl World {
    fn watch_orders(&mut self, names: &[&str], from: OrdersFrom) -> TcpStream {
        let orders = Some(OrderWish { user: user("alice"), from, with_account: false });
        let request = StreamRequest { orders, ..self.request(names) };
        self.open(request)
    }
}

fn data(text: &str) -> Vec<&str> {
    let events = text.split("\n\n").filter(|event| event.starts_with("event: order"));
    events.filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: "))).collect()
}

fn next_store_query(hub: &mut Hub) -> Option<StoreQuery> {
    match hub.poll_store_query(&Context::from_waker(Waker::noop())) {
        Poll::Ready(query) => Some(query),
        Poll::Pending => None,
    }
}

#[test]
fn open_orders_come_first_then_every_change() {
    let (mut world, feed) = world(StreamLimits::default());
    feed.0.borrow_mut().open = vec![1, 2];
    feed.0.borrow_mut().changes = vec!["old".into(); 7];
    let mut client = world.watch_orders(&[], OrdersFrom::Open);
    world.run_idle();
    let text = read_until(&mut client, "id: 7\n\n");
    assert_eq!(data(&text), ["\"open 1\"", "\"open 2\""]);
    assert!(text.contains("event: open\nretry: ") && text.contains("heartbeatMs"), "{text}");
    assert!(text.contains("\"open 2\"\nid: 7\n\n"), "the last one says how far they go: {text}");
    for change in ["a", "b", "b", "c"] {
        feed.change(change);
    }
    world.market.set_up(false);
    world.run_idle();
    let text = read_until(&mut client, "id: 11\ndata: c\n\n");
    assert_eq!(data(&text), ["a", "b", "b", "c"]);
    assert!(!text.contains("feed"), "a stream of orders hears nothing of prices: {text}");
    assert_eq!(feed.0.borrow().watched, [user("alice")]);
    drop(client);
    world.run_until(Hub::is_empty);
    assert!(feed.0.borrow().watched.is_empty(), "nobody wants them any longer");
}

#[test]
fn many_open_orders_take_many_sends_and_miss_no_change() {
    let (mut world, feed) = world(StreamLimits::default());
    feed.0.borrow_mut().open = (0..5_000).collect();
    let mut client = world.watch_orders(&[], OrdersFrom::Open);
    world.hub.run_slice();
    feed.change("meanwhile");
    let reader = std::thread::spawn(move || read_until(&mut client, "meanwhile\n\n"));
    while !reader.is_finished() {
        world.hub.run_slice();
    }
    let text = reader.join().unwrap();
    let expected: Vec<String> = (0..5_000).map(|n| format!("\"open {n}\"")).collect();
    let seen = data(&text);
    assert_eq!(seen[..5_000], expected);
    assert_eq!(seen[5_000..], ["meanwhile"]);
}

#[test]
fn a_slow_client_gets_every_change_from_memory_and_store() {
    let (mut world, feed) = world(StreamLimits::default());
    let mut client = world.watch_orders(&[], OrdersFrom::Cursor(at(0)));
    world.run_idle();
    let mut written = 0;
    while !world.is_any_blocked() {
        for _ in 0..20 {
            feed.change(&format!("{written:0100}"));
            written += 1;
        }
        world.run_idle();
        assert!(written < 100_000, "the socket never fills");
    }
    for _ in 0..1_000 {
        feed.change(&format!("{written:0100}"));
        written += 1;
    }
    world.run_idle();
    // Memory has forgotten all but the last hundred.
    feed.0.borrow_mut().stored_up_to = written - 100;
    let wanted = format!("id: {written}\n");
    let reader = std::thread::spawn(move || {
        let text = read_until(&mut client, &wanted);
        (text, client)
    });
    let mut queries = 0;
    while !reader.is_finished() {
        world.hub.run_slice();
        if let Some(query) = next_store_query(&mut world.hub) {
            queries += 1;
            let is_busy = queries == 2;
            let answer = if is_busy { StoreReply::Unavailable } else { feed.answer(&query) };
            world.hub.answer(&query, answer);
        }
    }
    let (text, _client) = reader.join().unwrap();
    assert!(queries > 2, "the store was asked");
    let expected: Vec<String> = (0..written).map(|n| format!("{n:0100}")).collect();
    let seen = data(&text);
    assert_eq!(seen[..seen.len()], expected[..seen.len()], "each once, in order");
    assert!(seen.len() + 1 >= expected.len());
}

#[test]
fn what_is_not_kept_any_more_starts_again_from_the_open_orders() {
    let (mut world, feed) = world(StreamLimits::default());
    feed.0.borrow_mut().open = vec![9];
    feed.0.borrow_mut().changes = vec!["gone".into(); 3];
    feed.0.borrow_mut().stored_up_to = 3;
    let mut asked = world.watch_orders(&[], OrdersFrom::Cursor(at(1)));
    world.run_idle();
    let query = next_store_query(&mut world.hub).unwrap();
    world.hub.answer(&query, StoreReply::Lost);
    feed.0.borrow_mut().lost_up_to = 3;
    let mut lost = world.watch_orders(&[], OrdersFrom::Cursor(at(1)));
    let mut unknown = world.watch_orders(&[], OrdersFrom::Reset);
    world.run_idle();
    for client in [&mut lost, &mut unknown, &mut asked] {
        let text = read_until(client, "id: 3\n\n");
        assert!(text.contains("event: reset\n"), "{text}");
        assert_eq!(data(&text), ["\"open 9\""]);
    }
}

#[test]
fn open_orders_follow_a_reset_that_fills_the_send() {
    let feed = FakeFeed::default();
    feed.0.borrow_mut().open = vec![1, 2];
    let mut events = OrderEvents::new(user("alice"), OrdersFrom::Reset, Vec::new());
    let stream = ConnectionId { key: 0, generation: 0 };
    let (mut filled, mut rest) = (vec![b'x'; MAX_SEND_BYTES - 1], Vec::new());
    events.write(stream, &feed, &mut filled);
    events.write(stream, &feed, &mut rest);
    let [filled, rest] = [filled, rest].map(|out| String::from_utf8(out).unwrap());
    assert!(filled.contains("event: reset\n"), "{filled}");
    assert_eq!((data(&filled), data(&rest)), (vec!["\"open 1\""], vec!["\"open 2\""]));
}

#[test]
fn one_stream_has_prices_and_orders_and_its_ids_say_both() {
    let (mut world, feed) = world(StreamLimits::default());
    let mut client = world.watch_orders(&["SPY"], OrdersFrom::Open);
    world.run_idle();
    let text = read_until(&mut client, "}\nid: /0\n\n");
    assert!(text.contains("event: open\n") && text.matches("\n\n").count() == 1, "{text}");
    world.print("SPY", 100);
    world.run_idle();
    read_until(&mut client, "id: 7-1/0\n\n");
    feed.change("a");
    world.run_idle();
    read_until(&mut client, "event: order\nid: 7-1/1\ndata: a\n\n");
}

#[test]
fn a_place_in_the_feed_is_not_told_before_its_price() {
    let (mut world, feed) = world(StreamLimits::default());
    let mut client = world.watch_orders(&["SPY"], OrdersFrom::Open);
    world.run_idle();
    // The socket fills with sends whose last event wants an id.
    while !world.is_any_blocked() {
        world.print("SPY", i64::try_from(world.sequence + 1).unwrap());
        feed.change(&"x".repeat(2_000));
        world.make_ids_due();
        world.run_idle();
        assert!(world.sequence < 100_000, "the socket never fills");
    }
    feed.change("last");
    let reader = std::thread::spawn(move || read_until(&mut client, "data: last\n\n"));
    while !reader.is_finished() {
        world.run_idle();
    }
    let text = reader.join().unwrap();
    let mut newest = 0;
    for line in text.lines() {
        let number = |before: &str| -> Option<u64> {
            let rest = line.split_once(before)?.1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        // Prints carry their sequences as prices here.
        newest = newest.max(number("priceInCents\":").unwrap_or(0));
        assert!(number("id: 7-").is_none_or(|known| known <= newest), "{line} after {newest}");
    }
    assert!(newest > 0);
}

#[test]
fn orders_do_not_wait_for_the_rate_of_prices() {
    let (mut world, feed) = world(StreamLimits::default());
    let orders = Some(OrderWish {
        user: user("alice"),
        from: OrdersFrom::Cursor(at(0)),
        with_account: false,
    });
    let request = StreamRequest { orders, max_rate: Some(1), ..world.request(&["SPY"]) };
    let mut client = world.open(request);
    world.print("SPY", 1);
    world.run_idle();
    read_until(&mut client, "\"priceInCents\":1,");
    world.print("SPY", 2);
    world.run_idle();
    feed.change("a");
    world.run_idle();
    let text = read_until(&mut client, "data: a\n\n");
    assert!(prices(&text).is_empty(), "prices wait for their slot: {text}");
    world.run_until(has_sent_all);
    read_until(&mut client, "\"priceInCents\":2,");
}

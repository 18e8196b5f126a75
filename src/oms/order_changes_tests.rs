//! Compares what readers of changes get with the list of all changes: whatever memory has
//! forgotten, however far the store lags, and across restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;
use crate::index::{Index, IndexAges, IndexReader, IndexReaders, IndexWriter};
use crate::oms::views::CommittedViews;
use crate::order::{CancelCause, Change, Changed, Created, Event, Fill, TrackedOrder};
use crate::projection::{PostgresReads, PostgresServers, Progress};
use crate::testing::MemoryStore;
use crate::types::*;

const LOG: LogId = LogId(7);
const USERS: [&str; 3] = ["a", "aa", "b"];
/// Time advances by 1 per record.
const KEEP_MICROS: u64 = 48;

#[derive(Debug, Clone)]
enum Move {
    Create {
        user: usize,
    },
    Fill {
        order: prop::sample::Index,
    },
    Cancel {
        order: prop::sample::Index,
    },
    /// Several events that memory publishes together.
    Burst {
        order: prop::sample::Index,
        count: usize,
    },
    /// The store follows part of what is shown.
    Follow {
        records: u64,
    },
    Persist,
    /// Memory forgets what the store has.
    ForgetChanges,
    ForgetEnded,
    /// A reader asks for changes after its cursor.
    Ask {
        user: usize,
        limit: usize,
    },
    /// Pending reads of the store are answered.
    AnswerReads,
    /// A restart that keeps some of the store's batches after the last persist.
    Restart {
        surviving: usize,
    },
}

fn one_move() -> impl Strategy<Value = Move> {
    let order = any::<prop::sample::Index>;
    prop_oneof![
        3 => (0..USERS.len()).prop_map(|user| Move::Create { user }),
        6 => order().prop_map(|order| Move::Fill { order }),
        2 => order().prop_map(|order| Move::Cancel { order }),
        2 => (order(), 1..7_usize).prop_map(|(order, count)| Move::Burst { order, count }),
        4 => (1..9_u64).prop_map(|records| Move::Follow { records }),
        3 => Just(Move::Persist),
        3 => Just(Move::ForgetChanges),
        2 => Just(Move::ForgetEnded),
        6 => (0..USERS.len(), 1..6_usize).prop_map(|(user, limit)| Move::Ask { user, limit }),
        5 => Just(Move::AnswerReads),
        1 => (0..4_usize).prop_map(|surviving| Move::Restart { surviving }),
    ]
}

type Answer = Result<ChangesSince, StoreUnavailable>;

struct Asking {
    limit: usize,
    answer: Pin<Box<dyn Future<Output = Answer>>>,
}

/// Memory, store and readers, and everything that they should ever see.
struct World {
    events: Vec<Event>,
    /// Every change by position, and the order after it.
    changes: BTreeMap<u64, Arc<Order>>,
    orders: BTreeMap<OrderId, TrackedOrder>,
    in_memory: BTreeSet<OrderId>,
    store: MemoryStore,
    views: CommittedViews,
    index: Index,
    writer: IndexWriter,
    reads: IndexReader,
    asked: OrderChanges,
    cursors: Vec<Lsn>,
    asking: Vec<Option<Asking>>,
    resets: usize,
}

fn user(number: usize) -> UserId {
    UserId::new(USERS[number]).unwrap()
}

fn open(store: &MemoryStore) -> (Index, IndexWriter) {
    let ages = IndexAges { changes_micros: KEEP_MICROS, ..IndexAges::default() };
    let index = Index::in_memory(store, ages).unwrap();
    let writer = IndexWriter::new(index.clone(), LOG).unwrap();
    (index, writer)
}

impl World {
    fn new() -> Self {
        let store = MemoryStore::new();
        let (index, writer) = open(&store);
        let (readers, [reads, _]) = IndexReaders::new(&index);
        let views = CommittedViews::new();
        let asked = OrderChanges::new(OrderReads::new(views.clone(), readers));
        Self {
            events: Vec::new(),
            changes: BTreeMap::new(),
            orders: BTreeMap::new(),
            in_memory: BTreeSet::new(),
            store,
            views,
            index,
            writer,
            reads,
            asked,
            cursors: vec![Lsn(0); USERS.len()],
            asking: USERS.iter().map(|_| None).collect(),
            resets: 0,
        }
    }

    fn last(&self) -> Lsn {
        Lsn(self.events.len() as u64)
    }

    fn at(&self) -> TimestampMicros {
        TimestampMicros::new(1_000 + self.events.len() as u64)
    }

    fn go(&mut self, one: &Move) {
        match one {
            Move::Create { user } => self.create(*user),
            Move::Fill { order } => self.change(order, 1),
            Move::Burst { order, count } => self.change(order, *count),
            Move::Cancel { order } => self.cancel(order),
            Move::Follow { records } => self.follow(*records),
            Move::Persist => self.writer.persist().unwrap(),
            Move::ForgetChanges => {
                for number in 0..USERS.len() {
                    self.views.forget_changes(&user(number), self.index.durable_position());
                }
            }
            Move::ForgetEnded => self.forget_ended(),
            Move::Ask { user, limit } => self.ask(*user, *limit),
            Move::AnswerReads => {
                self.reads.run_pending();
            }
            Move::Restart { surviving } => self.restart(*surviving),
        }
        self.go_on();
    }

    fn create(&mut self, number: usize) {
        let user = user(number);
        let nanos = u128::from(self.at().micros()) * 1_000;
        let created = Created {
            order_id: OrderId::new(nanos, 0, user.partition()),
            user,
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: 1_000,
            created_at: self.at(),
            submit_before: self.at(),
            reservation: crate::money::Reservation::Nothing,
        };
        let tracked = TrackedOrder::new(&created);
        self.orders.insert(created.order_id, tracked.clone());
        self.take(Event::Created(created), &tracked);
        self.views.show(self.last());
    }

    fn some_order(&self, place: &prop::sample::Index) -> Option<OrderId> {
        let ids: Vec<OrderId> = self.orders.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[place.index(ids.len())])
    }

    /// A fill reopens a cancelled order, which is loaded into memory first.
    fn change(&mut self, place: &prop::sample::Index, count: usize) {
        let Some(order_id) = self.some_order(place) else { return };
        for _ in 0..count {
            let execution_id = ExecutionId::new(&format!("e{}", self.events.len())).unwrap();
            let price = PriceCents::new(5).unwrap();
            let executed_at = self.at();
            self.record(
                order_id,
                Change::Filled(Fill { execution_id, price, num_shares: 1, executed_at }),
            );
        }
        self.views.show(self.last());
    }

    fn cancel(&mut self, place: &prop::sample::Index) {
        let Some(order_id) = self.some_order(place) else { return };
        self.record(order_id, Change::Cancelled { cause: CancelCause::Cancelled });
        self.views.show(self.last());
    }

    fn record(&mut self, order_id: OrderId, change: Change) {
        let changed = Changed { order_id, at: self.at(), change };
        let mut tracked = self.orders[&order_id].clone();
        if !tracked.apply(&changed).recorded {
            return;
        }
        if !self.in_memory.contains(&order_id) {
            self.views.publish(Arc::clone(self.orders[&order_id].order()));
        }
        self.orders.insert(order_id, tracked.clone());
        self.take(Event::Changed(changed), &tracked);
    }

    fn take(&mut self, event: Event, tracked: &TrackedOrder) {
        self.events.push(event);
        self.in_memory.insert(tracked.order().order_id);
        self.changes.insert(self.last().0, Arc::clone(tracked.order()));
        self.views.publish_change(Arc::clone(tracked.order()), self.last(), 3);
    }

    fn follow(&mut self, records: u64) {
        let upto = self.writer.taken().0.saturating_add(records);
        for (lsn, event) in (1..=upto).map(Lsn).zip(&self.events) {
            if lsn > self.writer.taken() {
                self.writer.take(lsn, event.clone()).unwrap();
            }
        }
        self.writer.commit().unwrap();
    }

    fn forget_ended(&mut self) {
        for order_id in self.in_memory.clone() {
            let order = self.orders[&order_id].order();
            let last = self.changes.iter().rev().find(|(_, other)| other.order_id == order_id);
            if !order.is_open() && *last.unwrap().0 <= self.index.durable_position().0 {
                self.views.forget(order);
                self.in_memory.remove(&order_id);
            }
        }
    }

    /// Everything in the log is durable; the store may lose some batches. Readers keep their
    /// cursors.
    fn restart(&mut self, surviving: usize) {
        self.store.crash(surviving);
        let (index, writer) = open(&self.store);
        let (readers, [reads, _]) = IndexReaders::new(&index);
        let views = CommittedViews::since(self.last());
        self.in_memory.clear();
        for (order_id, tracked) in &self.orders {
            let last = self.changes.iter().rev().find(|(_, other)| other.order_id == *order_id);
            // As at a start: open orders, and those that changed after the store's position.
            if tracked.order().is_open() || *last.unwrap().0 > index.position().0 {
                views.publish(Arc::clone(tracked.order()));
                self.in_memory.insert(*order_id);
            }
        }
        self.asked = OrderChanges::new(OrderReads::new(views.clone(), readers));
        (self.index, self.writer, self.reads, self.views) = (index, writer, reads, views);
        self.asking = USERS.iter().map(|_| None).collect();
    }

    fn ask(&mut self, number: usize, limit: usize) {
        if self.asking[number].is_some() {
            return;
        }
        let (asked, after) = (self.asked.clone(), self.cursors[number]);
        let answer = Box::pin(async move { asked.since(&user(number), after, limit).await });
        self.asking[number] = Some(Asking { limit, answer });
    }

    fn go_on(&mut self) {
        for number in 0..USERS.len() {
            let Some(asking) = &mut self.asking[number] else { continue };
            let polled = asking.answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let std::task::Poll::Ready(answer) = polled else { continue };
            let limit = asking.limit;
            self.asking[number] = None;
            self.check(number, answer.unwrap(), limit);
        }
    }

    fn changes_of(&self, number: usize, from: Lsn, to: Lsn) -> Vec<(Lsn, Arc<Order>)> {
        let all = self.changes.range(from.0 + 1..=to.0.max(from.0 + 1));
        all.filter(|(lsn, order)| **lsn <= to.0 && order.user == user(number))
            .map(|(lsn, order)| (Lsn(*lsn), Arc::clone(order)))
            .collect()
    }

    fn check(&mut self, number: usize, answer: ChangesSince, limit: usize) {
        let after = self.cursors[number];
        match answer {
            ChangesSince::Known(Changes { changes, complete_to, has_more }) => {
                assert!(complete_to >= after && complete_to <= self.last());
                let expected = self.changes_of(number, after, complete_to);
                assert_eq!(changes, expected, "{after} to {complete_to}");
                assert!(changes.len() <= limit);
                assert!(has_more || complete_to == self.last());
                assert!(!has_more || complete_to > after, "the cursor advances");
                self.cursors[number] = complete_to;
            }
            ChangesSince::Lost => {
                let missed = &self.events[usize::try_from(after.0).unwrap()];
                let age = self.events.last().unwrap().at().micros_since(missed.at());
                assert!(age >= KEEP_MICROS, "{age} us are kept");
                self.resets += 1;
                self.begin_again(number);
            }
        }
    }

    fn begin_again(&mut self, number: usize) {
        let (open, cursor) = self.asked.open_orders(&user(number));
        let mut expected: BTreeMap<OrderId, Arc<Order>> = BTreeMap::new();
        for (_, order) in self.changes_of(number, Lsn(0), cursor) {
            expected.insert(order.order_id, order);
        }
        let expected: Vec<_> = expected.into_values().filter(|order| order.is_open()).collect();
        assert_eq!(open, expected);
        self.cursors[number] = cursor;
    }

    /// Once everything is stored, every reader reaches the end.
    fn finish(&mut self) {
        self.follow(u64::MAX);
        self.go_on();
        for number in 0..USERS.len() {
            for _ in 0..=2 * self.events.len() {
                self.ask(number, 2);
                self.go_on();
                while self.reads.run_pending() {
                    self.go_on();
                }
            }
            assert!(self.asking[number].is_none(), "no reader waits forever");
            assert_eq!(self.cursors[number], self.last());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]
    #[test]
    fn a_reader_sees_every_change_once_and_in_order(
        moves in proptest::collection::vec(one_move(), 1..160),
    ) {
        let mut world = World::new();
        for one in &moves {
            world.go(one);
        }
        world.finish();
    }
}

#[test]
fn changes_that_are_no_longer_kept_are_lost() {
    let mut world = World::new();
    world.create(0);
    for _ in 0..3 * KEEP_MICROS {
        world.create(1);
        world.follow(1);
        world.writer.persist().unwrap();
        world.go(&Move::ForgetChanges);
    }
    world.finish();
    assert_eq!(world.resets, 2, "the cursors of two users were at the beginning");
}

#[test]
fn a_cursor_beyond_the_log_is_lost() {
    let mut world = World::new();
    world.create(0);
    for number in 0..USERS.len() {
        let answer = world.asked.now(&user(number), Lsn(2), 1);
        assert_eq!(answer, Some(ChangesSince::Lost));
    }
}

#[test]
fn change_ids_print_log_record_and_perhaps_a_time() {
    let id = ChangeId { log: LogId(0xabc), lsn: Lsn(184_467), at: None };
    let timed = ChangeId { at: Some(TimestampMicros::new(1_732)), ..id };
    for (id, text) in [(id, "0000000000000abc.184467"), (timed, "0000000000000abc.184467.1732")] {
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
    }
    let wrong = ["", ".", "7-184467", "abc.1", "0000000000000abc.+1", "0000000000000abc.01"];
    let late = ["0000000000000abc.1.", "0000000000000abc.1.02", "0000000000000abc.1.2.3"];
    let wrong = wrong.into_iter().chain(late);
    for text in wrong {
        assert_eq!(text.parse::<ChangeId>(), Err(NoChangeId), "{text}");
    }
}

/// Changes of a member of a cluster, whose store is Postgres: nobody answers there.
fn of_member() -> (OrderChanges, CommittedViews) {
    let (index, _) = open(&MemoryStore::new());
    let views = CommittedViews::new();
    let servers: PostgresServers = "postgres://localhost/longbow".parse().unwrap();
    let (reads, _) = PostgresReads::new(servers.of_nodes());
    let store = OrderStore::postgres(index, LOG, reads, Progress::new(1));
    (OrderChanges::new(OrderReads::new(views.clone(), store)), views)
}

#[test]
fn a_stream_resumes_after_a_change_in_another_log_by_its_time() {
    let (changes, _) = of_member();
    let (own, other) = (LOG, LogId(8));
    let mark = |at: Option<u64>| LogMark { lsn: Lsn(3), at: at.map(TimestampMicros::new) };
    let resume = |log, mark: LogMark| changes.resume(ChangeId { log, lsn: mark.lsn, at: mark.at });
    for at in [None, Some(9_000_000)] {
        assert_eq!(resume(own, mark(at)), Some(OrderCursor::Position(mark(at))));
    }
    let late = mark(Some(9_000_000));
    let Some(OrderCursor::Listing(listing)) = resume(other, late) else { panic!("it is listed") };
    assert_eq!(listing.from, (other, late));
    assert_eq!(listing.since.micros(), 9_000_000 - CLOCK_TOLERANCE_MICROS);
    assert_eq!(resume(other, mark(None)), None, "an id of an older version");
    let world = World::new();
    let id = ChangeId { log: other, lsn: Lsn(3), at: late.at };
    assert_eq!(world.asked.resume(id), None, "nobody else's changes are in the index");
}

#[test]
fn memory_lacks_what_happened_while_another_node_had_the_user() {
    let (changes, views) = of_member();
    let alice = user(0);
    views.show(Lsn(9));
    let unchanged = Changes { complete_to: Lsn(9), ..Changes::default() };
    assert_eq!(changes.now(&alice, Lsn(4), 1), Some(ChangesSince::Known(unchanged.clone())));
    let before = LogMark { lsn: Lsn(4), at: Some(TimestampMicros::new(9_000_000)) };
    let listed_since = |mark| changes.listing_after(&alice, mark).unwrap().since.micros();
    assert_eq!(listed_since(before), 9_000_000, "its time is of this clock");
    views.note_coming(alice.partition(), Lsn(5));
    assert_eq!(changes.now(&alice, Lsn(4), 1), None, "Postgres must be asked");
    assert_eq!(listed_since(before), 9_000_000 - CLOCK_TOLERANCE_MICROS, "of another's clock");
    assert_eq!(changes.now(&alice, Lsn(5), 1), Some(ChangesSince::Known(unchanged)));
    let after = LogMark { lsn: Lsn(5), ..before };
    assert_eq!(listed_since(after), 9_000_000);
}

//! Random logs, and a model of what the index must hold after each.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::money::{Account, Reservation};
use crate::order::*;
use crate::types::*;
use crate::wal::{LogId, LogStart, Lsn};

pub(super) const LOG: LogId = LogId(7);
/// Retention of unmatched reports in these logs; times rise by 1 with each record.
pub(super) const UNMATCHED_AGE_MICROS: u64 = 20;
pub(super) const WINDOW_MICROS: u64 = 30;
pub(super) const AGES: IndexAges = IndexAges {
    unmatched_report_micros: UNMATCHED_AGE_MICROS,
    changes_micros: 1_000_000_000,
    ended_window_micros: WINDOW_MICROS,
};
const USERS: [&str; 4] = ["a", "aa", "b", "ä"];

/// One record. Indexes choose among what the model has.
#[derive(Debug, Clone)]
pub(super) enum Move {
    Create { user: prop::sample::Index, has_key: bool, num_shares: u64 },
    Change { order: prop::sample::Index, what: ChangeMove },
    Unmatched { id: u8 },
    FeedPosition,
    AdoptAccount { user: prop::sample::Index, cents: i64 },
    BeginAccounts,
    Deposit { user: prop::sample::Index, cents: i64 },
}

#[derive(Debug, Clone)]
pub(super) enum ChangeMove {
    Accept { id: u8 },
    Fill { execution: u8, num_shares: u64 },
    Bust { execution: u8 },
    Cancel,
    RequestCancel,
    Reject,
}

fn change_move() -> impl Strategy<Value = ChangeMove> {
    prop_oneof![
        4 => any::<u8>().prop_map(|id| ChangeMove::Accept { id }),
        6 => (0..6_u8, 1..12_u64)
            .prop_map(|(execution, num_shares)| ChangeMove::Fill { execution, num_shares }),
        2 => (0..6_u8).prop_map(|execution| ChangeMove::Bust { execution }),
        2 => Just(ChangeMove::Cancel),
        1 => Just(ChangeMove::RequestCancel),
        1 => Just(ChangeMove::Reject),
    ]
}

pub(super) fn one_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), any::<bool>(), 1..12_u64)
            .prop_map(|(user, has_key, num_shares)| Move::Create { user, has_key, num_shares }),
        10 => (any::<prop::sample::Index>(), change_move())
            .prop_map(|(order, what)| Move::Change { order, what }),
        1 => any::<u8>().prop_map(|id| Move::Unmatched { id }),
        1 => Just(Move::FeedPosition),
        1 => (any::<prop::sample::Index>(), 1..9_i64)
            .prop_map(|(user, cents)| Move::AdoptAccount { user, cents }),
        1 => Just(Move::BeginAccounts),
        1 => (any::<prop::sample::Index>(), 1..9_i64)
            .prop_map(|(user, cents)| Move::Deposit { user, cents }),
    ]
}

/// The orders as memory holds them, and all other state that a node resumes from.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) events: Vec<Event>,
    pub(super) orders: BTreeMap<OrderId, TrackedOrder>,
    pub(super) keys: BTreeMap<(UserId, ClientOrderId), OrderId>,
    pub(super) external: BTreeMap<ExternalOrderId, OrderId>,
    pub(super) node: NodeState,
    pub(super) accounts: BTreeMap<UserId, Account>,
    pub(super) keeps_accounts: bool,
    /// Every change of every order.
    pub(super) changes: Vec<(Lsn, Arc<Order>)>,
}

impl Model {
    fn attend(&mut self, changed: &Changed) {
        if let Change::NotAccepted = changed.change {
            self.node.attended.push(changed.order_id);
            self.node.attended.sort_unstable();
        }
    }

    pub(super) fn of(moves: &[Move]) -> Self {
        let mut model = Self::default();
        for one_move in moves {
            if let Some(event) = model.event(one_move) {
                model.take(&event);
            }
        }
        model
    }

    /// Takes events unchanged.
    pub(super) fn replay(&mut self, events: &[Event]) {
        for event in events {
            self.take(event);
        }
    }

    fn event(&self, one: &Move) -> Option<Event> {
        let at = TimestampMicros::new(1_000 + self.events.len() as u64);
        Some(match one {
            Move::Create { user, has_key, num_shares } => {
                let user = UserId::new(USERS[user.index(USERS.len())]).unwrap();
                let number = self.orders.len() as u64;
                // Some ids of the same moment, so that they differ only in their last bits.
                let nanos = 1_000_000 * u128::from(number / 3);
                let key = format!("key-{number}");
                let (side, reservation) = match number % 3 {
                    0 => (Side::Buy, Reservation::Cash(PriceCents::new(7).unwrap())),
                    1 => (Side::Sell, Reservation::Shares),
                    _ => (Side::Buy, Reservation::Nothing),
                };
                Event::Created(Created {
                    order_id: OrderId::new(nanos, number, user.partition()),
                    user,
                    client_order_id: has_key.then(|| ClientOrderId::new(&key).unwrap()),
                    symbol: Symbol::new("IBM").unwrap(),
                    side,
                    limit_price: None,
                    time_in_force: TimeInForce::Day,
                    num_shares: *num_shares,
                    created_at: at,
                    submit_before: at,
                    reservation,
                })
            }
            Move::Change { order, what } => {
                let ids: Vec<OrderId> = self.orders.keys().copied().collect();
                if ids.is_empty() {
                    return None;
                }
                let order_id = ids[order.index(ids.len())];
                Event::Changed(Changed { order_id, at, change: change(what, at) })
            }
            Move::Unmatched { id } => Event::UnmatchedReport(UnmatchedReport {
                external_order_id: external_id(*id),
                kind: ReportKind::Cancelled,
                received_at: at,
            }),
            Move::FeedPosition => Event::FeedPosition(FeedPosition {
                session: "s".into(),
                sequence: self.events.len() as u64,
                at,
                past: vec!["r".into()],
            }),
            // Only before they follow the orders: what they reserve then follows the orders, too.
            Move::AdoptAccount { user, cents } if !self.keeps_accounts => {
                let user = UserId::new(USERS[user.index(USERS.len())]).unwrap();
                let (mut account, source) = (Account::default(), AccountSource::Orders);
                account.deposit(*cents).unwrap();
                Event::AccountAdopted(Box::new(AccountAdopted { user, at, source, account }))
            }
            // As a node does it: before its first order.
            Move::BeginAccounts if self.orders.is_empty() && !self.keeps_accounts => {
                Event::AccountsBegun(AccountsBegun { at })
            }
            Move::Deposit { user, cents } if self.keeps_accounts => {
                let user = UserId::new(USERS[user.index(USERS.len())]).unwrap();
                let kind = CashMovementKind::Deposit;
                let (id, reason) = (format!("d{}", self.events.len()).into(), "".into());
                let moved = CashMoved { user, id, at, cents: *cents, kind, by: None, reason };
                Event::CashMoved(Box::new(moved))
            }
            Move::AdoptAccount { .. } | Move::BeginAccounts | Move::Deposit { .. } => return None,
        })
    }

    fn take(&mut self, event: &Event) {
        self.events.push(event.clone());
        let lsn = Lsn(self.events.len() as u64);
        match event {
            Event::Created(created) => {
                let mut tracked = TrackedOrder::new(created);
                if self.keeps_accounts {
                    let account = self.accounts.entry(created.user.clone()).or_default();
                    let effect = booking::created(&tracked);
                    effect.book(&mut tracked, account);
                }
                self.changes.push((lsn, tracked.order().clone()));
                self.orders.insert(created.order_id, tracked);
                if let Some(key) = &created.client_order_id {
                    self.keys.insert((created.user.clone(), key.clone()), created.order_id);
                }
            }
            Event::Changed(changed) => {
                let tracked = self.orders.get_mut(&changed.order_id).unwrap();
                let (applied, effect) = booking::apply(tracked, changed);
                if self.keeps_accounts {
                    let user = tracked.order().user.clone();
                    effect.book(tracked, self.accounts.entry(user).or_default());
                }
                if applied.recorded {
                    self.changes.push((lsn, tracked.order().clone()));
                }
                if changed.change.may_end() && !tracked.order().is_open() {
                    self.node.ended.push((changed.at, changed.order_id));
                }
                self.attend(changed);
                if let Change::Accepted { external_order_id } = &changed.change {
                    let id = external_order_id.clone();
                    self.external.insert(id, changed.order_id);
                }
            }
            Event::UnmatchedReport(report) => self.node.unmatched.push(report.clone()),
            Event::Adopted(_) => unreachable!("the log of these tests has none"),
            Event::AccountAdopted(adopted) => {
                self.accounts.insert(adopted.user.clone(), adopted.account.clone());
            }
            Event::AccountsBegun(_) => self.keeps_accounts = true,
            Event::CashMoved(moved) => {
                let account = self.accounts.entry(moved.user.clone()).or_default();
                account.deposit(moved.cents).unwrap();
            }
            Event::FeedPosition(position) => {
                let is_new = |at: TimestampMicros| position.at.micros_since(at) <= WINDOW_MICROS;
                self.node.ended.retain(|(at, _)| is_new(*at));
                self.node.unmatched.retain(|unmatched| {
                    position.at.micros_since(unmatched.received_at) <= UNMATCHED_AGE_MICROS
                });
                self.node.feed_position = Some(position.clone());
            }
        }
    }

    /// Checks every query of the index against the model.
    pub(super) fn check(&self, index: &Index) {
        assert_eq!(index.position(), Lsn(self.events.len() as u64));
        let found = index.node_state().unwrap();
        // Kept by batches, so the index may have more.
        let ended: HashSet<OrderId> = found.ended.iter().map(|(_, order_id)| *order_id).collect();
        assert!(self.node.ended.iter().all(|(_, order_id)| ended.contains(order_id)));
        assert_eq!(NodeState { ended: self.node.ended.clone(), ..found }, self.node);
        let stranger = UserId::new("stranger").unwrap();
        self.check_accounts(index);
        for (id, tracked) in &self.orders {
            let user = &tracked.order().user;
            assert_same(&index.order(user, *id).unwrap().unwrap(), tracked);
            assert!(index.order(&stranger, *id).unwrap().is_none());
        }
        for ((user, key), id) in &self.keys {
            assert_eq!(index.by_key(user, key).unwrap(), Some(*id));
            assert_eq!(index.by_key(&stranger, key).unwrap(), None);
        }
        for number in 0..=u8::MAX {
            let id = external_id(number);
            let found = index.by_external_id(&id).unwrap();
            let expected = self.external.get(&id).map(|order_id| &self.orders[order_id]);
            assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                assert_same(&found, expected);
            }
        }
        self.check_open(index);
        for user in USERS {
            self.check_pages(index, &UserId::new(user).unwrap());
            self.check_changes(index, &UserId::new(user).unwrap(), Lsn(1));
        }
    }

    fn check_accounts(&self, index: &Index) {
        assert_eq!(index.keeps_accounts().unwrap(), self.keeps_accounts);
        let moved = self.accounts.iter().filter(|(_, account)| **account != Account::default());
        let expected: BTreeMap<UserId, Account> =
            moved.map(|(user, account)| (user.clone(), account.clone())).collect();
        let mut found = BTreeMap::new();
        for number in 0..u8::try_from(USER_PARTITIONS).unwrap() {
            let partition = UserPartition::new(number).unwrap();
            index
                .load_accounts(partition, &mut |user, account| {
                    assert_eq!(user.partition(), partition);
                    found.insert(user, account);
                })
                .unwrap();
        }
        assert_eq!(found, expected);
        for (user, account) in found {
            assert_eq!(index.account(&user).unwrap(), Some(account));
        }
    }

    /// Checks a user's changes; the index keeps those from `kept_from` on.
    pub(super) fn check_changes(&self, index: &Index, user: &UserId, kept_from: Lsn) {
        let theirs = self.changes.iter().filter(|(_, order)| order.user == *user);
        let theirs: Vec<_> = theirs.cloned().collect();
        for after in [kept_from.0 - 1, kept_from.0 + 5, self.events.len() as u64].map(Lsn) {
            let expected: Vec<_> = theirs.iter().filter(|(lsn, _)| *lsn > after).cloned().collect();
            for most in [0, 1, 7, usize::MAX] {
                let found = index.changes(user, after, most).unwrap();
                assert_eq!((found.position, found.kept_from), (index.position(), kept_from));
                assert_eq!(found.changes, expected[..expected.len().min(most)]);
            }
        }
        if let Some(before) = kept_from.0.checked_sub(2) {
            assert!(index.changes(user, Lsn(before), 9).unwrap().changes.is_empty());
        }
    }

    fn check_open(&self, index: &Index) {
        let mut open = Vec::new();
        for partition in 0..USER_PARTITIONS {
            let partition = UserPartition::new(u8::try_from(partition).unwrap()).unwrap();
            index
                .load_open(partition, &mut |tracked| {
                    assert_eq!(tracked.order().order_id.partition(), partition);
                    open.push(tracked);
                })
                .unwrap();
        }
        open.sort_by_key(|tracked| tracked.order().order_id);
        let expected = self.orders.values().filter(|tracked| tracked.order().is_open());
        let expected: Vec<_> = expected.collect();
        assert_eq!(open.len(), expected.len());
        open.iter().zip(expected).for_each(|(one, other)| assert_same(one, other));
    }

    fn check_pages(&self, index: &Index, user: &UserId) {
        let theirs = self.orders.values().map(TrackedOrder::order);
        let ended: Vec<_> =
            theirs.filter(|order| order.user == *user && !order.is_open()).cloned().collect();
        let failed = OrderFilter {
            statuses: StatusSet::from_iter([Status::Failed]),
            ..OrderFilter::default()
        };
        let elsewhere =
            OrderFilter { symbols: vec![Symbol::new("NONE").unwrap()], ..OrderFilter::default() };
        for filter in [OrderFilter::default(), failed, elsewhere] {
            let mut expected: Vec<_> =
                ended.iter().filter(|order| filter.wants(order)).cloned().collect();
            for sequence in [Sequence::OldestFirst, Sequence::NewestFirst] {
                for limit in [1, 3, 1_000] {
                    let request =
                        PageRequest { filter: filter.clone(), sequence, after: None, limit };
                    assert_eq!(listed(index, user, request), expected);
                }
                expected.reverse();
            }
        }
        assert!(index.ended(user, &PageRequest::default()).unwrap().orders.is_empty());
    }
}

/// All parts of a list.
fn listed(index: &Index, user: &UserId, mut request: PageRequest) -> Vec<Arc<Order>> {
    let mut orders = Vec::new();
    loop {
        let part = index.ended(user, &request).unwrap();
        assert!(part.orders.len() <= request.limit);
        orders.extend(part.orders);
        request.after = part.next;
        if part.next.is_none() {
            return orders;
        }
    }
}

fn change(what: &ChangeMove, at: TimestampMicros) -> Change {
    let execution_id = |number: &u8| ExecutionId::new(&format!("e{number}")).unwrap();
    match what {
        ChangeMove::Accept { id } => Change::Accepted { external_order_id: external_id(*id) },
        ChangeMove::Fill { execution, num_shares } => Change::Filled(Fill {
            execution_id: execution_id(execution),
            price: PriceCents::new(5).unwrap(),
            num_shares: *num_shares,
            executed_at: at,
        }),
        ChangeMove::Bust { execution } => Change::Busted { execution_id: execution_id(execution) },
        ChangeMove::Cancel => Change::Cancelled { cause: CancelCause::Cancelled },
        ChangeMove::RequestCancel => Change::CancelRequested,
        ChangeMove::Reject => Change::Rejected { reason: "no".into() },
    }
}

fn external_id(number: u8) -> ExternalOrderId {
    ExternalOrderId::new(&format!("x{number}")).unwrap()
}

fn assert_same(one: &TrackedOrder, other: &TrackedOrder) {
    assert_eq!(one.order(), other.order());
    assert_eq!(OrderParts::of_tracked(one), OrderParts::of_tracked(other));
}

/// Takes the records after the position of the index, up to `last`.
pub(super) fn take_until(writer: &mut IndexWriter, events: &[Event], last: usize) {
    for (at, event) in events.iter().enumerate().take(last) {
        let lsn = Lsn(at as u64 + 1);
        if lsn > writer.taken() {
            writer.take(lsn, event.clone()).unwrap();
        }
    }
}

pub(super) fn log_start_from(first: u64) -> LogStart {
    LogStart { log_id: Some(LOG), first_lsn: Lsn(first) }
}

/// A longer log than those of the properties, the same each time.
pub(super) fn long_log() -> Model {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let moves = proptest::collection::vec(one_move(), 2_000);
    let mut moves = moves.new_tree(&mut TestRunner::deterministic()).unwrap().current();
    moves.insert(0, Move::BeginAccounts);
    Model::of(&moves)
}

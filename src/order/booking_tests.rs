//! Orders and their account against a naive book that knows neither reservations nor movements.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::money::Reservation;
use crate::order::{
    CancelCause, Case, CaseCause, CaseDecision, CaseOutcome, Change, Created, Fill, OperatorAct,
    OrderParts, StoredOrderEncoder, decode_stored,
};
use crate::types::*;

const ORDERS: usize = 4;
const AT: TimestampMicros = TimestampMicros::new(1_000_000);

fn symbol(number: usize) -> Symbol {
    Symbol::new(["IBM", "SPY"][number % 2]).unwrap()
}

fn created(number: usize, side: Side, reservation: Reservation) -> Created {
    let user = UserId::new("alice").unwrap();
    Created {
        order_id: OrderId::new(1, number as u64, user.partition()),
        user,
        client_order_id: None,
        symbol: symbol(number),
        side,
        limit_price: None,
        time_in_force: TimeInForce::Day,
        num_shares: 10,
        created_at: AT,
        submit_before: AT,
        reservation,
    }
}

/// Orders of one user, their account, and the deposits.
struct Desk {
    orders: Vec<TrackedOrder>,
    account: Account,
}

impl Desk {
    fn new(reservations: &[(Side, Reservation)]) -> Self {
        let mut account = Account::default();
        account.deposit(1_000_000).unwrap();
        let mut orders = Vec::new();
        for (number, (side, reservation)) in reservations.iter().enumerate() {
            let mut order = TrackedOrder::new(&self::created(number, *side, *reservation));
            assert!(!super::created(&order).book(&mut order, &mut account).is_beyond_account);
            orders.push(order);
        }
        Self { orders, account }
    }

    fn take(&mut self, number: usize, change: Change) -> Booking {
        let order = &mut self.orders[number];
        let version = self.account.version();
        let order_id = order.order().order_id;
        let booking = book(order, &mut self.account, &Changed { order_id, at: AT, change });
        let moved = u64::from(!booking.entry.movement.is_nothing());
        assert_eq!(self.account.version(), version + moved, "one change, one movement");
        booking
    }

    fn assert_reserves_what_open_orders_hold(&self) {
        let held = |order: &TrackedOrder| order.order().funds().held().unwrap();
        let cash = self.orders.iter().map(|order| match held(order) {
            Held::Cash(cents) => cents,
            Held::Shares(..) | Held::Nothing => 0,
        });
        assert_eq!(self.account.reserved_cents(), cash.sum::<i64>());
        for number in 0..2 {
            let shares = self.orders.iter().map(|order| match held(order) {
                Held::Shares(of, shares) if of == symbol(number) => shares,
                Held::Shares(..) | Held::Cash(_) | Held::Nothing => 0,
            });
            let reserved = self.account.holding(symbol(number)).reserved_shares();
            assert_eq!(reserved, shares.sum::<i64>());
        }
        assert!(self.account.is_balanced());
    }

    /// Cash, shares and what they have cost less the profit, from the executions that count.
    fn assert_equals_a_naive_book(&self) {
        let (mut cash, mut net, mut shares) = (1_000_000, [0; 2], [0; 2]);
        for (number, order) in self.orders.iter().enumerate() {
            let sign = match order.order().side {
                Side::Buy => 1,
                Side::Sell => -1,
            };
            for (_, execution) in order.executions().iter() {
                let Some((num_shares, price)) = execution.counted() else { continue };
                let signed = sign * i64::try_from(num_shares).unwrap();
                cash -= signed * price.cents();
                net[number % 2] += signed * price.cents();
                shares[number % 2] += signed;
            }
        }
        assert_eq!(self.account.cash_cents(), cash);
        for number in 0..2 {
            let holding = self.account.holding(symbol(number));
            assert_eq!(holding.shares(), shares[number]);
            let (cost, profit) = (holding.cost_basis_cents(), holding.realized_profit_cents());
            assert_eq!(cost - profit, net[number]);
        }
        self.assert_reserves_what_open_orders_hold();
    }
}

fn execution_id() -> impl Strategy<Value = ExecutionId> {
    (0..6_u8).prop_map(|number| ExecutionId::new(&format!("e{number}")).unwrap())
}

fn fill(shares: impl Strategy<Value = Shares>) -> impl Strategy<Value = Fill> {
    (execution_id(), 1..90_i64, shares).prop_map(|(execution_id, cents, num_shares)| {
        let price = PriceCents::new(cents).unwrap();
        Fill { execution_id, price, num_shares, executed_at: AT }
    })
}

fn change(
    shares: impl Strategy<Value = Shares> + Clone + 'static,
) -> impl Strategy<Value = Change> {
    let cause = prop_oneof![
        Just(CancelCause::Cancelled),
        Just(CancelCause::Expired),
        Just(CancelCause::Unknown)
    ];
    let case_cause = prop_oneof![Just(CaseCause::Doubtful), Just(CaseCause::IdUsedAgain)];
    let case =
        (case_cause, prop::option::of(fill(shares.clone()))).prop_map(|(cause, execution)| {
            Change::CaseOpened(Box::new(Case { cause, execution, text: "a text".into() }))
        });
    let outcome = prop_oneof![
        3 => Just(CaseOutcome::Booked),
        1 => Just(CaseOutcome::Discarded),
        1 => Just(CaseOutcome::Superseded)
    ];
    // The number is that of a case of the order; see `run`.
    let decision = (0..4_u64, outcome, any::<bool>()).prop_map(|(number, outcome, by)| {
        let by = by.then(|| "ops".into());
        Change::CaseClosed(Box::new(CaseDecision { number, outcome, by, reason: "so".into() }))
    });
    let act = OperatorAct { by: "ops".into(), reason: "so".into() };
    prop_oneof![
        3 => Just(Change::Accepted { external_order_id: ExternalOrderId::new("x").unwrap() }),
        1 => Just(Change::Rejected { reason: "no".into() }),
        1 => Just(Change::NotAccepted),
        2 => Just(Change::CancelRequested),
        2 => cause.prop_map(|cause| Change::Cancelled { cause }),
        1 => Just(Change::CancelRejected { reason: "no".into() }),
        10 => fill(shares).prop_map(Change::Filled),
        3 => execution_id().prop_map(|execution_id| Change::Busted { execution_id }),
        3 => execution_id().prop_map(|execution_id| Change::TakenBack { execution_id }),
        4 => case,
        6 => decision,
        1 => Just(Change::ClosedByOperator(Box::new(act))),
    ]
}

fn reservation() -> impl Strategy<Value = (Side, Reservation)> {
    let price = PriceCents::new(50).unwrap();
    prop_oneof![
        2 => Just((Side::Buy, Reservation::Cash(price))),
        2 => Just((Side::Sell, Reservation::Shares)),
        1 => Just((Side::Buy, Reservation::Nothing)),
        1 => Just((Side::Sell, Reservation::Nothing)),
    ]
}

/// Names a case that is open, if any is.
fn aimed(order: &TrackedOrder, change: &Change) -> Option<Change> {
    match change {
        Change::CaseClosed(decision) => {
            let open = order.cases();
            let place = usize::try_from(decision.number).unwrap() % open.len().max(1);
            let number = open.get(place)?.number;
            Some(Change::CaseClosed(Box::new(CaseDecision { number, ..(**decision).clone() })))
        }
        Change::CaseOpened(_) if order.cases().len() >= 3 => None,
        // As the order's owner does.
        Change::ClosedByOperator(_) if order.order().status.is_terminal() => None,
        change => Some(change.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn orders_and_their_account_agree_with_a_naive_book_after_each_change(
        reservations in vec(reservation(), ORDERS),
        changes in vec((0..ORDERS, change(1..15_u64)), 1..80),
    ) {
        let mut desk = Desk::new(&reservations);
        desk.assert_equals_a_naive_book();
        for (number, change) in changes {
            let Some(change) = aimed(&desk.orders[number], &change) else { continue };
            let before = (OrderParts::of_tracked(&desk.orders[number]), desk.account.clone());
            let booking = desk.take(number, change);
            prop_assert!(!booking.entry.is_beyond_account);
            if !booking.applied.recorded {
                let after = (OrderParts::of_tracked(&desk.orders[number]), desk.account.clone());
                prop_assert_eq!(before, after, "what is not recorded books nothing");
            }
            desk.assert_equals_a_naive_book();
        }
    }

    /// An order that was stored in between books what one in memory books.
    #[test]
    fn a_stored_order_books_like_one_in_memory(
        reservation in reservation(),
        changes in vec(change(1..15_u64), 1..60),
        stored_after: prop::sample::Index,
    ) {
        let stored_after = stored_after.index(changes.len());
        let [mut kept, mut read] = [(); 2].map(|()| Desk::new(&[reservation]));
        for (at, change) in changes.iter().enumerate() {
            let Some(change) = aimed(&kept.orders[0], change) else { continue };
            if at == stored_after {
                let mut encoder = StoredOrderEncoder::new();
                let bytes = encoder.encode(&read.orders[0]).unwrap();
                read.orders[0] = decode_stored(bytes).unwrap();
            }
            prop_assert_eq!(read.take(0, change.clone()), kept.take(0, change));
            prop_assert_eq!(&read.account, &kept.account);
        }
    }

    /// Nonsense is in the order, and as far as it fits in the account.
    #[test]
    fn amounts_beyond_an_account_stop_nothing(
        reservations in vec(reservation(), ORDERS),
        changes in vec((0..ORDERS, change(prop_oneof![
            1..15_u64,
            Just(u64::MAX),
            Just(i64::MAX.unsigned_abs()),
            Just(i64::MAX.unsigned_abs() / 90),
            Just(i64::MAX.unsigned_abs() / 180),
        ])), 1..80),
    ) {
        let mut desk = Desk::new(&reservations);
        for (number, change) in changes {
            let Some(change) = aimed(&desk.orders[number], &change) else { continue };
            desk.take(number, change);
            desk.assert_reserves_what_open_orders_hold();
        }
    }
}

#[test]
fn nothing_moves_where_only_the_exchanges_id_or_a_cancel_is_noted() {
    let mut desk = Desk::new(&[(Side::Buy, Reservation::Cash(PriceCents::new(50).unwrap()))]);
    assert_eq!(desk.account.reserved_cents(), 500);
    for change in [
        Change::Accepted { external_order_id: ExternalOrderId::new("x").unwrap() },
        Change::CancelRequested,
        Change::CancelRejected { reason: "no".into() },
    ] {
        let booking = desk.take(0, change);
        assert!(booking.applied.recorded && booking.entry.movement.is_nothing());
    }
    assert_eq!(desk.account.version(), 2, "the deposit and the reservation");
}

#[test]
fn what_an_account_cannot_take_is_not_taken_back_from_it() {
    let mut desk = Desk::new(&[(Side::Buy, Reservation::Cash(PriceCents::new(50).unwrap()))]);
    let (execution_id, price) = (ExecutionId::new("e1").unwrap(), PriceCents::new(90).unwrap());
    let fill = |num_shares| Fill {
        execution_id: execution_id.clone(),
        price,
        num_shares,
        executed_at: AT,
    };
    let booking = desk.take(0, Change::Filled(fill(u64::MAX)));
    assert!(booking.applied.recorded && booking.entry.is_beyond_account);
    assert_eq!(desk.orders[0].executions().booked(&execution_id), None);
    assert_eq!((desk.account.cash_cents(), desk.account.reserved_cents()), (1_000_000, 0));
    let booking = desk.take(0, Change::Busted { execution_id: execution_id.clone() });
    assert!(booking.applied.recorded && !booking.entry.is_beyond_account);
    assert_eq!((desk.account.cash_cents(), desk.account.reserved_cents()), (1_000_000, 500));
    assert_eq!(desk.account.holding(symbol(0)), Default::default());
}

#[test]
fn a_replaced_execution_is_one_movement() {
    let mut desk = Desk::new(&[(Side::Buy, Reservation::Nothing)]);
    let (execution_id, price) = (ExecutionId::new("e1").unwrap(), PriceCents::new(90).unwrap());
    let fill = |num_shares| Fill {
        execution_id: execution_id.clone(),
        price,
        num_shares,
        executed_at: AT,
    };
    desk.take(0, Change::Filled(fill(4)));
    let claim =
        Case { cause: CaseCause::IdUsedAgain, execution: Some(fill(3)), text: "a text".into() };
    desk.take(0, Change::CaseOpened(Box::new(claim)));
    let number = desk.orders[0].cases()[0].number;
    let (outcome, by) = (CaseOutcome::Booked, Some("ops".into()));
    let decision = CaseDecision { number, outcome, by, reason: "so".into() };
    let version = desk.account.version();
    desk.take(0, Change::CaseClosed(Box::new(decision)));
    assert_eq!(desk.account.version(), version + 1);
    assert_eq!(desk.account.holding(symbol(0)).shares(), 3);
    desk.assert_equals_a_naive_book();
}

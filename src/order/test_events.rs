//! Sample events, for unit tests of what follows the log.

use super::{
    Case, CaseCause, CaseDecision, CaseOutcome, Change, Changed, Created, Event, Fill, TrackedOrder,
};
use crate::money::Reservation;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce,
    TimestampMicros, UserId, UserPartition,
};

const START_MICROS: u64 = 1_732_400_000_000_000;

/// The order with this number, of one of ten users.
pub(crate) fn created(number: u64) -> Created {
    let user = UserId::new(&format!("user-{}", number % 10)).unwrap();
    let at = START_MICROS + number;
    Created {
        order_id: OrderId::new(u128::from(at) * 1_000, number, user.partition()),
        user,
        client_order_id: Some(ClientOrderId::new(&format!("key-{number}")).unwrap()),
        symbol: Symbol::new("IBM").unwrap(),
        side: Side::Buy,
        limit_price: Some(PriceCents::new(12_000).unwrap()),
        time_in_force: TimeInForce::Day,
        num_shares: 10,
        created_at: TimestampMicros::new(at),
        submit_before: TimestampMicros::new(at + 5_000_000),
        reservation: Reservation::Nothing,
    }
}

fn changed(number: u64, change: Change) -> Event {
    let Created { order_id, created_at, .. } = created(number);
    Event::Changed(Changed { order_id, at: created_at.saturating_add_micros(500), change })
}

pub(crate) fn accepted(number: u64) -> Event {
    let external_order_id = ExternalOrderId::new(&format!("X-{number}")).unwrap();
    changed(number, Change::Accepted { external_order_id })
}

pub(crate) fn filled(number: u64, execution: &str, num_shares: u64) -> Event {
    changed(
        number,
        Change::Filled(Fill {
            execution_id: ExecutionId::new(execution).unwrap(),
            price: PriceCents::new(11_990).unwrap(),
            num_shares,
            executed_at: TimestampMicros::new(START_MICROS + number),
        }),
    )
}

pub(crate) fn busted(number: u64, execution: &str) -> Event {
    changed(number, Change::Busted { execution_id: ExecutionId::new(execution).unwrap() })
}

pub(crate) fn taken_back(number: u64, execution: &str) -> Event {
    changed(number, Change::TakenBack { execution_id: ExecutionId::new(execution).unwrap() })
}

/// Orders with executions in each state, the second with open cases. Bytes of them in formats of
/// before are in `formats/`, so they never change.
pub(super) fn orders_of_every_kind() -> [TrackedOrder; 2] {
    let long = "an-id-that-is-longer-than-what-fits-inline-0123456789";
    let at = TimestampMicros::new(1_732_400_000_000_123);
    let created = Created {
        order_id: OrderId::new(1_732_400_000_000_000_000, 7, UserPartition::new(9).unwrap()),
        user: UserId::new("alice").unwrap(),
        client_order_id: Some(ClientOrderId::new(long).unwrap()),
        symbol: Symbol::new("BRK.A").unwrap(),
        side: Side::Sell,
        limit_price: Some(PriceCents::new(1).unwrap()),
        time_in_force: TimeInForce::Gtc,
        num_shares: 10,
        created_at: at,
        submit_before: at.saturating_add_micros(5),
        reservation: Reservation::Nothing,
    };
    let fill = |id: &str, cents, num_shares| Fill {
        execution_id: ExecutionId::new(id).unwrap(),
        price: PriceCents::new(cents).unwrap(),
        num_shares,
        executed_at: at,
    };
    let execution_id = |id: &str| ExecutionId::new(id).unwrap();
    let case = |cause, execution| {
        Change::CaseOpened(Box::new(Case { cause, execution, text: "a text".into() }))
    };
    let external_order_id = ExternalOrderId::new("X-1").unwrap();
    let mut order = TrackedOrder::new(&created);
    let apply = |order: &mut TrackedOrder, change| {
        let changed = Changed { order_id: created.order_id, at, change };
        assert!(order.apply(&changed).recorded);
    };
    apply(&mut order, Change::Accepted { external_order_id });
    apply(&mut order, Change::Filled(fill("e1", 16_740, 3)));
    apply(&mut order, Change::Filled(fill("e2", 16_741, 2)));
    apply(&mut order, Change::Busted { execution_id: execution_id("e2") });
    apply(&mut order, Change::Filled(fill("e3", 16_742, 1)));
    apply(&mut order, Change::TakenBack { execution_id: execution_id("e3") });
    apply(&mut order, case(CaseCause::BeyondLimit, Some(fill("e4", 1, 1))));
    let booked = CaseDecision {
        number: order.order().version,
        outcome: CaseOutcome::Booked,
        by: Some("ops".into()),
        reason: "it is right".into(),
    };
    apply(&mut order, Change::CaseClosed(Box::new(booked)));
    let without_cases = order.clone();
    apply(&mut order, case(CaseCause::Unreadable, None));
    apply(&mut order, case(CaseCause::OtherSymbol, Some(fill("e5", 5, 1))));
    apply(&mut order, Change::CancelRequested);
    [without_cases, order]
}

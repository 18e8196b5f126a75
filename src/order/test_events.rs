//! Sample events, for unit tests of what follows the log.

use super::{Change, Changed, Created, Event, Fill};
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce,
    TimestampMicros, UserId,
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

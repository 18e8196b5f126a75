//! Encoding and decoding of stored orders.

use proptest::prelude::*;

use super::*;
use crate::money::{Booked, Reservation};
use crate::order::{CancelCause, Change, Changed, Created, Execution, Fill};
use crate::types::*;

const LONG: &str = "an-id-that-is-longer-than-what-fits-inline-0123456789";

fn created(key: Option<&str>, limit: Option<i64>, num_shares: Shares) -> Created {
    let user = UserId::new("alice").unwrap();
    Created {
        order_id: OrderId::new(1_732_400_000_000_000_000, 7, user.partition()),
        user,
        client_order_id: key.map(|key| ClientOrderId::new(key).unwrap()),
        symbol: Symbol::new("BRK.A").unwrap(),
        side: Side::Sell,
        limit_price: limit.map(|cents| PriceCents::new(cents).unwrap()),
        time_in_force: TimeInForce::Gtc,
        num_shares,
        created_at: TimestampMicros::new(1_732_400_000_000_000),
        submit_before: TimestampMicros::new(1_732_400_005_000_000),
        reservation: Reservation::Shares,
    }
}

fn change() -> impl Strategy<Value = Change> {
    let execution_id = || (0..40_u8).prop_map(|n| ExecutionId::new(&format!("e{n}")).unwrap());
    let fill =
        (execution_id(), 1..9_i64, 1..6_u64).prop_map(|(execution_id, cents, num_shares)| {
            let price = PriceCents::new(cents).unwrap();
            let executed_at = TimestampMicros::new(3);
            Change::Filled(Fill { execution_id, price, num_shares, executed_at })
        });
    let accepted = prop_oneof![Just("x"), Just(LONG)]
        .prop_map(|id| Change::Accepted { external_order_id: ExternalOrderId::new(id).unwrap() });
    let cause = prop_oneof![
        Just(CancelCause::Cancelled),
        Just(CancelCause::Expired),
        Just(CancelCause::Unknown)
    ];
    prop_oneof![
        3 => accepted,
        6 => fill,
        1 => execution_id().prop_map(|execution_id| Change::Busted { execution_id }),
        1 => cause.prop_map(|cause| Change::Cancelled { cause }),
        1 => Just(Change::CancelRequested),
        1 => Just(Change::CancelRejected { reason: "no".into() }),
        1 => Just(Change::Rejected { reason: LONG.into() }),
        1 => Just(Change::NotAccepted),
    ]
}

fn after(changes: &[Change], num_shares: Shares) -> TrackedOrder {
    let mut tracked = TrackedOrder::new(&created(Some(LONG), Some(16_740), num_shares));
    for (at, change) in changes.iter().enumerate() {
        let order_id = tracked.order().order_id;
        let at = TimestampMicros::new(1_732_400_000_000_000 + at as u64);
        let changed = Changed { order_id, at, change: change.clone() };
        if tracked.apply(&changed).recorded
            && let Change::Filled(fill) = change
        {
            let profit_cents = -fill.price.cents();
            let booked = (profit_cents % 3 != 0).then_some(Booked { profit_cents });
            tracked.set_booked(&fill.execution_id, booked);
        }
    }
    tracked
}

fn executions(tracked: &TrackedOrder) -> Vec<(ExecutionId, Execution, Option<Booked>)> {
    let all = tracked.executions().iter_booked();
    let mut all: Vec<_> =
        all.map(|(id, execution, booked)| (id.clone(), execution, booked)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn assert_same(one: &TrackedOrder, other: &TrackedOrder) {
    assert_eq!(one.order(), other.order());
    assert_eq!(executions(one), executions(other));
}

#[test]
fn optional_fields_round_trip() {
    for (key, limit) in [(None, None), (Some("k"), None), (None, Some(1))] {
        let tracked = TrackedOrder::new(&created(key, limit, 1));
        let mut encoder = StoredOrderEncoder::new();
        assert_same(&decode_stored(encoder.encode(&tracked).unwrap()).unwrap(), &tracked);
    }
}

#[test]
fn newer_formats_are_rejected() {
    let mut encoder = StoredOrderEncoder::new();
    let tracked = TrackedOrder::new(&created(None, None, 1));
    let mut bytes = encoder.encode(&tracked).unwrap().to_vec();
    *bytes.last_mut().unwrap() = STORED_ORDER_FORMAT + 1;
    let error = decode_stored(&bytes).unwrap_err();
    assert!(matches!(error, StoredOrderError::UnknownFormat { found: 5 }), "{error}");
    assert!(decode_stored(&[]).is_err());
}

proptest! {
    /// An order that is stored and read back at any point behaves as if it had stayed in memory.
    #[test]
    fn a_stored_order_continues_like_one_in_memory(
        changes in proptest::collection::vec(change(), 0..40),
        stored_after: prop::sample::Index,
        num_shares in 1..40_u64,
    ) {
        let stored_after = stored_after.index(changes.len() + 1);
        let (before, rest) = changes.split_at(stored_after);
        let mut kept = after(before, num_shares);
        let mut encoder = StoredOrderEncoder::new();
        let bytes = encoder.encode(&kept).unwrap().to_vec();
        let mut read = decode_stored(&bytes).unwrap();
        assert_same(&read, &kept);
        // At any alignment.
        let shifted = [&[0_u8][..], &bytes].concat();
        assert_same(&decode_stored(&shifted[1..]).unwrap(), &kept);
        for change in rest {
            let order_id = kept.order().order_id;
            let changed =
                Changed { order_id, at: TimestampMicros::new(9), change: change.clone() };
            prop_assert_eq!(read.apply(&changed), kept.apply(&changed));
        }
        assert_same(&read, &kept);
    }

    #[test]
    fn hostile_bytes_never_panic(
        changes in proptest::collection::vec(change(), 0..40),
        mut noise in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        cut: prop::sample::Index,
    ) {
        let with_format = [&bytes[..], &[STORED_ORDER_FORMAT]].concat();
        drop(decode_stored(&with_format));
        let mut encoder = StoredOrderEncoder::new();
        let mut stored = encoder.encode(&after(&changes, 20)).unwrap().to_vec();
        drop(decode_stored(&stored[..cut.index(stored.len())]));
        while let Some((at, flip)) = noise.pop() {
            let at = at.index(stored.len());
            stored[at] ^= flip;
            drop(decode_stored(&stored));
        }
    }
}

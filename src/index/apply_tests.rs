//! The index over a store in memory: it holds what the records say, however they are batched and
//! wherever it crashes.

use proptest::prelude::*;

use super::store::Space;
use super::test_log::*;
use super::*;
use crate::order::*;
use crate::testing::MemoryStore;
use crate::types::*;
use crate::wal::{LogId, Lsn};

/// What happens between two records.
#[derive(Debug, Clone)]
enum Pause {
    Commit,
    Persist,
    /// A crash that this many batches since the last persist survive.
    Crash(usize),
}

fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        6 => Just(Pause::Commit),
        2 => Just(Pause::Persist),
        1 => (0..6_usize).prop_map(Pause::Crash),
    ]
}

fn open(store: &MemoryStore) -> (Index, IndexWriter) {
    let index = Index::in_memory(store, AGES).unwrap();
    let writer = IndexWriter::new(index.clone(), LOG).unwrap();
    (index, writer)
}

fn created(user: &UserId, order_id: OrderId, at: TimestampMicros) -> Created {
    Created {
        order_id,
        user: user.clone(),
        client_order_id: None,
        symbol: Symbol::new("IBM").unwrap(),
        side: Side::Buy,
        limit_price: None,
        time_in_force: TimeInForce::Day,
        num_shares: 10,
        created_at: at,
        submit_before: at,
        reservation: crate::money::Reservation::Nothing,
    }
}

/// The content except for what depends on how records are batched: ended orders and changes.
fn content(store: &MemoryStore) -> Vec<(Space, Vec<u8>, store::Bytes)> {
    let mut content = store.content();
    content.retain(|(space, key, _)| match space {
        Space::Node => key.first() != Some(&b'e'),
        Space::Changes(_) | Space::Versions(_) => false,
        _ => true,
    });
    content
}

proptest! {
    #[test]
    fn batches_and_crashes_change_nothing(
        moves in proptest::collection::vec(one_move(), 1..120),
        pauses in proptest::collection::vec((any::<prop::sample::Index>(), pause()), 0..24),
    ) {
        let model = Model::of(&moves);
        let count = model.events.len();
        let at_once = MemoryStore::new();
        let (index, mut writer) = open(&at_once);
        take_until(&mut writer, &model.events, count);
        writer.commit().unwrap();
        model.check(&index);

        let store = MemoryStore::new();
        let (mut index, mut writer) = open(&store);
        for (at, pause) in &pauses {
            let seen_before = index.position();
            take_until(&mut writer, &model.events, at.index(count + 1));
            prop_assert_eq!(index.position(), seen_before, "nothing is visible before its commit");
            match pause {
                Pause::Commit => writer.commit().unwrap(),
                Pause::Persist => {
                    writer.commit().unwrap();
                    writer.persist().unwrap();
                    prop_assert_eq!(index.durable_position(), index.position());
                }
                Pause::Crash(surviving) => {
                    let (durable, position) = (index.durable_position(), index.position());
                    store.crash(*surviving);
                    (index, writer) = open(&store);
                    prop_assert!(index.position() >= durable && index.position() <= position);
                    let so_far = usize::try_from(index.position().0).unwrap();
                    let mut events = Model::default();
                    events.replay(&model.events[..so_far]);
                    events.check(&index);
                }
            }
        }
        take_until(&mut writer, &model.events, count);
        writer.commit().unwrap();
        model.check(&index);
        prop_assert_eq!(content(&store), content(&at_once));
    }
}

#[test]
fn a_reopened_order_is_in_one_space_only() {
    let store = MemoryStore::new();
    let (index, mut writer) = open(&store);
    let user = UserId::new("alice").unwrap();
    let order_id = OrderId::new(1, 1, user.partition());
    let at = TimestampMicros::new(1);
    let created = created(&user, order_id, at);
    let fill = Fill {
        execution_id: ExecutionId::new("e").unwrap(),
        price: PriceCents::new(5).unwrap(),
        num_shares: 4,
        executed_at: at,
    };
    let external_order_id = ExternalOrderId::new("x").unwrap();
    let changes = [
        (Change::Accepted { external_order_id }, true),
        (Change::Cancelled { cause: CancelCause::Cancelled }, false),
        (Change::Filled(fill), true),
        (Change::Cancelled { cause: CancelCause::Expired }, false),
    ];
    writer.take(Lsn(1), Event::Created(created)).unwrap();
    for (lsn, (change, is_open)) in (2..).zip(changes) {
        let changed = Changed { order_id, at, change };
        writer.take(Lsn(lsn), Event::Changed(changed)).unwrap();
        writer.commit().unwrap();
        // A new writer has no recent orders in memory.
        writer = IndexWriter::new(index.clone(), LOG).unwrap();
        let mut open = 0;
        index.load_open(user.partition(), &mut |_| open += 1).unwrap();
        let request = PageRequest { limit: 10, ..PageRequest::default() };
        let ended = index.ended(&user, &request).unwrap().orders.len();
        assert_eq!((open, ended), if is_open { (1, 0) } else { (0, 1) });
        assert_eq!(index.order(&user, order_id).unwrap().unwrap().order().is_open(), is_open);
    }
}

#[test]
fn records_out_of_order_are_refused() {
    let store = MemoryStore::new();
    let (index, mut writer) = open(&store);
    let model = long_log();
    let error = writer.take(Lsn(2), model.events[1].clone()).unwrap_err();
    assert!(matches!(error, IndexError::OutOfOrder { lsn: Lsn(2), expected: Lsn(1) }), "{error}");
    let changed = Changed {
        order_id: OrderId::from_u128(5),
        at: TimestampMicros::new(1),
        change: Change::NotAccepted,
    };
    let error = writer.take(Lsn(1), Event::Changed(changed)).unwrap_err();
    assert!(matches!(error, IndexError::UnknownOrder { lsn: Lsn(1), .. }), "{error}");

    let (_, mut writer) = open(&store);
    take_until(&mut writer, &model.events, 10);
    writer.commit().unwrap();
    assert_eq!(index.position(), Lsn(0), "another handle");
    let error = IndexWriter::new(open(&store).0, LogId(8)).unwrap_err();
    assert!(matches!(error, IndexError::OtherLog { log: LogId(8), .. }), "{error}");
}

#[test]
fn an_external_id_that_is_used_again_within_a_day_is_told_once() {
    const HOUR_MICROS: u64 = 3_600 * 1_000_000;
    let store = MemoryStore::new();
    let (index, mut writer) = open(&store);
    let user = UserId::new("alice").unwrap();
    let (mut lsn, mut ids) = (1, Vec::new());
    for (number, hours) in [(1, 1), (2, 2), (3, 20)] {
        let at = TimestampMicros::new(hours * HOUR_MICROS);
        let order_id = OrderId::new(1, number, user.partition());
        ids.push(order_id);
        let created = created(&user, order_id, at);
        let external_order_id = ExternalOrderId::new("x").unwrap();
        let changes = [
            Change::Accepted { external_order_id },
            Change::Cancelled { cause: CancelCause::Expired },
        ];
        writer.take(Lsn(lsn), Event::Created(created)).unwrap();
        for change in changes {
            lsn += 1;
            writer.take(Lsn(lsn), Event::Changed(Changed { order_id, at, change })).unwrap();
        }
        lsn += 1;
        writer.commit().unwrap();
    }
    // The third comes long after the end of the second.
    let id = ExternalOrderId::new("x").unwrap();
    assert_eq!(index.take_reused_ids(), [ReusedId { id, before: ids[0] }]);
    assert_eq!(index.take_reused_ids(), []);
}

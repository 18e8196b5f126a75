//! Encodes events as log records. The log stores bytes, a kind and a format version; this file
//! gives them meaning.

use std::mem;

use rkyv::api::low::{LowSerializer, to_bytes_in_with_alloc};
use rkyv::rancor;
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use super::account_event::{AccountAdopted, AccountSource, AccountsBegun, CashMoved};
use super::case::OpenCase;
use super::change::{Changed, Created, FeedPosition, UnmatchedReport};
use super::earlier::{Adopted3, Created3, FeedPosition2};
use super::event::{Adopted, Event};
use super::parts::OrderParts;
use super::payload::{PAYLOAD_ALIGNMENT, read};
use super::stored_error::StoredOrderError;
use super::user_field::AsText;
use crate::money::{Account, StoredAccountError};
use crate::types::{TimestampMicros, UserId};

/// Format version that this code writes. Any change of a record layout increments it; readers keep
/// reading the previous ones. 2: more kinds of changes. 3: adopted orders, and feed positions with the
/// sessions before. 4: what orders reserve, the profit of executions of adopted ones, and accounts.
pub const RECORD_FORMAT_VERSION: u8 = 4;
/// Partition byte of records that belong to the node, not to a user.
pub const NODE_PARTITION: u8 = u8::MAX;

const _: () = assert!(crate::types::USER_PARTITIONS <= NODE_PARTITION as usize);
const _: () = assert!(mem::align_of::<<Created as Archive>::Archived>() <= PAYLOAD_ALIGNMENT);
// Zero is the format of preallocated space.
const _: () = assert!(RECORD_FORMAT_VERSION > 0);

// Kinds are part of the format: never reuse or renumber them.
const KIND_CREATED: u8 = 1;
const KIND_CHANGED: u8 = 2;
const KIND_UNMATCHED_REPORT: u8 = 3;
const KIND_FEED_POSITION: u8 = 4;
const KIND_ADOPTED: u8 = 5;
const KIND_CASH_MOVED: u8 = 6;
const KIND_ACCOUNT_ADOPTED: u8 = 7;
const KIND_ACCOUNTS_BEGUN: u8 = 8;

/// The record of an adopted order.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct AdoptedRecord {
    at: TimestampMicros,
    parts: OrderParts,
    /// Those of the parts, which have their own place in a stored order.
    cases: Vec<OpenCase>,
}

/// The record of an adopted account.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct AccountAdoptedRecord {
    #[rkyv(with = AsText)]
    user: UserId,
    at: TimestampMicros,
    source: AccountSource,
    /// As the store has it.
    account: Vec<u8>,
}

/// Why a record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer version, or damaged.
    #[error("unknown record kind {kind}")]
    UnknownKind { kind: u8 },
    /// Written by a newer version.
    #[error("record has format {format_version}, this version reads up to {RECORD_FORMAT_VERSION}")]
    UnknownFormat { format_version: u8 },
    /// The payload is not valid for its kind.
    #[error("record of kind {kind} cannot be decoded")]
    Invalid { kind: u8, source: rancor::Error },
    /// The adopted order is in a state that no sequence of events produces.
    #[error("record of kind {kind} is no order")]
    Contradiction { kind: u8, source: StoredOrderError },
    /// The adopted account is none.
    #[error("record of kind {kind} is no account")]
    NoAccount { kind: u8, source: StoredAccountError },
    /// The event does not fit a record.
    #[error("event of kind {kind} cannot be written")]
    Unwritable { kind: u8, source: rancor::Error },
}

impl Event {
    /// The kind of its record.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Created(_) => KIND_CREATED,
            Self::Changed(_) => KIND_CHANGED,
            Self::UnmatchedReport(_) => KIND_UNMATCHED_REPORT,
            Self::FeedPosition(_) => KIND_FEED_POSITION,
            Self::Adopted(_) => KIND_ADOPTED,
            Self::CashMoved(_) => KIND_CASH_MOVED,
            Self::AccountAdopted(_) => KIND_ACCOUNT_ADOPTED,
            Self::AccountsBegun(_) => KIND_ACCOUNTS_BEGUN,
        }
    }

    /// Whether records of this kind create orders; decodes nothing.
    pub const fn is_created(kind: u8) -> bool {
        kind == KIND_CREATED
    }

    /// The partition byte of its record: a user partition or [`NODE_PARTITION`].
    pub fn partition_byte(&self) -> u8 {
        match self {
            Self::Created(created) => created.order_id.partition().get(),
            Self::Changed(changed) => changed.order_id.partition().get(),
            Self::Adopted(adopted) => adopted.order.order().order_id.partition().get(),
            Self::CashMoved(moved) => moved.user.partition().get(),
            Self::AccountAdopted(adopted) => adopted.user.partition().get(),
            Self::UnmatchedReport(_) | Self::FeedPosition(_) | Self::AccountsBegun(_) => {
                NODE_PARTITION
            }
        }
    }
}

/// Encodes events as record payloads, reusing one arena and one buffer.
#[derive(Default)]
pub struct EventEncoder {
    arena: Arena,
    buffer: AlignedVec<PAYLOAD_ALIGNMENT>,
}

impl EventEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes an event. The payload is valid until the next call.
    ///
    /// # Errors
    /// [`RecordError::Unwritable`] for a text beyond rkyv's limits, which no event has.
    pub fn encode(&mut self, event: &Event) -> Result<&[u8], RecordError> {
        match event {
            Event::Created(created) => self.write(created),
            Event::Changed(changed) => self.write(changed),
            Event::UnmatchedReport(report) => self.write(report),
            Event::FeedPosition(position) => self.write(position),
            Event::Adopted(adopted) => {
                let mut parts = OrderParts::of_tracked(&adopted.order);
                let cases = mem::take(&mut parts.cases);
                self.write(&AdoptedRecord { at: adopted.at, parts, cases })
            }
            Event::CashMoved(moved) => self.write(&**moved),
            Event::AccountAdopted(adopted) => {
                let AccountAdopted { user, at, source, account } = &**adopted;
                self.write(&AccountAdoptedRecord {
                    user: user.clone(),
                    at: *at,
                    source: *source,
                    account: account.to_bytes(),
                })
            }
            Event::AccountsBegun(begun) => self.write(begun),
        }
        .map_err(|source| RecordError::Unwritable { kind: event.kind(), source })?;
        assert!(!self.buffer.is_empty(), "a record has a payload");
        debug_assert!(
            decode(event.kind(), RECORD_FORMAT_VERSION, &self.buffer)
                .is_ok_and(|read| read == *event),
            "what is written can be read: {event:?}"
        );
        Ok(&self.buffer)
    }

    fn write<T>(&mut self, value: &T) -> Result<(), rancor::Error>
    where
        T: for<'a> Serialize<
            LowSerializer<AlignedVec<PAYLOAD_ALIGNMENT>, ArenaHandle<'a>, rancor::Error>,
        >,
    {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.buffer = to_bytes_in_with_alloc(value, buffer, self.arena.acquire())?;
        Ok(())
    }
}

impl std::fmt::Debug for EventEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EventEncoder").field("buffer_bytes", &self.buffer.len()).finish()
    }
}

/// Decodes a record whose checksum was verified. Validates the payload with bytecheck.
///
/// # Errors
/// An unknown kind, a newer format, or a payload that is not valid for its kind.
pub fn decode(kind: u8, format_version: u8, payload: &[u8]) -> Result<Event, RecordError> {
    if format_version == 0 || format_version > RECORD_FORMAT_VERSION {
        return Err(RecordError::UnknownFormat { format_version });
    }
    let event = match kind {
        KIND_CREATED if format_version < 4 => {
            read::<Created3>(payload).map(|created| Event::Created(created.into()))
        }
        KIND_CREATED => read::<Created>(payload).map(Event::Created),
        KIND_CHANGED => read::<Changed>(payload).map(Event::Changed),
        KIND_UNMATCHED_REPORT => read::<UnmatchedReport>(payload).map(Event::UnmatchedReport),
        KIND_FEED_POSITION if format_version < 3 => {
            read::<FeedPosition2>(payload).map(|position| Event::FeedPosition(position.into()))
        }
        KIND_FEED_POSITION => read::<FeedPosition>(payload).map(Event::FeedPosition),
        KIND_ADOPTED if format_version < 4 => match read::<Adopted3>(payload) {
            Ok(Adopted3 { at, parts, cases }) => return adopted(at, parts.into(), cases),
            Err(error) => Err(error),
        },
        KIND_ADOPTED => match read::<AdoptedRecord>(payload) {
            Ok(AdoptedRecord { at, parts, cases }) => return adopted(at, parts, cases),
            Err(error) => Err(error),
        },
        KIND_CASH_MOVED if format_version >= 4 => {
            read::<CashMoved>(payload).map(|moved| Event::CashMoved(Box::new(moved)))
        }
        KIND_ACCOUNT_ADOPTED if format_version >= 4 => {
            match read::<AccountAdoptedRecord>(payload) {
                Ok(record) => return account_adopted(record),
                Err(error) => Err(error),
            }
        }
        KIND_ACCOUNTS_BEGUN if format_version >= 4 => {
            read::<AccountsBegun>(payload).map(Event::AccountsBegun)
        }
        _ => return Err(RecordError::UnknownKind { kind }),
    }
    .map_err(|source| RecordError::Invalid { kind, source })?;
    assert_eq!(event.kind(), kind, "an event has the kind of its record");
    Ok(event)
}

fn adopted(
    at: TimestampMicros,
    mut parts: OrderParts,
    cases: Vec<OpenCase>,
) -> Result<Event, RecordError> {
    parts.cases = cases;
    let order = parts
        .into_tracked()
        .map_err(|source| RecordError::Contradiction { kind: KIND_ADOPTED, source })?;
    Ok(Event::Adopted(Box::new(Adopted { at, order })))
}

fn account_adopted(record: AccountAdoptedRecord) -> Result<Event, RecordError> {
    let AccountAdoptedRecord { user, at, source, account } = record;
    let account = Account::from_bytes(&account)
        .map_err(|source| RecordError::NoAccount { kind: KIND_ACCOUNT_ADOPTED, source })?;
    Ok(Event::AccountAdopted(Box::new(AccountAdopted { user, at, source, account })))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::money::{Booked, Reservation};
    use crate::order::account_event::CashMovementKind;
    use crate::order::change::{CancelCause, Change, ReportKind};
    use crate::order::fill::Fill;
    use crate::order::test_events::orders_of_every_kind;
    use crate::order::tracked::TrackedOrder;
    use crate::types::*;
    use proptest::prelude::*;

    /// Number of the examples that are as format 3 has them.
    const OLDER_EVENTS: usize = 13;

    pub(in crate::order) fn examples() -> Vec<Event> {
        let order_id = OrderId::new(1_732_400_000_000_000_000, 7, UserPartition::new(9).unwrap());
        let at = TimestampMicros::new(1_732_400_000_000_123);
        let long = "an-id-that-is-longer-than-what-fits-inline-0123456789";
        let fill = Fill {
            execution_id: ExecutionId::new(long).unwrap(),
            price: PriceCents::new(16_740).unwrap(),
            num_shares: 300,
            executed_at: at,
        };
        let created = Created {
            order_id,
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
        let market = Created { client_order_id: None, limit_price: None, ..created.clone() };
        let sell = Created { reservation: Reservation::Shares, ..created.clone() };
        let price = PriceCents::new(16_750).unwrap();
        let buy =
            Created { side: Side::Buy, reservation: Reservation::Cash(price), ..market.clone() };
        let external_order_id = ExternalOrderId::new("X-1").unwrap();
        let execution_id = ExecutionId::new("e1").unwrap();
        let changes = [
            Change::Accepted { external_order_id: external_order_id.clone() },
            Change::Rejected { reason: "unknown_symbol: no such symbol here".into() },
            Change::NotAccepted,
            Change::CancelRequested,
            Change::Cancelled { cause: CancelCause::Unknown },
            Change::CancelRejected { reason: "".into() },
            Change::Filled(fill.clone()),
            Change::Busted { execution_id: execution_id.clone() },
        ];
        let booked = Fill { execution_id: execution_id.clone(), ..fill.clone() };
        let changed = changes.map(|change| Event::Changed(Changed { order_id, at, change }));
        let (adopted, partial) = (created.clone(), Fill { num_shares: 3, ..fill.clone() });
        let kind = ReportKind::Filled(fill);
        let unmatched = UnmatchedReport { external_order_id, kind, received_at: at };
        let position = FeedPosition {
            session: "7".into(),
            sequence: u64::MAX,
            at,
            past: vec!["5".into(), "a-name-that-is-longer-than-what-fits-inline".into()],
        };
        let mut events = vec![Event::Created(created), Event::Created(market)];
        events.extend(changed);
        events.extend([Event::UnmatchedReport(unmatched), Event::FeedPosition(position)]);
        let mut order = TrackedOrder::new(&adopted);
        order.apply(&Changed { order_id, at, change: Change::Filled(partial) });
        events.push(Event::Adopted(Box::new(Adopted { at, order })));
        assert_eq!(events.len(), OLDER_EVENTS, "what follows is newer than format 3");
        let mut order = TrackedOrder::new(&buy);
        events.extend([Event::Created(sell), Event::Created(buy)]);
        order.apply(&Changed { order_id, at, change: Change::Filled(booked) });
        order.set_booked(&execution_id, Some(Booked { profit_cents: -5 }));
        events.push(Event::Adopted(Box::new(Adopted { at, order })));
        let (user, mut account) = (UserId::new("alice").unwrap(), Account::default());
        account.deposit(1_000).unwrap();
        account.reserve_buy(2, price).unwrap_err();
        account.reserve_buy(1, PriceCents::new(7).unwrap()).unwrap();
        let (kind, by) = (CashMovementKind::Withdrawal, Some("ops".into()));
        let (id, reason) = (long.into(), "asked for".into());
        let moved = CashMoved { user: user.clone(), id, at, cents: 5, kind, by, reason };
        let opening = CashMoved { kind: CashMovementKind::Opening, by: None, ..moved.clone() };
        let (source, begun) = (AccountSource::Orders, AccountsBegun { at });
        let adopted = AccountAdopted { user, at, source, account };
        events.extend([moved, opening].map(|moved| Event::CashMoved(Box::new(moved))));
        events.push(Event::AccountAdopted(Box::new(adopted)));
        events.push(Event::AccountsBegun(begun));
        events
    }

    #[test]
    fn every_kind_of_event_round_trips() {
        let mut encoder = EventEncoder::new();
        for event in examples() {
            let payload = encoder.encode(&event).unwrap().to_vec();
            let back = decode(event.kind(), RECORD_FORMAT_VERSION, &payload).unwrap();
            assert_eq!(back, event);
            // The log hands out aligned bytes, but decoding does not rely on that.
            let shifted = [&[0_u8][..], &payload].concat();
            assert_eq!(decode(event.kind(), RECORD_FORMAT_VERSION, &shifted[1..]).unwrap(), event);
        }
    }

    #[test]
    fn newer_kinds_and_formats_are_rejected() {
        let mut encoder = EventEncoder::new();
        let event = examples().remove(0);
        let payload = encoder.encode(&event).unwrap();
        assert!(matches!(decode(99, 1, payload), Err(RecordError::UnknownKind { kind: 99 })));
        let newer = decode(event.kind(), RECORD_FORMAT_VERSION + 1, payload);
        assert!(matches!(newer, Err(RecordError::UnknownFormat { .. })));
    }

    /// Events of every kind that format 3 has, with what it has of them.
    pub(in crate::order) fn older_events() -> Vec<Event> {
        let mut events = examples();
        events.truncate(OLDER_EVENTS);
        let at = TimestampMicros::new(1_732_400_000_000_123);
        for order in orders_of_every_kind() {
            events.push(Event::Adopted(Box::new(Adopted { at, order })));
        }
        events
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            kind in 0..9_u8,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..256),
        ) {
            drop(decode(kind, RECORD_FORMAT_VERSION, &bytes));
            // A valid record with one changed byte: either rejected or some event.
            let mut encoder = EventEncoder::new();
            for event in examples() {
                let mut payload = encoder.encode(&event).unwrap().to_vec();
                let noise = bytes.pop().unwrap_or(0x5a);
                let place = usize::from(noise) % payload.len();
                payload[place] ^= noise | 1;
                drop(decode(event.kind(), RECORD_FORMAT_VERSION, &payload));
            }
        }
    }
}

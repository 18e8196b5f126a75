//! Events as log records. The log keeps bytes, a kind and a format version; what they mean is
//! decided here.

use std::mem;

use rkyv::api::high::{HighDeserializer, HighValidator};
use rkyv::api::low::{LowSerializer, to_bytes_in_with_alloc};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::event::{Changed, Created, Event, FeedPosition, UnmatchedReport};

/// Version of the record formats written here. Rises with any change to the layout of a record;
/// readers keep reading those before. 2: changes have more kinds.
pub const RECORD_FORMAT_VERSION: u8 = 2;
/// Stands in the partition byte of records that belong to the node and to no user.
pub const NODE_PARTITION: u8 = u8::MAX;
/// What rkyv data, 128-bit ids included, may need.
pub(super) const PAYLOAD_ALIGNMENT: usize = 16;

const _: () = assert!(crate::types::USER_PARTITIONS <= NODE_PARTITION as usize);
const _: () = assert!(mem::align_of::<<Created as Archive>::Archived>() <= PAYLOAD_ALIGNMENT);

// Kinds are part of the format: never reused, never renumbered.
const KIND_CREATED: u8 = 1;
const KIND_CHANGED: u8 = 2;
const KIND_HELD_REPORT: u8 = 3;
const KIND_FEED_POSITION: u8 = 4;

/// Why a record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer program, or damaged.
    #[error("record kind {kind} is not known here")]
    UnknownKind {
        /// The kind that the record gives.
        kind: u8,
    },
    /// Written by a newer program.
    #[error("record format {format_version} is not known here: up to {RECORD_FORMAT_VERSION} is")]
    UnknownFormat {
        /// The version that the record gives.
        format_version: u8,
    },
    /// The bytes are not what the kind says.
    #[error("record of kind {kind} does not hold what its kind says")]
    Invalid {
        /// The kind that the record gives.
        kind: u8,
        /// What validation found.
        source: rancor::Error,
    },
    /// An event that does not fit a record.
    #[error("event of kind {kind} cannot be written")]
    Unwritable {
        /// The kind of the event.
        kind: u8,
        /// What serialization said.
        source: rancor::Error,
    },
}

impl Event {
    /// The kind byte of its record.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Created(_) => KIND_CREATED,
            Self::Changed(_) => KIND_CHANGED,
            Self::UnmatchedReport(_) => KIND_HELD_REPORT,
            Self::FeedPosition(_) => KIND_FEED_POSITION,
        }
    }

    /// Whether records of a kind are of orders that come into being, without a look at them.
    pub const fn is_created(kind: u8) -> bool {
        kind == KIND_CREATED
    }

    /// The partition byte of its record: the user partition, or [`NODE_PARTITION`].
    pub fn partition_byte(&self) -> u8 {
        match self {
            Self::Created(created) => created.order_id.partition().get(),
            Self::Changed(changed) => changed.order_id.partition().get(),
            Self::UnmatchedReport(_) | Self::FeedPosition(_) => NODE_PARTITION,
        }
    }
}

/// Turns events into record payloads with one arena and one buffer, both reused.
#[derive(Default)]
pub struct EventEncoder {
    arena: Arena,
    buffer: AlignedVec<PAYLOAD_ALIGNMENT>,
}

impl EventEncoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The payload of an event's record, valid until the next call.
    ///
    /// # Errors
    /// [`RecordError::Unwritable`] for a text over rkyv's limits, which no event has.
    pub fn encode(&mut self, event: &Event) -> Result<&[u8], RecordError> {
        match event {
            Event::Created(created) => self.write(created),
            Event::Changed(changed) => self.write(changed),
            Event::UnmatchedReport(report) => self.write(report),
            Event::FeedPosition(position) => self.write(position),
        }
        .map_err(|source| RecordError::Unwritable { kind: event.kind(), source })?;
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

/// Reads a record, after its checksum was found right: validated by bytecheck, then used.
///
/// # Errors
/// A kind or version from the future, or bytes that are not what the kind says.
pub fn decode(kind: u8, format_version: u8, payload: &[u8]) -> Result<Event, RecordError> {
    if format_version == 0 || format_version > RECORD_FORMAT_VERSION {
        return Err(RecordError::UnknownFormat { format_version });
    }
    match kind {
        KIND_CREATED => read::<Created>(payload).map(Event::Created),
        KIND_CHANGED => read::<Changed>(payload).map(Event::Changed),
        KIND_HELD_REPORT => read::<UnmatchedReport>(payload).map(Event::UnmatchedReport),
        KIND_FEED_POSITION => read::<FeedPosition>(payload).map(Event::FeedPosition),
        _ => return Err(RecordError::UnknownKind { kind }),
    }
    .map_err(|source| RecordError::Invalid { kind, source })
}

pub(super) fn read<T>(payload: &[u8]) -> Result<T, rancor::Error>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    if payload.as_ptr().align_offset(PAYLOAD_ALIGNMENT) == 0 {
        return rkyv::from_bytes(payload);
    }
    let mut aligned = AlignedVec::<PAYLOAD_ALIGNMENT>::with_capacity(payload.len());
    aligned.extend_from_slice(payload);
    rkyv::from_bytes(&aligned)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::order::event::{CancelCause, Change, Fill, ReportKind};
    use crate::types::*;
    use proptest::prelude::*;

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
        };
        let market = Created { client_order_id: None, limit_price: None, ..created.clone() };
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
            Change::Busted { execution_id },
        ];
        let changed = changes.map(|change| Event::Changed(Changed { order_id, at, change }));
        let kind = ReportKind::Filled(fill);
        let held = UnmatchedReport { external_order_id, kind, received_at: at };
        let position = FeedPosition { session: "7".into(), sequence: u64::MAX, at };
        let mut events = vec![Event::Created(created), Event::Created(market)];
        events.extend(changed);
        events.extend([Event::UnmatchedReport(held), Event::FeedPosition(position)]);
        events
    }

    #[test]
    fn every_kind_of_event_comes_back() {
        let mut encoder = EventEncoder::new();
        for event in examples() {
            let payload = encoder.encode(&event).unwrap().to_vec();
            let back = decode(event.kind(), RECORD_FORMAT_VERSION, &payload).unwrap();
            assert_eq!(back, event);
            // The log hands out aligned bytes; nothing relies on it.
            let shifted = [&[0_u8][..], &payload].concat();
            assert_eq!(decode(event.kind(), 1, &shifted[1..]).unwrap(), event);
        }
    }

    #[test]
    fn the_future_is_refused() {
        let mut encoder = EventEncoder::new();
        let event = examples().remove(0);
        let payload = encoder.encode(&event).unwrap();
        assert!(matches!(decode(99, 1, payload), Err(RecordError::UnknownKind { kind: 99 })));
        let newer = decode(event.kind(), RECORD_FORMAT_VERSION + 1, payload);
        assert!(matches!(newer, Err(RecordError::UnknownFormat { .. })));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            kind in 0..6_u8,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..256),
        ) {
            drop(decode(kind, RECORD_FORMAT_VERSION, &bytes));
            // And a real record with one byte changed: either refused or some event.
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

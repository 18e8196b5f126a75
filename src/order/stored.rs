//! The stored form of an order: its state after all its events, so that they need no replay. An
//! rkyv record followed by one byte of format version.

use std::mem;
use std::sync::Arc;

use rkyv::api::high::{HighDeserializer, HighValidator};
use rkyv::api::low::to_bytes_in_with_alloc;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{self, Source};
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize};

use super::earlier::OrderParts2;
use super::parts::OrderParts;
use super::payload::{PAYLOAD_ALIGNMENT, read};
use super::record::Order;
use super::stored_error::{STORED_ORDER_FORMAT, StoredOrderError};
use super::tracked::TrackedOrder;

/// An order without open cases, as nearly all are.
const WITHOUT_CASES: u8 = 3;
/// An order, its open cases, and the length of the cases as a little-endian `u32`.
const WITH_CASES: u8 = STORED_ORDER_FORMAT;
/// As [`WITHOUT_CASES`], without reservation and profits.
const WITHOUT_CASES_1: u8 = 1;
/// As [`WITH_CASES`], without reservation and profits.
const WITH_CASES_2: u8 = 2;

const _: () = assert!(mem::align_of::<<OrderParts as Archive>::Archived>() <= PAYLOAD_ALIGNMENT);

/// Encodes orders, reusing one arena and one buffer.
#[derive(Default)]
pub struct StoredOrderEncoder {
    arena: Arena,
    buffer: AlignedVec<PAYLOAD_ALIGNMENT>,
}

impl StoredOrderEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes an order. The bytes are valid until the next call.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text beyond rkyv's limits, which no order has.
    pub fn encode(&mut self, tracked: &TrackedOrder) -> Result<&[u8], StoredOrderError> {
        let bytes = self.write(OrderParts::of_tracked(tracked))?;
        debug_assert!(
            decode_stored(bytes)
                .is_ok_and(|read| OrderParts::of_tracked(&read) == OrderParts::of_tracked(tracked)),
            "what is stored can be read: {tracked:?}"
        );
        Ok(bytes)
    }

    /// Encodes one version of an order for readers, without its executions: it takes no further
    /// changes. The bytes are valid until the next call.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text beyond rkyv's limits, which no order has.
    pub fn encode_version(&mut self, order: &Order) -> Result<&[u8], StoredOrderError> {
        let bytes = self.write(OrderParts::of_order(order))?;
        debug_assert!(
            decode_version(bytes).is_ok_and(|read| *read == *order),
            "what is stored can be read: {order:?}"
        );
        Ok(bytes)
    }

    fn write(&mut self, stored: OrderParts) -> Result<&[u8], StoredOrderError> {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.buffer = to_bytes_in_with_alloc(&stored, buffer, self.arena.acquire())
            .map_err(StoredOrderError::Unwritable)?;
        if stored.cases.is_empty() {
            self.buffer.push(WITHOUT_CASES);
            return Ok(&self.buffer);
        }
        let cases =
            rkyv::to_bytes::<rancor::Error>(&stored.cases).map_err(StoredOrderError::Unwritable)?;
        let Ok(length) = u32::try_from(cases.len()) else {
            unreachable!("open cases are bounded in number and size: {} bytes", cases.len());
        };
        self.buffer.extend_from_slice(&cases);
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.push(WITH_CASES);
        Ok(&self.buffer)
    }
}

impl std::fmt::Debug for StoredOrderEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.buffer.len();
        formatter.debug_struct("StoredOrderEncoder").field("buffer_bytes", &bytes).finish()
    }
}

/// Decodes and validates a stored order. Any bytes yield an order or an error, never a panic.
///
/// # Errors
/// A newer format, invalid bytes, or an order that contradicts itself.
pub fn decode_stored(bytes: &[u8]) -> Result<TrackedOrder, StoredOrderError> {
    // Bytes of a file may be anything.
    let Some((&found, payload)) = bytes.split_last() else {
        return Err(StoredOrderError::UnknownFormat { found: 0 });
    };
    match found {
        WITHOUT_CASES => {
            read::<OrderParts>(payload).map_err(StoredOrderError::Invalid)?.into_tracked()
        }
        WITH_CASES => decode_with_cases::<OrderParts>(payload)?.into_tracked(),
        WITHOUT_CASES_1 => {
            let parts = read::<OrderParts2>(payload).map_err(StoredOrderError::Invalid)?;
            OrderParts::from(parts).into_tracked()
        }
        WITH_CASES_2 => decode_with_cases::<OrderParts2>(payload)?.into_tracked(),
        _ => Err(StoredOrderError::UnknownFormat { found }),
    }
}

fn decode_with_cases<T>(payload: &[u8]) -> Result<OrderParts, StoredOrderError>
where
    T: Archive + Into<OrderParts>,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    let truncated = || StoredOrderError::Invalid(rancor::Error::new(TruncatedCases));
    let (payload, length) = payload.split_last_chunk().ok_or_else(truncated)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| truncated())?;
    let parts_end = payload.len().checked_sub(length).ok_or_else(truncated)?;
    let (parts, cases) = payload.split_at_checked(parts_end).ok_or_else(truncated)?;
    let mut parts: OrderParts = read::<T>(parts).map_err(StoredOrderError::Invalid)?.into();
    parts.cases = read(cases).map_err(StoredOrderError::Invalid)?;
    Ok(parts)
}

#[derive(Debug, thiserror::Error)]
#[error("the open cases are truncated")]
struct TruncatedCases;

/// Decodes an order that was stored without its executions.
///
/// # Errors
/// As [`decode_stored`].
pub fn decode_version(bytes: &[u8]) -> Result<Arc<Order>, StoredOrderError> {
    Ok(Arc::clone(decode_stored(bytes)?.order()))
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;

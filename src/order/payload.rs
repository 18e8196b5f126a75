//! The bytes of rkyv records: aligned, and validated when they are read.

use rkyv::Archive;
use rkyv::Deserialize;
use rkyv::api::high::{HighDeserializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::util::AlignedVec;

/// Alignment of rkyv data, including 128-bit ids.
pub(super) const PAYLOAD_ALIGNMENT: usize = 16;

/// Reads a record with bytecheck, from bytes of any alignment.
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

//! The store's position, noted beside the log for verification without the store.
//!
//! A start reads the log from the segment that holds the store's position. Rot in older segments
//! does no harm to it, and verification must know which segments these are. Written when that
//! segment changes, once for each.

use std::io;

use super::aligned::AlignedBuffer;
use super::log_id::LogId;
use super::storage::{Storage, StorageFile};
use super::{BLOCK_BYTES, Lsn};

const NAME: &str = "store-position";
const NEW_NAME: &str = "store-position.new";

/// Notes durably that the store has everything up to a record.
pub(super) fn write<S: Storage>(storage: &S, log_id: LogId, taken: Lsn) -> io::Result<()> {
    let text = format!("log {log_id}\nrecord {taken}\n");
    assert!(text.len() <= BLOCK_BYTES, "two numbers and their names fit into a block");
    let mut block = AlignedBuffer::new(BLOCK_BYTES);
    for (place, byte) in block.as_mut_slice().iter_mut().zip(text.bytes().chain(newlines())) {
        *place = byte;
    }
    let file = storage.create(NEW_NAME)?;
    file.write_at(0, block.as_slice())?;
    file.sync()?;
    storage.rename(NEW_NAME, NAME)?;
    storage.sync()
}

/// The position noted for this log. `None` where none can be read: verification then goes through
/// all records.
pub(super) fn read<S: Storage>(storage: &S, log_id: LogId) -> Option<Lsn> {
    let mut block = AlignedBuffer::new(BLOCK_BYTES);
    let file = storage.open(NAME).ok()?;
    let filled = file.read_at(0, block.as_mut_slice()).ok()?;
    let text = str::from_utf8(block.as_slice().get(..filled)?).ok()?;
    let rest = text.strip_prefix("log ")?.strip_prefix(&log_id.to_string())?;
    let record = rest.strip_prefix("\nrecord ")?.lines().next()?;
    record.parse().ok().map(Lsn)
}

fn newlines() -> impl Iterator<Item = u8> {
    std::iter::repeat(b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FaultyDisk;

    #[test]
    fn a_position_is_read_only_for_its_own_log() {
        let disk = FaultyDisk::default();
        assert_eq!(read(&disk, LogId(7)), None);
        for record in [1, u64::MAX, 42] {
            write(&disk, LogId(7), Lsn(record)).unwrap();
            assert_eq!(read(&disk, LogId(7)), Some(Lsn(record)));
        }
        assert_eq!(read(&disk, LogId(8)), None);
        disk.set_file_bytes(NAME, b"log 0000000000000007\nrecord many\n".to_vec());
        assert_eq!(read(&disk, LogId(7)), None);
        disk.set_file_bytes(NAME, vec![0xff; 100]);
        assert_eq!(read(&disk, LogId(7)), None);
    }
}

//! Bit rot: flips bits on a copy of the disk, so that the seed can continue.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::invariant::{Checked, Invariant, broken, ensure};
use super::trace::say;
use super::world::World;
use crate::index::{Index, IndexAges};
use crate::testing::FaultyDisk;
use crate::wal::recovery::recover_from;
use crate::wal::{Lsn, RecordView, WalError};

/// Percentage of crashes after which a bit is flipped.
const ROT_PERCENT: u64 = 30;

impl World<'_> {
    /// Flips a bit on a copy of the disk. Its recovery may refuse, or end earlier, but must never
    /// return anything else.
    pub(super) fn check_rot(&mut self) -> Checked {
        if !self.dice.percent(ROT_PERCENT) {
            return Ok(());
        }
        // From where a start reads it, or from the beginning.
        let stored = Index::in_memory(&self.machine.store, IndexAges::default());
        let position = stored.map(|index| index.position()).unwrap_or_default();
        let after = if self.dice.percent(50) { Some(position) } else { None };
        let copy = self.machine.disk.visible_copy();
        let Ok(whole) = records(&copy, after) else { return Ok(()) };
        let names: Vec<String> =
            copy.file_names().into_iter().filter(|name| name.ends_with(".log")).collect();
        let Some(name) = self.dice.pick(&names) else { return Ok(()) };
        let at = self.dice.below(copy.file_bytes(name).len());
        let bit = u32::try_from(self.dice.below(8)).unwrap_or_default();
        say!(self.trace, "on a copy of the disk, bit {bit} of byte {at} in {name} turns");
        copy.flip_bit(name, at, bit);
        // The last batch may be cut: the one being written, or the last committed one.
        let (durable, before_last_commit) = self.durable.record_counts();
        let kept = if last(&whole) > durable { durable } else { before_last_commit };
        match records(&copy, after) {
            Ok(left) => {
                self.trace.count("turned bits that were cut off or without effect");
                let has_kept = last(&left) >= kept.min(last(&whole));
                ensure(whole.starts_with(&left) && has_kept, Invariant::RotIsSeen, || {
                    format!("records up to {kept} have to be served, {} are", last(&left))
                })
            }
            Err(WalError::Damaged { .. } | WalError::LostTail { .. }) => {
                self.trace.count("turned bits that were refused");
                Ok(())
            }
            Err(error) => Err(broken(Invariant::RotIsSeen, format!("{error:?}"))),
        }
    }
}

/// The LSN of the last of these records, or `after` if there are none.
fn last(records: &Records) -> u64 {
    records.hashes.last().map_or(records.after, |(lsn, _)| *lsn)
}

/// LSN and hash of each recovered record, and where the recovery began.
struct Records {
    after: u64,
    hashes: Vec<(u64, u64)>,
}

impl Records {
    fn starts_with(&self, other: &Self) -> bool {
        self.hashes.starts_with(&other.hashes)
    }
}

fn records(disk: &FaultyDisk, after: Option<Lsn>) -> Result<Records, WalError> {
    let mut hashes = Vec::new();
    recover_from(Arc::new(disk.clone()), after, &mut |record: RecordView<'_>| {
        hashes.push((record.lsn.0, xxh3_64(record.payload)));
        Ok(())
    })?;
    Ok(Records { after: after.unwrap_or_default().0, hashes })
}

//! Disk space: what is free, and what the log reserves for a full disk.

use std::io;

use super::WalOptions;

const NO_FILES: &str = "no more files can be created on the disk: it is out of inodes";

/// Space on the log's disk at the last check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes available to this user.
    pub free_bytes: u64,
    /// Bytes of reserve segments, for cancels and fills on a full disk.
    pub reserve_bytes: u64,
    /// Bytes to keep free beside them. Below that, new orders are refused.
    pub least_free_bytes: u64,
    /// Why new orders are refused, in a sentence; `None` if they are not.
    pub trouble: Option<String>,
}

/// Free space of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeRoom {
    /// Bytes available to this user.
    pub bytes: u64,
    /// Whether no further file can be created, however many bytes are free.
    pub is_out_of_files: bool,
}

/// The configured reserve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserve {
    pub(super) segments: usize,
    pub(super) segment_bytes: u64,
    /// Bytes left free for others. Below that, new orders are refused.
    pub(super) least_free_bytes: u64,
}

impl Reserve {
    pub(super) fn of(options: &WalOptions) -> Self {
        assert!(options.segment_bytes > 0, "the options were checked");
        let segments = options.reserve_bytes.div_ceil(options.segment_bytes);
        Self {
            segments: super::to_usize(segments),
            segment_bytes: options.segment_bytes,
            least_free_bytes: options.reserve_bytes,
        }
    }

    /// Room, besides the current segment, from which new orders are accepted: the next segment, the
    /// reserve, and what is left free.
    pub(super) fn bytes_to_accept_orders(&self) -> u64 {
        // Saturating, here and below: no disk has that much, whatever the options ask for.
        let made = (self.segments as u64 + 1).saturating_mul(self.segment_bytes);
        made.saturating_add(self.least_free_bytes)
    }

    /// Whether another reserve segment fits with enough bytes left free for others.
    pub(super) fn allows_another(&self, free: FreeRoom) -> bool {
        free.bytes >= self.least_free_bytes.saturating_add(self.segment_bytes)
    }

    /// Why new orders must be refused with this much space, if so. Ending a shortage takes some
    /// more space than avoiding one, so that trading does not toggle every second.
    pub(super) fn judge(&self, free: FreeRoom, was_short: bool) -> Option<String> {
        let more = if was_short { self.least_free_bytes / 8 } else { 0 };
        let least = self.least_free_bytes + more;
        if free.is_out_of_files && self.least_free_bytes > 0 {
            return Some(NO_FILES.to_owned());
        }
        (free.bytes < least)
            .then(|| format!("the disk is full: {} free, {} needed", mib(free.bytes), mib(least)))
    }
}

/// Explains to operators why a segment cannot be made.
pub(super) fn cannot_make(error: &io::Error, free: Option<FreeRoom>) -> String {
    // Without an OS error, `SegmentMaker::make` found too little space.
    let is_ours = error.kind() == io::ErrorKind::StorageFull && error.raw_os_error().is_none();
    match free {
        Some(FreeRoom { is_out_of_files: true, .. }) => NO_FILES.to_owned(),
        Some(free) if is_ours => {
            let left = mib(free.bytes);
            format!("the disk is full: {left} free, and the log's next file needs more")
        }
        Some(free) => {
            let left = mib(free.bytes);
            format!("the log's next file cannot be created: {error}; {left} free")
        }
        None => format!("the log's next file cannot be created: {error}"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ending_a_shortage_takes_more_space_than_avoiding_one() {
        let options =
            WalOptions { segment_bytes: 4 << 20, reserve_bytes: 9 << 20, ..WalOptions::new("") };
        let reserve = Reserve::of(&options);
        assert_eq!(reserve.segments, 3);
        let free = |bytes| FreeRoom { bytes, is_out_of_files: false };
        assert_eq!(reserve.judge(free(9 << 20), false), None);
        let trouble = reserve.judge(free((9 << 20) - 1), false).unwrap();
        assert_eq!(trouble, "the disk is full: 8 MiB free, 9 MiB needed");
        assert!(reserve.judge(free(10 << 20), true).is_some());
        assert_eq!(reserve.judge(free(11 << 20), true), None);
        assert!(!reserve.allows_another(free((13 << 20) - 1)));
        assert!(reserve.allows_another(free(13 << 20)));
        let no_files = FreeRoom { bytes: u64::MAX, is_out_of_files: true };
        assert!(reserve.judge(no_files, false).unwrap().contains("inodes"));
    }

    #[test]
    fn without_a_reserve_no_space_is_kept_free() {
        let reserve = Reserve::of(&WalOptions::new(""));
        let nothing = FreeRoom { bytes: 0, is_out_of_files: true };
        assert_eq!((reserve.segments, reserve.judge(nothing, true)), (0, None));
    }
}

//! Room on the disk: what is free, and what the log keeps for the time when nothing is.

use std::io;

use super::WalOptions;

const NO_FILES: &str = "no file can be made any more on the disk: its inodes are used up";

/// Room on the disk of the log, as it was when it was last looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that this user may still take.
    pub free_bytes: u64,
    /// Bytes of segments that are there ahead of the next one, for cancels and fills on a full disk.
    pub reserve_bytes: u64,
    /// Bytes that are to stay free beside them: below that no new order is to be taken.
    pub least_free_bytes: u64,
    /// What is wrong, in a sentence: new orders are not to be taken. `None` while nothing is.
    pub trouble: Option<String>,
}

/// What a disk can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeRoom {
    /// Bytes that this user may still take.
    pub bytes: u64,
    /// Whether not one more file can be made, however many bytes are free.
    pub is_out_of_files: bool,
}

/// What is kept, by the options of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserve {
    pub(super) segments: usize,
    pub(super) segment_bytes: u64,
    /// Bytes of the disk that are left to others: below that no new order is to be taken.
    pub(super) least_free_bytes: u64,
}

impl Reserve {
    pub(super) fn of(options: &WalOptions) -> Self {
        let segments = options.reserve_bytes.div_ceil(options.segment_bytes);
        Self {
            segments: super::to_usize(segments),
            segment_bytes: options.segment_bytes,
            least_free_bytes: options.reserve_bytes,
        }
    }

    /// Whether there is room for another segment of the reserve, and for the others still.
    pub(super) fn allows_another(&self, free: FreeRoom) -> bool {
        free.bytes >= self.least_free_bytes.saturating_add(self.segment_bytes)
    }

    /// What is wrong with so much room. Once there was too little, some more than enough is asked
    /// for, so that trading does not start and stop by the second.
    pub(super) fn judge(&self, free: FreeRoom, was_short: bool) -> Option<String> {
        let more = if was_short { self.least_free_bytes / 8 } else { 0 };
        let least = self.least_free_bytes + more;
        if free.is_out_of_files && self.least_free_bytes > 0 {
            return Some(NO_FILES.to_owned());
        }
        (free.bytes < least).then(|| {
            format!("the disk is full: {} are free, {} are needed", mib(free.bytes), mib(least))
        })
    }
}

/// Why a segment cannot be made, for operators.
pub(super) fn cannot_make(error: &io::Error, free: Option<FreeRoom>) -> String {
    // What the system has not said, we have found: see the maker of segments.
    let is_ours = error.kind() == io::ErrorKind::StorageFull && error.raw_os_error().is_none();
    match free {
        Some(FreeRoom { is_out_of_files: true, .. }) => NO_FILES.to_owned(),
        Some(free) if is_ours => {
            let left = mib(free.bytes);
            format!("the disk is full: {left} are free, and the log's next file needs more")
        }
        Some(free) => {
            let left = mib(free.bytes);
            format!("the log's next file cannot be made: {error}; {left} are free")
        }
        None => format!("the log's next file cannot be made: {error}"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_more_room_to_end_a_shortage_than_to_avoid_one() {
        let options =
            WalOptions { segment_bytes: 4 << 20, reserve_bytes: 9 << 20, ..WalOptions::new("") };
        let reserve = Reserve::of(&options);
        assert_eq!(reserve.segments, 3);
        let free = |bytes| FreeRoom { bytes, is_out_of_files: false };
        assert_eq!(reserve.judge(free(9 << 20), false), None);
        let told = reserve.judge(free((9 << 20) - 1), false).unwrap();
        assert_eq!(told, "the disk is full: 8 MiB are free, 9 MiB are needed");
        assert!(reserve.judge(free(10 << 20), true).is_some());
        assert_eq!(reserve.judge(free(11 << 20), true), None);
        assert!(!reserve.allows_another(free((13 << 20) - 1)));
        assert!(reserve.allows_another(free(13 << 20)));
        let no_files = FreeRoom { bytes: u64::MAX, is_out_of_files: true };
        assert!(reserve.judge(no_files, false).unwrap().contains("inodes"));
    }

    #[test]
    fn without_a_reserve_only_the_next_segment_asks_for_room() {
        let reserve = Reserve::of(&WalOptions::new(""));
        let nothing = FreeRoom { bytes: 0, is_out_of_files: true };
        assert_eq!((reserve.segments, reserve.judge(nothing, true)), (0, None));
    }
}

//! Detects an exchange whose sequence numbers restarted under the same session name.

use super::super::wire::FeedLine;

/// Lines whose contents are remembered: enough to recognise a repeated or late line.
const WINDOW: usize = 4_096;

/// Contents of a missing or unreadable line: they match any line.
pub(super) const UNKNOWN: u64 = 0;

#[derive(Debug, Clone, Copy)]
struct Remembered {
    sequence: u64,
    contents: u64,
}

/// Tells a repeated or late line from a line of a new numbering. An exchange that restarts its
/// numbering sends other lines under old numbers. Taken for repeats, they would be ignored and
/// prices would silently stand still.
#[derive(Debug)]
pub(super) struct Numbering {
    window: Box<[Remembered]>,
    /// The last line that was not new and is not in the window.
    stray: Option<u64>,
    /// No heartbeat of this connection can be lower.
    lowest_beat: u64,
}

impl Numbering {
    pub(super) fn new() -> Self {
        let nothing = Remembered { sequence: u64::MAX, contents: UNKNOWN };
        Self { window: vec![nothing; WINDOW].into(), stray: None, lowest_beat: 0 }
    }

    /// A new numbering begins: forgets everything.
    pub(super) fn begin(&mut self) {
        self.window.fill(Remembered { sequence: u64::MAX, contents: UNKNOWN });
        (self.stray, self.lowest_beat) = (None, 0);
    }

    /// A connection continues after `last_read`.
    pub(super) fn connect(&mut self, last_read: u64) {
        (self.stray, self.lowest_beat) = (None, last_read);
    }

    /// Remembers a line.
    pub(super) fn note(&mut self, sequence: u64, contents: u64) {
        self.put(sequence, contents);
        self.stray = None;
    }

    /// Remembers missing lines, which may still arrive late.
    pub(super) fn note_missing(&mut self, first: u64, last: u64) {
        let oldest = last.saturating_sub(WINDOW as u64 - 1);
        for sequence in first.max(oldest)..=last {
            self.put(sequence, UNKNOWN);
        }
    }

    /// Whether the contents of a line are remembered.
    pub(super) fn remembers(&self, sequence: u64) -> bool {
        let known = self.slot(sequence).filter(|known| known.sequence == sequence);
        known.is_some_and(|known| known.contents != UNKNOWN)
    }

    /// Whether a line that is not new proves a new numbering: its number was used with other
    /// contents, or it is the second line in a row outside the window.
    pub(super) fn contradicts(&mut self, sequence: u64, contents: u64) -> bool {
        let known = self.slot(sequence).filter(|known| known.sequence == sequence).copied();
        if let Some(known) = known {
            self.stray = None;
            return known.contents != contents && known.contents != UNKNOWN && contents != UNKNOWN;
        }
        let before = self.stray.replace(sequence);
        before.is_some_and(|before| before.checked_add(1) == Some(sequence))
    }

    /// Whether a heartbeat proves a new numbering: it is below an earlier heartbeat, or below the
    /// start of this connection.
    pub(super) fn beat_contradicts(&mut self, sequence: u64) -> bool {
        let contradicts = sequence < self.lowest_beat;
        self.lowest_beat = self.lowest_beat.max(sequence);
        contradicts
    }

    fn slot(&self, sequence: u64) -> Option<&Remembered> {
        self.window.get(place(sequence))
    }

    fn put(&mut self, sequence: u64, contents: u64) {
        if let Some(slot) = self.window.get_mut(place(sequence)) {
            *slot = Remembered { sequence, contents };
        }
    }
}

fn place(sequence: u64) -> usize {
    usize::try_from(sequence % WINDOW as u64).unwrap_or(0)
}

/// A hash of a line's contents: equal for a repeated line, never [`UNKNOWN`].
pub(super) fn contents(line: &FeedLine) -> u64 {
    let id = |text: Option<&str>| xxhash_rust::xxh3::xxh3_64(text.unwrap_or("").as_bytes());
    let numbers = [
        line.line_type as u64,
        line.timestamp.micros(),
        line.num_shares.unwrap_or(0),
        line.price_in_cents.map_or(0, |price| price.cents().unsigned_abs()),
        id(line.execution_id.as_ref().map(|id| id.as_str())),
        id(line.order_id.as_ref().map(|id| id.as_str())),
        id(line.symbol.as_ref().map(|symbol| symbol.as_str())),
    ];
    let mut bytes = [0_u8; 7 * 8];
    for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&bytes) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_late_lines_do_not_contradict() {
        let mut numbering = Numbering::new();
        for sequence in [1, 2, 5] {
            numbering.note(sequence, sequence * 10 + 1);
        }
        numbering.note_missing(3, 4);
        assert!(!numbering.contradicts(2, 21), "repeated");
        assert!(!numbering.contradicts(3, 31) && !numbering.contradicts(4, 41), "late");
        assert!(numbering.contradicts(2, 77), "another line under the same number");
    }

    #[test]
    fn two_unknown_lines_in_a_row_prove_a_new_numbering() {
        let mut numbering = Numbering::new();
        numbering.note(1_000_000, 1);
        assert!(!numbering.contradicts(7, 1));
        assert!(!numbering.contradicts(3, 1), "it does not follow the other");
        assert!(numbering.contradicts(4, 1));
        numbering.begin();
        assert!(!numbering.contradicts(5, 1));
    }

    #[test]
    fn a_heartbeat_that_goes_back_proves_a_new_numbering() {
        let mut numbering = Numbering::new();
        numbering.connect(100);
        assert!(!numbering.beat_contradicts(100) && !numbering.beat_contradicts(105));
        assert!(numbering.beat_contradicts(104));
        numbering.connect(50);
        assert!(!numbering.beat_contradicts(50));
        assert!(numbering.beat_contradicts(3));
    }
}

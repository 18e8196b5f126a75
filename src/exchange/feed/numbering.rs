use super::super::wire::FeedLine;

/// Lines whose contents are remembered: enough for a line that is repeated or late.
const WINDOW: usize = 4_096;

/// Contents that match whatever comes: a line that was missing, or that could not be read.
pub(super) const UNKNOWN: u64 = 0;

#[derive(Debug, Clone, Copy)]
struct Remembered {
    sequence: u64,
    contents: u64,
}

/// Tells a line that is repeated or late from one of another numbering under the same name. An
/// exchange whose numbering began again sends other lines under the numbers of old ones; taken for
/// repetitions they would be ignored, and prices stand still in silence.
#[derive(Debug)]
pub(super) struct Numbering {
    window: Box<[Remembered]>,
    /// The last line that was not new and that the window knows nothing of.
    stray: Option<u64>,
    /// No heartbeat of this connection can be lower.
    lowest_beat: u64,
}

impl Numbering {
    pub(super) fn new() -> Self {
        let nothing = Remembered { sequence: u64::MAX, contents: UNKNOWN };
        Self { window: vec![nothing; WINDOW].into(), stray: None, lowest_beat: 0 }
    }

    /// Nothing of what came before belongs to what follows.
    pub(super) fn begin(&mut self) {
        self.window.fill(Remembered { sequence: u64::MAX, contents: UNKNOWN });
        (self.stray, self.lowest_beat) = (None, 0);
    }

    /// A connection goes on after `last_read`.
    pub(super) fn connect(&mut self, last_read: u64) {
        (self.stray, self.lowest_beat) = (None, last_read);
    }

    /// Remembers a line.
    pub(super) fn note(&mut self, sequence: u64, contents: u64) {
        self.put(sequence, contents);
        self.stray = None;
    }

    /// Remembers that lines are missing: they may still come.
    pub(super) fn note_missing(&mut self, first: u64, last: u64) {
        let oldest = last.saturating_sub(WINDOW as u64 - 1);
        for sequence in first.max(oldest)..=last {
            self.put(sequence, UNKNOWN);
        }
    }

    /// Whether a line that is not new proves that its numbering is another: there was a line with
    /// its number and other contents, or it is the second in a row that nobody remembers.
    pub(super) fn contradicts(&mut self, sequence: u64, contents: u64) -> bool {
        let known = self.slot(sequence).filter(|known| known.sequence == sequence).copied();
        if let Some(known) = known {
            self.stray = None;
            return known.contents != contents && known.contents != UNKNOWN && contents != UNKNOWN;
        }
        let before = self.stray.replace(sequence);
        before.is_some_and(|before| before.checked_add(1) == Some(sequence))
    }

    /// Whether a heartbeat proves that its numbering is another: it is below what an earlier one
    /// said, or below where this connection began.
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

/// What a line says, as one number: equal for a line that comes again.
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
    fn a_line_that_comes_again_or_late_belongs_to_its_numbering() {
        let mut numbering = Numbering::new();
        for sequence in [1, 2, 5] {
            numbering.note(sequence, sequence * 10 + 1);
        }
        numbering.note_missing(3, 4);
        assert!(!numbering.contradicts(2, 21), "again");
        assert!(!numbering.contradicts(3, 31) && !numbering.contradicts(4, 41), "late");
        assert!(numbering.contradicts(2, 77), "another line under its number");
    }

    #[test]
    fn two_lines_in_a_row_that_nobody_remembers_are_of_another_numbering() {
        let mut numbering = Numbering::new();
        numbering.note(1_000_000, 1);
        assert!(!numbering.contradicts(7, 1));
        assert!(!numbering.contradicts(3, 1), "not behind the other");
        assert!(numbering.contradicts(4, 1));
        numbering.begin();
        assert!(!numbering.contradicts(5, 1));
    }

    #[test]
    fn a_heartbeat_never_goes_back() {
        let mut numbering = Numbering::new();
        numbering.connect(100);
        assert!(!numbering.beat_contradicts(100) && !numbering.beat_contradicts(105));
        assert!(numbering.beat_contradicts(104));
        numbering.connect(50);
        assert!(!numbering.beat_contradicts(50));
        assert!(numbering.beat_contradicts(3));
    }
}

//! A broadcast ring: one writer, any number of readers who each see every message, the
//! oldest message overwritten when the ring is full.
//!
//! The writer never waits for a reader, never allocates and does no read-modify-write. A
//! reader finds the next message by looking at one slot alone, so that readers who keep up
//! share a cache line with the writer only while it is being handed over.

use super::atomic::{Arc, AtomicU64, Ordering};
use super::seqlock::Stamped;
use crossbeam::utils::CachePadded;

/// A ring of `capacity` messages of `W` words, with its only writer and a first reader.
///
/// Takes `capacity` times `W + 1` words of memory, each slot rounded up to 64 bytes.
///
/// # Panics
/// When `capacity` is not a power of two.
pub fn ring<const W: usize>(capacity: usize) -> (RingWriter<W>, RingReader<W>) {
    assert!(capacity.is_power_of_two(), "a ring's capacity is a power of two, not {capacity}");
    let slots = (0..capacity).map(|_| Stamped::new(0, [0; W])).collect();
    let shared = Arc::new(Shared {
        written: CachePadded::new(AtomicU64::new(0)),
        slots,
        // `usize` has at most 64 bits on every platform that Rust supports.
        mask: capacity as u64 - 1,
    });
    let writer = RingWriter { shared, position: 0 };
    let reader = writer.reader();
    (writer, reader)
}

struct Shared<const W: usize> {
    /// Messages written so far. Apart from the slots and looked at only by a reader that
    /// was lapped, so that the writer keeps its cache line to itself.
    written: CachePadded<AtomicU64>,
    slots: Box<[Stamped<W>]>,
    mask: u64,
}

impl<const W: usize> Shared<W> {
    #[inline]
    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the mask is the number of slots minus one, which came from a usize"
    )]
    fn slot(&self, position: u64) -> &Stamped<W> {
        &self.slots[(position & self.mask) as usize]
    }
}

/// The stamp of a slot whose message has this position. It is one less while the message is
/// being written, and 0 before the slot's first use: stamps of a slot only ever grow.
#[inline]
fn complete(position: u64) -> u64 {
    // Cannot overflow in practice: 2^63 messages are 29,000 years at ten million a second.
    position.wrapping_mul(2).wrapping_add(2)
}

/// The position of the message to which a stamp (not 0) belongs, written or half-written.
#[inline]
fn position_of(stamp: u64) -> u64 {
    stamp.wrapping_sub(1) / 2
}

/// The only writer of a ring. It cannot be cloned, and [`publish`](Self::publish) takes it
/// mutably: that there is one writer is a fact of the types.
///
/// ```compile_fail
/// let (writer, _reader) = longbow::sync::ring::<1>(2);
/// let second = writer.clone();
/// ```
pub struct RingWriter<const W: usize> {
    shared: Arc<Shared<W>>,
    position: u64,
}

impl<const W: usize> RingWriter<W> {
    /// Appends a message, in place of the oldest one when the ring is full. Never waits.
    ///
    /// It wakes nobody: readers who sleep are woken once per batch (see
    /// [`Wakeup`](super::Wakeup)), not once per message.
    #[inline]
    pub fn publish(&mut self, words: &[u64; W]) {
        self.shared.slot(self.position).write(complete(self.position), words);
        self.position += 1;
        self.shared.written.store(self.position, Ordering::Release);
    }

    /// The position of the next message, which is the number of messages published so far.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// A reader who sees every message from now on.
    pub fn reader(&self) -> RingReader<W> {
        RingReader { shared: Arc::clone(&self.shared), position: self.position }
    }
}

/// A reader of a ring with its own position. A clone continues from the same position.
#[derive(Clone)]
pub struct RingReader<const W: usize> {
    shared: Arc<Shared<W>>,
    position: u64,
}

/// The writer has overwritten messages that this reader had not read. The reader has moved
/// to half a ring behind the writer: as far ahead as leaves it half a ring of time, as far
/// back as keeps half a ring of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader was lapped and missed {missed} messages")]
pub struct Lagged {
    /// Messages that this reader will never see, some of which may still be in the ring.
    pub missed: u64,
}

impl<const W: usize> RingReader<W> {
    /// The next message, or `None` when all have been read. Never waits and never retries.
    ///
    /// # Errors
    /// [`Lagged`] when the writer came around and overwrote the message; the next call
    /// continues with a newer one.
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<[u64; W]>, Lagged> {
        let wanted = complete(self.position);
        let slot = self.shared.slot(self.position);
        let seen = slot.stamp();
        if seen < wanted {
            return Ok(None);
        }
        let stamp = if seen == wanted {
            match slot.read(seen) {
                Ok(words) => {
                    self.position += 1;
                    return Ok(Some(words));
                }
                Err(overwritten_by) => overwritten_by,
            }
        } else {
            seen
        };
        Err(self.skip(stamp))
    }

    /// Moves to half a ring behind the writer, after a later message was met in our slot.
    #[cold]
    fn skip(&mut self, stamp: u64) -> Lagged {
        // The stamp is the newer news when the slot is only half written: the writer is at
        // least there, whatever `written` still looks like from this thread.
        let newest = self.shared.written.load(Ordering::Acquire).max(position_of(stamp));
        let capacity = self.shared.mask + 1;
        let target = newest - capacity / 2;
        assert!(target > self.position, "a lapped reader moves forward");
        let missed = target - self.position;
        self.position = target;
        Lagged { missed }
    }

    /// The position of the next message that this reader asks for.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether [`try_next`](Self::try_next) has something to say: a message, or [`Lagged`].
    #[inline]
    pub fn has_next(&self) -> bool {
        self.shared.slot(self.position).stamp() >= complete(self.position)
    }
}

impl<const W: usize> std::fmt::Debug for RingWriter<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RingWriter").field("position", &self.position).finish()
    }
}

impl<const W: usize> std::fmt::Debug for RingReader<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RingReader").field("position", &self.position).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::rounds;
    use super::*;

    fn message(n: u64) -> [u64; 3] {
        [n, n ^ u64::MAX, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)]
    }

    #[test]
    fn every_reader_sees_every_message_in_order() {
        let (mut writer, mut first) = ring(8);
        let mut second = first.clone();
        for n in 0..100 {
            writer.publish(&message(n));
            assert_eq!(first.try_next(), Ok(Some(message(n))));
            assert_eq!(first.try_next(), Ok(None));
            assert_eq!(second.try_next(), Ok(Some(message(n))));
        }
        assert_eq!((writer.position(), first.position()), (100, 100));
    }

    #[test]
    fn a_full_ring_is_not_a_lap() {
        let (mut writer, mut reader) = ring(4);
        for n in 0..4 {
            writer.publish(&message(n));
        }
        for n in 0..4 {
            assert!(reader.has_next());
            assert_eq!(reader.try_next(), Ok(Some(message(n))));
        }
        assert!(!reader.has_next());
        assert_eq!(reader.try_next(), Ok(None));
    }

    #[test]
    fn a_lapped_reader_learns_it_and_continues_half_a_ring_behind() {
        let (mut writer, mut reader) = ring(8);
        for n in 0..9 {
            writer.publish(&message(n));
        }
        assert!(reader.has_next());
        assert_eq!(reader.try_next(), Err(Lagged { missed: 5 }));
        assert_eq!(reader.position(), 5);
        for n in 5..9 {
            assert_eq!(reader.try_next(), Ok(Some(message(n))));
        }
        assert_eq!(reader.try_next(), Ok(None));
    }

    #[test]
    fn a_reader_lapped_many_times_counts_all_that_it_missed() {
        let (mut writer, mut reader) = ring(8);
        for n in 0..1_000 {
            writer.publish(&message(n));
        }
        assert_eq!(reader.try_next(), Err(Lagged { missed: 996 }));
        assert_eq!(reader.try_next(), Ok(Some(message(996))));
    }

    #[test]
    fn a_ring_of_one_slot_holds_the_newest_message() {
        let (mut writer, mut reader) = ring(1);
        writer.publish(&message(0));
        assert_eq!(reader.try_next(), Ok(Some(message(0))));
        writer.publish(&message(1));
        writer.publish(&message(2));
        assert_eq!(reader.try_next(), Err(Lagged { missed: 2 }));
        assert_eq!(reader.try_next(), Ok(None));
        writer.publish(&message(3));
        assert_eq!(reader.try_next(), Ok(Some(message(3))));
    }

    #[test]
    fn a_late_reader_starts_at_the_writer() {
        let (mut writer, _first) = ring(4);
        for n in 0..6 {
            writer.publish(&message(n));
        }
        let mut late = writer.reader();
        assert!(!late.has_next());
        assert_eq!(late.try_next(), Ok(None));
        writer.publish(&message(6));
        assert_eq!(late.try_next(), Ok(Some(message(6))));
    }

    #[test]
    fn readers_of_a_racing_writer_get_whole_messages_and_count_every_other() {
        const MESSAGES: u64 = rounds(300_000);
        let (mut writer, reader) = ring(16);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut reader = reader.clone();
                scope.spawn(move || {
                    let (mut seen, mut missed) = (0, 0);
                    while reader.position() < MESSAGES {
                        let position = reader.position();
                        match reader.try_next() {
                            Ok(Some(words)) => {
                                assert_eq!(words, message(position), "torn or misplaced");
                                seen += 1;
                            }
                            Ok(None) => std::thread::yield_now(),
                            Err(lagged) => missed += lagged.missed,
                        }
                    }
                    assert_eq!(seen + missed, MESSAGES);
                    assert!(seen >= 8, "half a ring is left when the writer stops");
                });
            }
            for n in 0..MESSAGES {
                writer.publish(&message(n));
            }
        });
    }

    #[test]
    fn readers_who_keep_within_the_ring_miss_nothing() {
        const MESSAGES: u64 = rounds(50_000);
        const CAPACITY: u64 = 16;
        let (mut writer, reader) = ring(16);
        let progress = [AtomicU64::new(0), AtomicU64::new(0)];
        std::thread::scope(|scope| {
            for progress in &progress {
                let mut reader = reader.clone();
                scope.spawn(move || {
                    for n in 0..MESSAGES {
                        let words = loop {
                            match reader.try_next() {
                                Ok(Some(words)) => break words,
                                Ok(None) => std::thread::yield_now(),
                                Err(lagged) => panic!("{lagged}, though nobody lapped"),
                            }
                        };
                        assert_eq!(words, message(n));
                        progress.store(n + 1, Ordering::Release);
                    }
                });
            }
            for n in 0..MESSAGES {
                let slowest = || progress.iter().map(|seen| seen.load(Ordering::Acquire)).min();
                while slowest() < Some((n + 1).saturating_sub(CAPACITY)) {
                    std::thread::yield_now();
                }
                writer.publish(&message(n));
            }
        });
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_capacity_that_is_no_power_of_two_is_refused() {
        let _ = ring::<1>(12);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::modelled::check_bounded;
    use super::*;
    use loom::thread;

    /// Reads `looks` times and checks that every message is whole and is the one of its
    /// position, that read and missed messages add up to the position, and that it is never
    /// beyond what is published.
    fn read(reader: &mut RingReader<2>, looks: u32, published: u64) {
        for _ in 0..looks {
            let before = reader.position();
            match reader.try_next() {
                Ok(Some(words)) => {
                    assert_eq!(words, message(before), "not the message of position {before}");
                    assert_eq!(reader.position(), before + 1);
                }
                Ok(None) => assert_eq!(reader.position(), before),
                Err(Lagged { missed }) => {
                    assert!(missed > 0, "a lapped reader moves forward");
                    assert_eq!(reader.position(), before + missed);
                }
            }
            assert!(reader.position() <= published, "beyond the writer");
        }
    }

    fn message(position: u64) -> [u64; 2] {
        [position + 1, (position + 1) * 16]
    }

    #[test]
    fn a_reader_who_is_lapped_while_reading_gets_whole_messages() {
        check_bounded(5, || {
            let (mut writer, mut reader) = ring(2);
            let reading = thread::spawn(move || read(&mut reader, 3, 3));
            for position in 0..3 {
                writer.publish(&message(position));
            }
            reading.join().unwrap();
        });
    }

    #[test]
    fn a_ring_of_one_slot_gives_whole_messages() {
        loom::model(|| {
            let (mut writer, mut reader) = ring(1);
            let reading = thread::spawn(move || read(&mut reader, 2, 2));
            for position in 0..2 {
                writer.publish(&message(position));
            }
            reading.join().unwrap();
        });
    }

    #[test]
    fn two_readers_do_not_disturb_each_other() {
        check_bounded(2, || {
            let (mut writer, mut first) = ring(1);
            let mut second = first.clone();
            let one = thread::spawn(move || read(&mut first, 1, 2));
            let two = thread::spawn(move || read(&mut second, 1, 2));
            for position in 0..2 {
                writer.publish(&message(position));
            }
            one.join().unwrap();
            two.join().unwrap();
        });
    }

    #[test]
    fn what_was_published_before_a_reader_looks_is_there() {
        loom::model(|| {
            let (mut writer, mut reader) = ring(2);
            let writing = thread::spawn(move || {
                for position in 0..3 {
                    writer.publish(&message(position));
                }
            });
            writing.join().unwrap();
            assert!(reader.has_next());
            assert_eq!(reader.try_next(), Err(Lagged { missed: 2 }));
            assert_eq!(reader.try_next(), Ok(Some(message(2))));
            assert_eq!(reader.try_next(), Ok(None));
        });
    }
}

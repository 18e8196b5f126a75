//! A value of `W` words that one thread replaces and any thread copies without a lock.

use super::atomic::{AtomicU64, Ordering, fence, yield_now};

/// Failed looks before a reader gives its time slice away. A write is a handful of stores,
/// so a reader that is still unlucky after this many looks is waiting for a writer that the
/// scheduler has stopped in the middle, and spinning on would keep its core from it.
const LOOKS_BEFORE_YIELD: u32 = 64;

/// `W` words under a stamp: the common heart of [`SeqLock`] and of the ring's slots.
///
/// An odd stamp says that the words are being replaced, an even one that they belong
/// together. Every access is atomic, so a torn copy is never undefined behaviour, it is
/// merely recognised and thrown away.
///
/// Why these orderings suffice:
/// - *Copy is not older than its stamp.* The closing store of the stamp is `Release`, the
///   first load of a reader is `Acquire`: who sees the even stamp sees all of its words.
/// - *Copy is not newer than its stamp.* A reader that picked up a word of a later write
///   has, through the pair of fences (`Release` after the odd stamp, `Acquire` before the
///   second look), that write's odd stamp before its eyes when it looks the second time.
///
/// A whole number of cache lines, so that neighbours in a table do not disturb each other.
#[repr(align(64))]
pub(super) struct Stamped<const W: usize> {
    stamp: AtomicU64,
    words: [AtomicU64; W],
}

impl<const W: usize> Stamped<W> {
    /// A cell with these words and this (even) stamp.
    pub(super) fn new(stamp: u64, words: [u64; W]) -> Self {
        Self { stamp: AtomicU64::new(stamp), words: words.map(AtomicU64::new) }
    }

    /// The stamp as last seen, after everything that was written before it was stored.
    #[inline]
    pub(super) fn stamp(&self) -> u64 {
        self.stamp.load(Ordering::Acquire)
    }

    /// The stamp for the only writer itself, who needs no ordering to see his own store.
    #[inline]
    fn stamp_of_writer(&self) -> u64 {
        self.stamp.load(Ordering::Relaxed)
    }

    /// Replaces the words. The stamp is `complete - 1` meanwhile and `complete` (even)
    /// afterwards. One thread at a time may call this; that is the caller's duty.
    #[inline]
    pub(super) fn write(&self, complete: u64, words: &[u64; W]) {
        debug_assert!(complete.is_multiple_of(2), "a complete stamp is even");
        self.stamp.store(complete.wrapping_sub(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, word) in self.words.iter().zip(words) {
            cell.store(*word, Ordering::Relaxed);
        }
        self.stamp.store(complete, Ordering::Release);
    }

    /// Copies the words, provided that they are those of the stamp `seen` (even, from
    /// [`Self::stamp`]) from the first to the last. `Err` is the stamp that it is now.
    #[inline]
    pub(super) fn read(&self, seen: u64) -> Result<[u64; W], u64> {
        let mut copy = [0; W];
        for (word, cell) in copy.iter_mut().zip(&self.words) {
            *word = cell.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        let now = self.stamp.load(Ordering::Relaxed);
        if now == seen { Ok(copy) } else { Err(now) }
    }
}

/// A value of `W` words with one writer and any number of readers, none of whom holds up
/// the writer. A read is always one whole value, never parts of two.
///
/// One writer is a contract here, not a type, because tables of these are shared as a whole:
/// two threads that write at the same time would not be undefined behaviour, but readers
/// could then get words of both.
pub struct SeqLock<const W: usize> {
    cell: Stamped<W>,
}

impl<const W: usize> SeqLock<W> {
    /// A lock that holds `words`.
    pub fn new(words: [u64; W]) -> Self {
        Self { cell: Stamped::new(0, words) }
    }

    /// Replaces the value; never waits. Only one thread may ever write.
    #[inline]
    pub fn write(&self, words: &[u64; W]) {
        let before = self.cell.stamp_of_writer();
        debug_assert!(before.is_multiple_of(2), "a seqlock has one writer");
        self.cell.write(before.wrapping_add(2), words);
    }

    /// A copy of the newest value. Looks again while a write is under way, which lasts a
    /// few nanoseconds unless the writer is descheduled inside it.
    #[inline]
    pub fn read(&self) -> [u64; W] {
        let mut looks = 0_u32;
        loop {
            if let Some(words) = self.try_read() {
                return words;
            }
            looks = looks.wrapping_add(1);
            if cfg!(loom) || looks.is_multiple_of(LOOKS_BEFORE_YIELD) {
                yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// One look: `None` when a write was under way or came between.
    #[inline]
    fn try_read(&self) -> Option<[u64; W]> {
        let seen = self.cell.stamp();
        if seen.is_multiple_of(2) { self.cell.read(seen).ok() } else { None }
    }
}

impl<const W: usize> std::fmt::Debug for SeqLock<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SeqLock").field("words", &self.try_read()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::rounds;
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_read_gives_the_last_write() {
        let lock = SeqLock::new([1, 2, 3]);
        assert_eq!(lock.read(), [1, 2, 3]);
        lock.write(&[4, 5, 6]);
        lock.write(&[7, 8, 9]);
        assert_eq!(lock.read(), [7, 8, 9]);
    }

    #[test]
    fn a_lock_fills_whole_cache_lines() {
        assert_eq!(size_of::<SeqLock<7>>(), 64);
        assert_eq!(size_of::<SeqLock<8>>(), 128);
        assert_eq!(align_of::<SeqLock<1>>(), 64);
    }

    #[test]
    fn readers_never_see_words_of_two_writes_and_never_go_back() {
        const WRITES: u64 = rounds(200_000);
        let lock = SeqLock::new(value(0));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !done.load(Ordering::Acquire) {
                        let words = lock.read();
                        assert_eq!(words, value(words[0]), "torn read");
                        assert!(words[0] >= last, "went back from {last} to {}", words[0]);
                        last = words[0];
                    }
                    assert_eq!(lock.read()[0], WRITES);
                });
            }
            for n in 1..=WRITES {
                lock.write(&value(n));
            }
            done.store(true, Ordering::Release);
        });
    }

    /// Four words, each derived from the first: a mixture of two values shows.
    fn value(n: u64) -> [u64; 4] {
        [n, n.wrapping_mul(2), n ^ u64::MAX, n.wrapping_mul(n)]
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::modelled::check_bounded;
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn a_look_is_whole_and_never_goes_back() {
        check_bounded(5, || {
            let lock = Arc::new(SeqLock::new([0, 0]));
            let reader = {
                let lock = Arc::clone(&lock);
                loom::thread::spawn(move || {
                    let mut last = 0;
                    for _ in 0..2 {
                        if let Some([n, twice]) = lock.try_read() {
                            assert_eq!(twice, 2 * n, "words of two writes");
                            assert!(n >= last, "went back from {last} to {n}");
                            last = n;
                        }
                    }
                })
            };
            lock.write(&[1, 2]);
            lock.write(&[2, 4]);
            reader.join().unwrap();
            assert_eq!(lock.read(), [2, 4]);
        });
    }

    #[test]
    fn a_read_waits_for_a_whole_value() {
        loom::model(|| {
            let lock = Arc::new(SeqLock::new([0, 0]));
            let reader = {
                let lock = Arc::clone(&lock);
                loom::thread::spawn(move || {
                    let [n, twice] = lock.read();
                    assert_eq!(twice, 2 * n, "words of two writes");
                })
            };
            lock.write(&[1, 2]);
            reader.join().unwrap();
        });
    }
}

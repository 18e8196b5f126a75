//! What a thread that sleeps wants to be woken for.

use super::atomic::{AtomicU64, Ordering, store_load_fence};

const BITS_PER_WORD: usize = u64::BITS as usize;

/// A set of small numbers: what one thread wants to hear of. Others look before they wake it.
///
/// # Why nothing is missed
///
/// ```text
/// who wants to hear                 who changes something
/// T1  add the number                W1  change the data
/// T2  store_load_fence()            W2  store_load_fence()
/// T3  read the data                 W3  does the set have the number?
/// ```
///
/// The two fences have one order in which all threads agree: either T3 reads what W1 wrote, or W3
/// finds the number. Without both, each could miss the other, and the first change would be slept
/// through. Orderings of the single accesses do not give that, whatever they are.
#[derive(Debug)]
pub struct InterestSet {
    words: Box<[AtomicU64]>,
    limit: usize,
}

impl InterestSet {
    /// An empty set of numbers below `limit`.
    pub fn new(limit: usize) -> Self {
        let words = (0..limit.div_ceil(BITS_PER_WORD)).map(|_| AtomicU64::new(0));
        Self { words: words.collect(), limit }
    }

    /// Adds a number or takes it out. What is read after this is what was there then, or whoever
    /// writes it later finds the number.
    ///
    /// # Panics
    /// The number is not below the limit: its changes would be slept through.
    pub fn set(&self, number: usize, is_wanted: bool) {
        let word = self.words.get(number / BITS_PER_WORD).filter(|_| number < self.limit);
        let Some(word) = word else {
            unreachable!("{number} is not below {}, the limit of the set", self.limit);
        };
        let bit = 1 << (number % BITS_PER_WORD);
        if is_wanted {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
        store_load_fence();
    }

    /// Whether it has a number. To be asked after the change was made, with one [`store_load_fence`]
    /// in between for as many sets and numbers as there are to look at.
    #[inline]
    pub fn has(&self, number: usize) -> bool {
        let word = self.words.get(number / BITS_PER_WORD);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (number % BITS_PER_WORD) & 1 == 1)
    }

    /// The numbers that it has, in their order. Numbers that are added meanwhile may be missing.
    pub fn members(&self) -> impl Iterator<Item = usize> {
        self.words.iter().zip(0..).flat_map(|(word, place)| {
            let bits = word.load(Ordering::Relaxed);
            let numbers = place * BITS_PER_WORD..(place + 1) * BITS_PER_WORD;
            let numbers = if bits == 0 { 0..0 } else { numbers };
            numbers.filter(move |number| bits >> (number % BITS_PER_WORD) & 1 == 1)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_added() {
        let set = InterestSet::new(100);
        set.set(0, true);
        set.set(99, true);
        assert!(set.has(0) && set.has(99) && !set.has(98) && !set.has(1_000));
        assert_eq!(set.members().collect::<Vec<_>>(), [0, 99]);
        set.set(0, false);
        assert!(!set.has(0));
    }

    #[test]
    #[should_panic(expected = "100 is not below 100")]
    fn a_number_beyond_the_limit_is_not_taken_for_added() {
        InterestSet::new(100).set(100, true);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    #[test]
    fn a_change_is_read_or_told() {
        loom::model(|| {
            let shared = Arc::new((InterestSet::new(64), AtomicUsize::new(0)));
            let changing = Arc::clone(&shared);
            let change = thread::spawn(move || {
                changing.1.store(1, Ordering::Relaxed);
                store_load_fence();
                changing.0.has(7)
            });
            shared.0.set(7, true);
            let read = shared.1.load(Ordering::Relaxed);
            let told = change.join().unwrap();
            assert!(read == 1 || told);
        });
    }
}

use smallvec::SmallVec;

/// A set of subscriptions of one connection, by slot: one bit each, and no heap up to 64.
#[derive(Debug, Clone)]
pub(super) struct SlotSet(SmallVec<[u64; 1]>);

const BITS: usize = u64::BITS as usize;

fn bit(slot: u16) -> u64 {
    1 << (usize::from(slot) % BITS)
}

/// The lowest slot in the word at `position`.
fn lowest(position: usize, word: u64) -> Option<u16> {
    let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
    Some(slot_at(position, bit))
}

fn slot_at(position: usize, bit: usize) -> u16 {
    let Ok(slot) = u16::try_from(position * BITS + bit) else {
        unreachable!("a stream has at most MAX_SYMBOLS_PER_STREAM slots, which fit into 16 bits")
    };
    slot
}

impl SlotSet {
    /// An empty set with room for so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self(SmallVec::from_elem(0, slots.div_ceil(BITS).max(1)))
    }

    /// Makes room for so many slots.
    pub(super) fn grow(&mut self, slots: usize) {
        let words = slots.div_ceil(BITS);
        if words > self.0.len() {
            self.0.resize(words, 0);
        }
        assert!(self.0.len() * BITS >= slots, "the set has a bit for each slot");
    }

    #[inline]
    fn word_mut(&mut self, slot: u16) -> &mut u64 {
        let Some(word) = self.0.get_mut(usize::from(slot) / BITS) else {
            unreachable!("the set has grown with the subscriptions, so it has a bit for each slot")
        };
        word
    }

    /// Puts a slot in. False when it was in already.
    #[inline]
    pub(super) fn insert(&mut self, slot: u16) -> bool {
        let word = self.word_mut(slot);
        let before = *word;
        *word |= bit(slot);
        *word != before
    }

    /// Whether a slot is in.
    pub(super) fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot) / BITS).is_some_and(|word| word & bit(slot) != 0)
    }

    /// Takes a slot out. True when it was in.
    pub(super) fn remove(&mut self, slot: u16) -> bool {
        let word = self.word_mut(slot);
        let before = *word;
        *word &= !bit(slot);
        *word != before
    }

    /// Takes a slot out, and moves the last one into its place.
    pub(super) fn swap_remove(&mut self, slot: u16, last: u16) {
        assert!(slot <= last, "no slot is after the last one");
        self.remove(slot);
        if self.remove(last) && last != slot {
            self.insert(slot);
        }
    }

    /// Whether no slot is in.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Takes out the first slot at or after `turn`, wrapping around. When the turn moves on with
    /// each call, no slot starves, however much news the others have.
    pub(super) fn pop(&mut self, turn: u16) -> Option<u16> {
        let slot = self.next(turn)?;
        let was_in = self.remove(slot);
        debug_assert!(was_in, "a slot that was found is in");
        Some(slot)
    }

    /// The first slot at or after `turn`, wrapping around.
    fn next(&self, turn: u16) -> Option<u16> {
        let (start, skipped) = (usize::from(turn) / BITS, usize::from(turn) % BITS);
        let words = || self.0.iter().enumerate();
        let in_word =
            self.0.get(start).and_then(|word| lowest(start, word & (u64::MAX << skipped)));
        let after = || words().skip(start + 1).find_map(|(at, &word)| lowest(at, word));
        let from_start = || words().find_map(|(at, &word)| lowest(at, word));
        in_word.or_else(after).or_else(from_start)
    }

    /// The slot, when exactly one is in.
    #[inline]
    pub(super) fn only(&self) -> Option<u16> {
        let mut words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        let (position, word) = words.next()?;
        if words.next().is_some() || !word.is_power_of_two() {
            return None;
        }
        lowest(position, *word)
    }

    /// All slots that are in, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().enumerate().flat_map(|(position, &word)| {
            (0..BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| slot_at(position, bit))
        })
    }

    /// Takes all slots out.
    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_once() {
        let mut set = SlotSet::new(200);
        assert_eq!(set.only(), None);
        assert!(set.insert(130));
        assert!(set.contains(130) && !set.contains(66) && !set.contains(500));
        assert_eq!(set.only(), Some(130));
        set.insert(3);
        assert!(!set.insert(130));
        assert_eq!(set.only(), None);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 130]);
        assert_eq!((set.pop(0), set.pop(0), set.pop(0)), (Some(3), Some(130), None));
        assert!(set.is_empty());
        set.insert(5);
        set.insert(6);
        assert_eq!(set.only(), None, "two in one word");
        set.clear();
        assert!(set.is_empty());
    }

    #[test]
    fn the_turn_wraps_around() {
        let mut set = SlotSet::new(200);
        for slot in [3, 70, 71, 130] {
            set.insert(slot);
        }
        assert_eq!([set.next(0), set.next(4), set.next(70)], [Some(3), Some(70), Some(70)]);
        assert_eq!([set.next(71), set.next(72), set.next(131)], [Some(71), Some(130), Some(3)]);
        assert_eq!(set.next(u16::MAX), Some(3));
        assert_eq!(set.pop(72), Some(130));
        assert_eq!(set.pop(72), Some(3));
    }

    #[test]
    fn the_last_slot_moves_into_the_place_of_a_removed_one() {
        let mut set = SlotSet::new(3);
        set.insert(0);
        set.swap_remove(0, 2);
        assert!(set.is_empty(), "the last one was not in");
        set.insert(2);
        set.swap_remove(1, 2);
        assert_eq!(set.only(), Some(1));
        set.swap_remove(1, 1);
        assert!(set.is_empty());
        set.grow(65);
        assert!(set.insert(64));
    }
}

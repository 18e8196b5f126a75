use smallvec::SmallVec;

use crate::runtime::StreamSocket;
use crate::types::SymbolIndex;

use super::every::EveryPrint;
use super::frame::Heartbeat;
use super::order_events::OrderEvents;
use super::quotas::StreamPermit;

/// One symbol that a connection watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub symbol: SymbolIndex,
    /// Where the connection stands among the symbol's subscribers.
    pub place: u32,
}

/// Which of a connection's subscriptions have news: one bit each, no heap up to 64.
#[derive(Debug, Clone)]
pub(super) struct DirtySet(SmallVec<[u64; 1]>);

const BITS: usize = u64::BITS as usize;

fn bit(slot: u16) -> u64 {
    1 << (usize::from(slot) % BITS)
}

impl DirtySet {
    pub fn new(subscriptions: usize) -> Self {
        Self(SmallVec::from_elem(0, subscriptions.div_ceil(BITS).max(1)))
    }

    /// Makes room for so many subscriptions.
    pub fn grow(&mut self, subscriptions: usize) {
        let words = subscriptions.div_ceil(BITS);
        if words > self.0.len() {
            self.0.resize(words, 0);
        }
    }

    /// Puts a slot in. False when it was in already.
    pub fn insert(&mut self, slot: u16) -> bool {
        let Some(word) = self.0.get_mut(usize::from(slot) / BITS) else { return false };
        let before = *word;
        *word |= bit(slot);
        *word != before
    }

    /// Takes a slot out. True when it was in.
    pub fn remove(&mut self, slot: u16) -> bool {
        let Some(word) = self.0.get_mut(usize::from(slot) / BITS) else { return false };
        let before = *word;
        *word &= !bit(slot);
        *word != before
    }

    /// Forgets a slot; the last one, `last`, takes its place.
    pub fn swap_remove(&mut self, slot: u16, last: usize) {
        self.remove(slot);
        if let Ok(last) = u16::try_from(last)
            && self.remove(last)
            && last != slot
        {
            self.insert(slot);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Removes and returns the first slot at or after `turn`, going round: with a turn that
    /// moves on, no slot waits for good, however much the others have.
    pub fn pop(&mut self, turn: u16) -> Option<u16> {
        let slot = self.next(turn)?;
        self.remove(slot);
        Some(slot)
    }

    /// The first slot at or after `turn`, going round.
    fn next(&self, turn: u16) -> Option<u16> {
        let (start, skipped) = (usize::from(turn) / BITS, usize::from(turn) % BITS);
        let at = |position: usize, word: u64| {
            let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
            u16::try_from(position * BITS + bit).ok()
        };
        let first = self.0.get(start).and_then(|word| at(start, word & (u64::MAX << skipped)));
        let behind = || {
            self.0
                .iter()
                .enumerate()
                .skip(start + 1)
                .find_map(|(position, &word)| at(position, word))
        };
        let round = || self.0.iter().enumerate().find_map(|(position, &word)| at(position, word));
        first.or_else(behind).or_else(round)
    }

    /// The slot, when exactly one is dirty.
    pub fn only(&self) -> Option<u16> {
        let mut dirty = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        let (position, word) = dirty.next()?;
        if dirty.next().is_some() || !word.is_power_of_two() {
            return None;
        }
        u16::try_from(position * BITS + word.trailing_zeros() as usize).ok()
    }

    /// All slots that are dirty.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().enumerate().flat_map(|(position, &word)| {
            (0..BITS)
                .filter(move |bit| word >> bit & 1 == 1)
                .filter_map(move |bit| u16::try_from(position * BITS + bit).ok())
        })
    }

    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// One open stream. Its whole memory: no task, no buffer, no queue; `unsent` is empty but for the
/// rest of one frame that the socket did not take whole.
#[derive(Debug)]
pub(super) struct Connection {
    pub socket: StreamSocket,
    pub generation: u32,
    /// Whose it is. Dropped with the connection, which makes room for another.
    pub permit: StreamPermit,
    pub subscriptions: Vec<Subscription>,
    pub dirty: DirtySet,
    /// Set where it wants every print.
    pub every: Option<Box<EveryPrint>>,
    /// Set where it wants its user's orders.
    pub orders: Option<Box<OrderEvents>>,
    pub unsent: Vec<u8>,
    pub last_send_ms: u64,
    /// When prices were last sent.
    pub last_prices_ms: u64,
    /// When the next `id:` may go.
    pub id_due_ms: u64,
    /// Shortest time between two sends, from the stream's `maxRate`.
    pub interval_ms: u32,
    /// The slot that is served first.
    pub turn: u16,
    /// Waits in the ready queue.
    pub queued: bool,
    /// Waits for its next slot under `maxRate`.
    pub paced: bool,
    /// The socket is full.
    pub blocked: bool,
    /// A deadline for being blocked is set.
    pub stall_watched: bool,
    /// The state of the feed changed and this stream has not been told.
    pub tell_feed: bool,
    /// What breaks its silence.
    pub heartbeat: Heartbeat,
    /// It was silent for the heartbeat interval.
    pub owes_heartbeat: bool,
}

impl Connection {
    /// Whether there is anything to send.
    pub fn has_news(&self) -> bool {
        self.tell_feed
            || self.owes_heartbeat
            || !self.unsent.is_empty()
            || !self.dirty.is_empty()
            || self.every.as_ref().is_some_and(|every| every.has_news())
            || self.has_order_news()
    }

    /// Whether there are order events to send.
    pub fn has_order_news(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.has_news())
    }

    /// When `maxRate` allows the next prices.
    pub fn next_prices_ms(&self) -> u64 {
        self.last_prices_ms + u64::from(self.interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dirty_set_gives_back_what_was_put_in_once() {
        let mut set = DirtySet::new(200);
        assert_eq!(set.only(), None);
        assert!(set.insert(130));
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
    fn the_turn_goes_round() {
        let mut set = DirtySet::new(200);
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
    fn the_last_slot_takes_the_place_of_one_that_goes() {
        let mut set = DirtySet::new(3);
        set.insert(0);
        set.swap_remove(0, 2);
        assert!(set.is_empty(), "the last one had no news");
        set.insert(2);
        set.swap_remove(1, 2);
        assert_eq!(set.only(), Some(1));
        set.swap_remove(1, 1);
        assert!(set.is_empty());
        set.grow(65);
        assert!(set.insert(64));
    }
}

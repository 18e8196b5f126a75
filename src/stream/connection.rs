use smallvec::SmallVec;

use crate::net::StreamSocket;
use crate::types::SymbolIndex;

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

impl DirtySet {
    pub fn new(subscriptions: usize) -> Self {
        Self(SmallVec::from_elem(0, subscriptions.div_ceil(BITS).max(1)))
    }

    pub fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot) / BITS) {
            *word |= 1 << (usize::from(slot) % BITS);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Removes and returns the lowest slot.
    pub fn pop(&mut self) -> Option<u16> {
        let (position, word) = self.0.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        u16::try_from(position * BITS + bit as usize).ok()
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
    pub subscriptions: Box<[Subscription]>,
    pub dirty: DirtySet,
    pub unsent: Vec<u8>,
    pub last_send_ms: u64,
    /// When the next `id:` block may go.
    pub id_due_ms: u64,
    /// Shortest time between two sends, from the stream's `maxRate`.
    pub interval_ms: u32,
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
}

impl Connection {
    /// Whether there is anything to send.
    pub fn has_news(&self) -> bool {
        self.tell_feed || !self.unsent.is_empty() || !self.dirty.is_empty()
    }

    /// When `maxRate` allows the next send.
    pub fn next_send_ms(&self) -> u64 {
        self.last_send_ms + u64::from(self.interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dirty_set_gives_back_what_was_put_in_once() {
        let mut set = DirtySet::new(200);
        assert_eq!(set.only(), None);
        set.insert(130);
        assert_eq!(set.only(), Some(130));
        set.insert(3);
        set.insert(130);
        assert_eq!(set.only(), None);
        assert_eq!((set.pop(), set.pop(), set.pop()), (Some(3), Some(130), None));
        assert!(set.is_empty());
        set.insert(5);
        set.insert(6);
        assert_eq!(set.only(), None, "two in one word");
        set.clear();
        assert!(set.is_empty());
    }
}

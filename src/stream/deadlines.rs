/// Names one connection for as long as it lives: keys are reused, pairs are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId {
    pub key: u32,
    pub generation: u32,
}

impl ConnectionId {
    /// The pair as one number, for the poll set.
    pub fn to_token(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.key)
    }

    /// The pair that a number stands for.
    pub fn from_token(token: u64) -> Self {
        let [k0, k1, k2, k3, g0, g1, g2, g3] = token.to_le_bytes();
        Self {
            key: u32::from_le_bytes([k0, k1, k2, k3]),
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
        }
    }
}

/// A timing wheel: deadlines in slots of equal width, so that setting one and finding those that
/// fell due cost the same however many there are. A deadline may come early (never late by more
/// than a slot): whoever takes one checks what it was for and sets it again if need be.
#[derive(Debug)]
pub(super) struct Wheel {
    slot_ms: u64,
    slots: Vec<Vec<ConnectionId>>,
    /// Number of the first slot, counted from time zero, that has not been looked at.
    next_slot: u64,
    /// Taken from their slot and not yet handed out.
    due: Vec<ConnectionId>,
}

impl Wheel {
    /// A wheel of `slots` slots, each `slot_ms` wide: its horizon is the product.
    pub fn new(slot_ms: u64, slots: usize) -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(slots).collect();
        Self { slot_ms, slots, next_slot: 0, due: Vec::new() }
    }

    /// Sets a deadline. One beyond the horizon comes early.
    pub fn set(&mut self, due_ms: u64, id: ConnectionId) {
        let count = self.slots.len() as u64;
        // Rounded up, so that nothing within the horizon comes early.
        let slot = due_ms.div_ceil(self.slot_ms).clamp(self.next_slot, self.next_slot + count - 1);
        if let Some(slot) = self.slot_mut(slot) {
            slot.push(id);
        }
    }

    fn slot_mut(&mut self, number: u64) -> Option<&mut Vec<ConnectionId>> {
        let position = usize::try_from(number % self.slots.len() as u64).ok()?;
        self.slots.get_mut(position)
    }

    /// Takes one that is due.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<ConnectionId> {
        let now_slot = now_ms / self.slot_ms;
        while self.due.is_empty() && self.next_slot <= now_slot {
            let count = self.slots.len() as u64;
            // Looking at each slot once is enough, however long ago the last look was.
            self.next_slot = self.next_slot.max((now_slot + 1).saturating_sub(count));
            let mut due = std::mem::take(&mut self.due);
            if let Some(slot) = self.slot_mut(self.next_slot) {
                std::mem::swap(slot, &mut due);
            }
            self.due = due;
            self.next_slot += 1;
        }
        self.due.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u32) -> ConnectionId {
        ConnectionId { key, generation: 1 }
    }

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut keys: Vec<u32> =
            std::iter::from_fn(|| wheel.pop_due(now_ms)).map(|id| id.key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn deadlines_come_when_they_are_due() {
        let mut wheel = Wheel::new(10, 8);
        wheel.set(15, id(1));
        wheel.set(20, id(2));
        wheel.set(41, id(3));
        assert!(due(&mut wheel, 14).is_empty());
        assert_eq!(due(&mut wheel, 25), [1, 2]);
        assert!(due(&mut wheel, 49).is_empty());
        assert_eq!(due(&mut wheel, 50), [3]);
    }

    #[test]
    fn one_beyond_the_horizon_comes_early_and_one_long_past_at_once() {
        let mut wheel = Wheel::new(10, 8);
        wheel.set(1_000, id(1));
        assert_eq!(due(&mut wheel, 70), [1]);
        assert!(due(&mut wheel, 100_000).is_empty());
        wheel.set(5, id(2));
        assert_eq!(due(&mut wheel, 100_010), [2]);
    }

    #[test]
    fn tokens_keep_both_halves() {
        let id = ConnectionId { key: u32::MAX - 1, generation: 77 };
        assert_eq!(ConnectionId::from_token(id.to_token()), id);
    }
}

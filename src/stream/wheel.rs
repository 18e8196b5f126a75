use super::connection_id::ConnectionId;

/// A timing wheel: deadlines in slots of equal width. Setting a deadline and finding the ones that
/// are due cost the same however many there are.
///
/// A deadline is late by less than one slot, but it may fire early. Whoever takes one checks
/// whether it is really due, and sets it again if not.
#[derive(Debug)]
pub(super) struct Wheel {
    slot_ms: u64,
    slots: Vec<Vec<ConnectionId>>,
    /// The first slot that has not been looked at, counted from time zero.
    next_slot: u64,
    /// Taken from their slot but not handed out yet.
    due: Vec<ConnectionId>,
}

impl Wheel {
    /// A wheel of `slots` slots of `slot_ms` each. Its horizon is the product.
    pub(super) fn new(slot_ms: u64, slots: usize) -> Self {
        assert!(slot_ms > 0 && slots > 0, "a wheel has slots, and they have a width");
        let slots = std::iter::repeat_with(Vec::new).take(slots).collect();
        Self { slot_ms, slots, next_slot: 0, due: Vec::new() }
    }

    /// Sets a deadline. One beyond the horizon fires early.
    pub(super) fn set(&mut self, due_ms: u64, id: ConnectionId) {
        let count = self.slots.len() as u64;
        // Rounded up: no deadline within the horizon fires early.
        let slot = due_ms.div_ceil(self.slot_ms).clamp(self.next_slot, self.next_slot + count - 1);
        debug_assert!(
            slot * self.slot_ms >= due_ms || slot == self.next_slot + count - 1,
            "a deadline within the horizon does not fire early"
        );
        self.slot_mut(slot).push(id);
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a remainder is below the number of slots, which is a usize"
    )]
    fn slot_mut(&mut self, number: u64) -> &mut Vec<ConnectionId> {
        let position = number % self.slots.len() as u64;
        &mut self.slots[position as usize]
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<ConnectionId> {
        let now_slot = now_ms / self.slot_ms;
        assert!(self.next_slot <= now_slot + 1, "time does not go back");
        while self.due.is_empty() && self.next_slot <= now_slot {
            let count = self.slots.len() as u64;
            // One turn of the wheel visits every slot, however long ago the last look was. Zero
            // during the first turn.
            let a_turn_ago = (now_slot + 1).saturating_sub(count);
            self.next_slot = self.next_slot.max(a_turn_ago);
            let mut due = std::mem::take(&mut self.due);
            std::mem::swap(self.slot_mut(self.next_slot), &mut due);
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
    fn deadlines_fire_when_they_are_due() {
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
    fn one_beyond_the_horizon_fires_early_and_one_long_past_at_once() {
        let mut wheel = Wheel::new(10, 8);
        wheel.set(1_000, id(1));
        assert_eq!(due(&mut wheel, 70), [1]);
        assert!(due(&mut wheel, 100_000).is_empty());
        wheel.set(5, id(2));
        assert_eq!(due(&mut wheel, 100_010), [2]);
    }
}

//! How the exchange names executions: the rules give each a name for good, and the exchange may tell us
//! one that it used before it started again, for another order.

use std::collections::BTreeMap;

use super::dice::Dice;
use crate::types::ExecutionId;

/// Names of executions, and whether names are used again.
pub(super) struct ExecutionIds {
    dice: Dice,
    /// Of a hundred ids so many are used again.
    chance: u64,
    public: BTreeMap<ExecutionId, ExecutionId>,
    /// Told before the exchange last started.
    old: Vec<ExecutionId>,
    /// Told since.
    told: Vec<ExecutionId>,
    used_again: u64,
}

impl ExecutionIds {
    pub(super) fn new(chance: u64, dice: Dice) -> Self {
        let (old, told) = (Vec::new(), Vec::new());
        Self { dice, chance, public: BTreeMap::new(), old, told, used_again: 0 }
    }

    /// The exchange has started again.
    pub(super) fn begin(&mut self) {
        self.old.append(&mut self.told);
    }

    /// Whether the next id is one that was used before, if there is one.
    pub(super) fn uses_again(&mut self) -> bool {
        self.dice.percent(self.chance)
    }

    /// One of several.
    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        self.dice.pick(from).cloned()
    }

    /// Gives an execution its name: one that it is told under for good. Only where it is of an order
    /// of ours it may be one that is free again.
    pub(super) fn name(
        &mut self,
        id: &ExecutionId,
        is_ours: bool,
        is_free: &dyn Fn(&ExecutionId) -> bool,
    ) {
        if self.public.contains_key(id) {
            return;
        }
        let mut name = id.clone();
        if is_ours && self.uses_again() {
            let free: Vec<ExecutionId> =
                self.old.iter().filter(|id| is_free(id)).cloned().collect();
            if let Some(used) = self.pick(&free) {
                self.used_again += 1;
                name = used;
            }
        }
        if is_ours {
            self.told.push(name.clone());
        }
        self.public.insert(id.clone(), name);
    }

    /// The name under which an execution is told.
    pub(super) fn public(&self, id: &ExecutionId) -> ExecutionId {
        self.public.get(id).unwrap_or(id).clone()
    }

    pub(super) fn take_used_again(&mut self) -> u64 {
        std::mem::take(&mut self.used_again)
    }
}

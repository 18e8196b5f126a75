//! Execution ids: the rules give each execution a unique id, and the exchange may publish it under
//! an id that it used before its last restart, for another order.

use std::collections::BTreeMap;

use super::dice::Dice;
use crate::types::ExecutionId;

/// Maps the ids of the rules to published ids.
pub(super) struct ExecutionIds {
    dice: Dice,
    /// Percentage of ids that are reused.
    chance: u64,
    public: BTreeMap<ExecutionId, ExecutionId>,
    /// Published before the last restart.
    old: Vec<ExecutionId>,
    /// Published since.
    told: Vec<ExecutionId>,
    reused_count: u64,
}

impl ExecutionIds {
    pub(super) fn new(chance: u64, dice: Dice) -> Self {
        let (old, told) = (Vec::new(), Vec::new());
        Self { dice, chance, public: BTreeMap::new(), old, told, reused_count: 0 }
    }

    /// The exchange has restarted.
    pub(super) fn begin(&mut self) {
        self.old.append(&mut self.told);
    }

    /// Whether the next id is a reused one, if there is any.
    pub(super) fn reuses_id(&mut self) -> bool {
        self.dice.percent(self.chance)
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        self.dice.pick(from).cloned()
    }

    /// Assigns an execution its published id. It may be a reused one only if the execution is of an
    /// order of ours.
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
        if is_ours && self.reuses_id() {
            let free: Vec<ExecutionId> =
                self.old.iter().filter(|id| is_free(id)).cloned().collect();
            if let Some(used) = self.pick(&free) {
                self.reused_count += 1;
                name = used;
            }
        }
        if is_ours {
            self.told.push(name.clone());
        }
        self.public.insert(id.clone(), name);
    }

    /// The published id of an execution.
    pub(super) fn public(&self, id: &ExecutionId) -> ExecutionId {
        self.public.get(id).unwrap_or(id).clone()
    }

    pub(super) fn take_reused_count(&mut self) -> u64 {
        std::mem::take(&mut self.reused_count)
    }
}

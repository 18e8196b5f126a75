//! The distinct executions of one order.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::money::Booked;
use crate::types::{ExecutionId, PriceCents, Shares};

/// Up to this many executions are searched linearly; more are hashed. Most orders have one or two.
const LINEAR_SEARCH_LIMIT: usize = 16;

/// State of one execution. Append new kinds at the end: the position is part of the format of
/// stored orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Execution {
    /// It counts.
    Counted { num_shares: Shares, price: PriceCents },
    /// It is void, perhaps declared so before it was seen. It never counts again.
    Busted,
    /// The exchange's record proved it void. It counts again if a source shows it again.
    TakenBack,
    /// It counts by an operator's decision: no record takes it back.
    Booked { num_shares: Shares, price: PriceCents },
}

impl Execution {
    /// Shares and price, if it counts.
    pub const fn counted(self) -> Option<(Shares, PriceCents)> {
        match self {
            Self::Counted { num_shares, price } | Self::Booked { num_shares, price } => {
                Some((num_shares, price))
            }
            Self::Busted | Self::TakenBack => None,
        }
    }
}

/// The distinct executions of one order, by the exchange's id.
#[derive(Debug, Clone)]
pub struct Executions(Kept);

#[derive(Debug, Clone)]
enum Kept {
    Few(SmallVec<[(ExecutionId, Known); 1]>),
    Many(HashMap<ExecutionId, Known>),
}

/// What is known of one execution.
#[derive(Debug, Clone, Copy)]
struct Known {
    execution: Execution,
    /// What it did to its account: nothing if it does not count, or counted before there were
    /// accounts. `None` if it is not in its account: its amounts are beyond it.
    booked: Option<Booked>,
}

impl Default for Executions {
    fn default() -> Self {
        Self(Kept::Few(SmallVec::new()))
    }
}

impl Executions {
    /// The state of an execution.
    pub fn get(&self, id: &ExecutionId) -> Option<Execution> {
        self.known(id).map(|known| known.execution)
    }

    /// What an execution did to its account; `None` if it is unknown or not in its account.
    pub fn booked(&self, id: &ExecutionId) -> Option<Booked> {
        self.known(id).and_then(|known| known.booked)
    }

    fn known(&self, id: &ExecutionId) -> Option<&Known> {
        match &self.0 {
            Kept::Few(few) => few.iter().find(|(known, _)| known == id).map(|(_, kept)| kept),
            Kept::Many(many) => many.get(id),
        }
    }

    fn known_mut(&mut self, id: &ExecutionId) -> Option<&mut Known> {
        match &mut self.0 {
            Kept::Few(few) => few.iter_mut().find(|(known, _)| known == id).map(|(_, kept)| kept),
            Kept::Many(many) => many.get_mut(id),
        }
    }

    /// Sets the state of an execution, which has booked nothing yet, and returns the previous one.
    pub fn set(&mut self, id: ExecutionId, execution: Execution) -> Option<Execution> {
        self.insert(id, execution, Some(Booked::default()))
    }

    /// Sets the state of an execution and what it booked; returns the previous state.
    pub(super) fn insert(
        &mut self,
        id: ExecutionId,
        execution: Execution,
        booked: Option<Booked>,
    ) -> Option<Execution> {
        let known = Known { execution, booked };
        match &mut self.0 {
            Kept::Few(few) => {
                if let Some((_, kept)) = few.iter_mut().find(|(known, _)| *known == id) {
                    return Some(std::mem::replace(kept, known).execution);
                }
                assert!(few.len() <= LINEAR_SEARCH_LIMIT, "few executions are searched linearly");
                few.push((id, known));
                if few.len() > LINEAR_SEARCH_LIMIT {
                    let many: HashMap<_, _> = few.drain(..).collect();
                    assert_eq!(many.len(), LINEAR_SEARCH_LIMIT + 1, "an execution is kept once");
                    self.0 = Kept::Many(many);
                }
                None
            }
            Kept::Many(many) => {
                assert!(many.len() > LINEAR_SEARCH_LIMIT, "many executions are hashed");
                many.insert(id, known).map(|known| known.execution)
            }
        }
    }

    /// Keeps what an execution that counts did to its account.
    pub(super) fn set_booked(&mut self, id: &ExecutionId, booked: Option<Booked>) {
        let Some(known) = self.known_mut(id) else {
            unreachable!("execution {id} is known: it was counted just now");
        };
        assert!(known.execution.counted().is_some(), "only an execution that counts is booked");
        known.booked = booked;
    }

    /// An execution that counts does so by an operator's decision from now on.
    pub(super) fn pin(&mut self, id: &ExecutionId) {
        if let Some(known) = self.known_mut(id)
            && let Execution::Counted { num_shares, price } = known.execution
        {
            known.execution = Execution::Booked { num_shares, price };
        }
    }

    /// All executions, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&ExecutionId, Execution)> {
        self.each().map(|(id, known)| (id, known.execution))
    }

    /// All executions and what they booked, in no particular order.
    pub(super) fn iter_booked(
        &self,
    ) -> impl Iterator<Item = (&ExecutionId, Execution, Option<Booked>)> {
        self.each().map(|(id, known)| (id, known.execution, known.booked))
    }

    fn each(&self) -> impl Iterator<Item = (&ExecutionId, &Known)> {
        let (few, many) = match &self.0 {
            Kept::Few(few) => (Some(few), None),
            Kept::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(id, known)| (id, known));
        few.chain(many.into_iter().flatten())
    }

    /// Ids of the executions that count on the exchange's authority alone, not by an operator's
    /// decision.
    pub fn counted_ids(&self) -> impl Iterator<Item = &ExecutionId> {
        self.iter().filter_map(|(id, execution)| match execution {
            Execution::Counted { .. } => Some(id),
            Execution::Busted | Execution::TakenBack | Execution::Booked { .. } => None,
        })
    }

    /// Total shares of the executions that count. Saturates only for nonsense of the exchange.
    pub fn counted_shares(&self) -> Shares {
        let counted = self.iter().filter_map(|(_, execution)| execution.counted());
        counted.map(|(shares, _)| shares).fold(0, Shares::saturating_add)
    }

    /// Total value in cents of the executions that count, at most the highest that is recorded.
    pub fn counted_value_cents(&self) -> i64 {
        let value =
            |(shares, price): (Shares, PriceCents)| i128::from(shares) * i128::from(price.cents());
        let counted = self.iter().filter_map(|(_, execution)| execution.counted());
        // Prices have a limit, so that no number of executions fills an i128.
        let total: i128 = counted.map(value).sum();
        i64::try_from(total).unwrap_or(i64::MAX)
    }

    /// Number of distinct executions, including void ones.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Few(few) => few.len(),
            Kept::Many(many) => many.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_found_by_its_id_in_both_representations() {
        let mut executions = Executions::default();
        let count = LINEAR_SEARCH_LIMIT as u64 * 3;
        let price = PriceCents::new(5).unwrap();
        let id = |number: u64| ExecutionId::new(&format!("e{number}")).unwrap();
        for number in 0..count {
            assert_eq!(executions.get(&id(number)), None);
            let counted = Execution::Counted { num_shares: 2, price };
            assert_eq!(executions.set(id(number), counted), None);
            assert_eq!(executions.set(id(0), counted), Some(counted));
        }
        assert_eq!(executions.len() as u64, count);
        executions.set(id(1), Execution::Busted);
        assert_eq!(executions.counted_shares(), 2 * (count - 1));
        assert_eq!(executions.get(&id(1)), Some(Execution::Busted));
        let booked = Some(Booked { profit_cents: -7 });
        executions.set_booked(&id(2), booked);
        executions.pin(&id(2));
        assert_eq!(executions.get(&id(2)), Some(Execution::Booked { num_shares: 2, price }));
        assert_eq!(executions.booked(&id(2)), booked);
        executions.set(id(2), Execution::TakenBack);
        assert_eq!(
            executions.booked(&id(2)),
            Some(Booked::default()),
            "what is void booked nothing"
        );
    }
}

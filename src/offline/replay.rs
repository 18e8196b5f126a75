//! Replays the orders of some user partitions, as far as the log has all of their events.

use std::collections::{HashMap, HashSet};

use super::OfflineError;
use super::accounts::ReplayedAccounts;
use crate::index::{Index, IndexError};
use crate::order::{Event, ExecutionEffect, TrackedOrder, booking};
use crate::types::{ExecutionId, OrderId, TimestampMicros};
use crate::wal::Lsn;

/// Orders created in the kept part of the log, and orders that changed after the position of the
/// index, as the log left them.
pub(super) struct Replay<'a> {
    index: &'a Index,
    /// The position of the index.
    position: Lsn,
    /// The position of the record that is compared.
    reached: Lsn,
    pub(super) orders: HashMap<OrderId, Replayed>,
    pub(super) accounts: ReplayedAccounts,
    /// Orders that changed after `reached`.
    pub(super) ahead: HashSet<OrderId>,
}

/// An order, and the times of its executions by the log.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) order: TrackedOrder,
    pub(super) is_compared: bool,
    pub(super) times: Vec<(ExecutionId, ExecutionTimes)>,
}

/// The times of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExecutionTimes {
    pub(super) executed_at: Option<TimestampMicros>,
    /// When it was first recorded; `None` if that part of the log is gone.
    pub(super) recorded_at: Option<TimestampMicros>,
    pub(super) busted_at: Option<TimestampMicros>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(index: &'a Index, position: Lsn, reached: Lsn) -> Result<Self, OfflineError> {
        let accounts = ReplayedAccounts::new(index, position, reached)?;
        let (orders, ahead) = (HashMap::new(), HashSet::new());
        Ok(Self { index, position, reached, orders, accounts, ahead })
    }

    /// Takes the order of the index, which is at the position of the index and equals the one replayed.
    /// It also has what executions did to the account, which depends on orders that the log lacks.
    pub(super) fn settle(&mut self, found: TrackedOrder) {
        if let Some(known) = self.orders.get_mut(&found.order().order_id) {
            known.order = found;
        }
    }

    /// Takes the next record. Returns the order as the record left it, if the log has all of its
    /// events and the record changed it.
    pub(super) fn take(
        &mut self,
        lsn: Lsn,
        event: &Event,
    ) -> Result<Option<&TrackedOrder>, OfflineError> {
        if lsn > self.reached
            && let Some(order_id) = event.order_id()
        {
            // Whether or not the log has all of its events.
            self.ahead.insert(order_id);
        }
        let order_id = match event {
            Event::Created(created) => {
                let id = created.order_id;
                let mut order = TrackedOrder::new(created);
                let effect = booking::created(&order);
                self.accounts.book(lsn, &mut order, effect)?;
                self.orders.insert(id, Replayed::new(order));
                id
            }
            Event::Changed(changed) => {
                let id = changed.order_id;
                if lsn > self.position && !self.orders.contains_key(&id) {
                    // It has not changed since the position of the index.
                    let stored = self.index.by_order_id(id)?;
                    let order = stored.ok_or(IndexError::UnknownOrder { lsn, order_id: id })?;
                    self.orders.insert(id, Replayed::new(order));
                }
                let Some(known) = self.orders.get_mut(&id) else {
                    if lsn > self.reached
                        && let Some(stored) = self.index.by_order_id(id)?
                    {
                        self.accounts.note_ahead(lsn, &stored.order().user);
                    }
                    return Ok(None);
                };
                let effect = known.order.effect_of(&changed.change).map(|effect| {
                    let executions = known.order.executions();
                    let was_known = executions.get(effect.execution_id()).is_some();
                    (effect, was_known)
                });
                let (applied, moved) = booking::apply(&mut known.order, changed);
                if !applied.recorded {
                    return Ok(None);
                }
                self.accounts.book(lsn, &mut known.order, moved)?;
                if let Some(effect) = effect {
                    known.note_times(effect, changed.at);
                }
                id
            }
            Event::Adopted(adopted) => {
                let order = adopted.order.clone();
                self.orders.insert(order.order().order_id, Replayed::new(order));
                return Ok(None);
            }
            Event::CashMoved(moved) => {
                self.accounts.move_cash(lsn, moved)?;
                return Ok(None);
            }
            Event::AccountAdopted(adopted) => {
                self.accounts.adopt(lsn, adopted);
                return Ok(None);
            }
            Event::UnmatchedReport(_) | Event::FeedPosition(_) | Event::AccountsBegun(_) => {
                return Ok(None);
            }
        };
        Ok(self.orders.get(&order_id).map(|known| &known.order))
    }
}

impl Replayed {
    fn new(order: TrackedOrder) -> Self {
        Self { order, is_compared: false, times: Vec::new() }
    }

    /// Records the effect of a change on an execution, and whether the order knew that before.
    fn note_times(&mut self, (effect, was_known): (ExecutionEffect, bool), at: TimestampMicros) {
        let recorded_at = (!was_known).then_some(at);
        let id = effect.execution_id().clone();
        let (executed_at, busted_at) = match effect {
            ExecutionEffect::Counts(fill) => (Some(fill.executed_at), None),
            ExecutionEffect::Void { .. } => (None, Some(at)),
        };
        match self.times.iter_mut().find(|(known, _)| *known == id) {
            // The first recorded time stays, also if the execution counts again.
            Some((_, times)) => {
                times.busted_at = busted_at;
                times.executed_at = executed_at.or(times.executed_at);
            }
            // The log no longer says when this void execution was made.
            None if was_known && busted_at.is_some() => {}
            None => self.times.push((id, ExecutionTimes { executed_at, recorded_at, busted_at })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{IndexAges, IndexFiller};
    use crate::offline::test_node::{accepted, created, filled, order};
    use crate::order::OrderParts;
    use crate::order::test_events::taken_back;
    use crate::testing::MemoryStore;
    use crate::wal::LogId;

    #[test]
    fn orders_that_the_log_begins_amid_come_from_the_index() {
        let store = MemoryStore::new();
        let mut filler = IndexFiller::in_memory(&store);
        filler.order(&order(1, &[accepted(1), filled(1, "e1", 2)])).unwrap();
        filler.finish_at(LogId(7), Lsn(10)).unwrap();
        let index = Index::in_memory(&store, IndexAges::default()).unwrap();
        let mut replay = Replay::new(&index, Lsn(10), Lsn(5)).unwrap();
        // The log has only the end of the first order, which the index has as well.
        assert!(replay.take(Lsn(6), &filled(1, "e1", 2)).unwrap().is_none());
        assert!(replay.orders.is_empty() && replay.ahead.contains(&created(1).order_id));
        let creation = Event::Created(created(2));
        assert_eq!(replay.take(Lsn(7), &creation).unwrap().unwrap().order().version, 1);
        // Later events are applied to the order of the index.
        let after = replay.take(Lsn(11), &filled(1, "e2", 3)).unwrap().unwrap();
        let whole = order(1, &[accepted(1), filled(1, "e1", 2), filled(1, "e2", 3)]);
        assert_eq!(OrderParts::of_tracked(after), OrderParts::of_tracked(&whole));
        let times = &replay.orders[&created(1).order_id].times;
        assert_eq!(times.len(), 1, "the time of the first execution is gone");
        assert!(
            replay.take(Lsn(12), &filled(1, "e2", 3)).unwrap().is_none(),
            "a repeated execution"
        );
        let unknown = replay.take(Lsn(13), &accepted(3)).unwrap_err();
        assert!(matches!(unknown, OfflineError::Index(IndexError::UnknownOrder { .. })));
    }

    /// The event at another time.
    fn at(micros: u64, event: Event) -> Event {
        let Event::Changed(changed) = event else { panic!("{event:?}") };
        let at = TimestampMicros::new(micros);
        Event::Changed(crate::order::Changed { at, ..changed })
    }

    #[test]
    fn an_execution_that_counts_again_has_its_last_execution_time_and_first_recorded_time() {
        let store = MemoryStore::new();
        let mut filler = IndexFiller::in_memory(&store);
        filler.order(&order(1, &[accepted(1), filled(1, "e1", 2)])).unwrap();
        filler.finish_at(LogId(7), Lsn(10)).unwrap();
        let index = Index::in_memory(&store, IndexAges::default()).unwrap();
        let mut replay = Replay::new(&index, Lsn(10), Lsn(10)).unwrap();
        let made_at = |event: &Event| match event {
            Event::Changed(crate::order::Changed {
                change: crate::order::Change::Filled(fill),
                ..
            }) => fill.executed_at,
            _ => panic!("{event:?}"),
        };
        replay.take(Lsn(11), &Event::Created(created(2))).unwrap();
        for number in [1, 2] {
            let (lsn, again) = (Lsn(20 * number), at(300, filled(number, "e1", 3)));
            if number == 2 {
                replay.take(lsn, &at(100, filled(2, "e1", 2))).unwrap().unwrap();
            }
            replay.take(lsn, &at(200, taken_back(number, "e1"))).unwrap().unwrap();
            replay.take(lsn, &again).unwrap().unwrap();
            let times = &replay.orders[&created(number).order_id].times;
            // Of the first order the log no longer says when its execution was first recorded.
            let recorded_at = (number == 2).then_some(TimestampMicros::new(100));
            let executed_at = Some(made_at(&again));
            let expected = ExecutionTimes { executed_at, recorded_at, busted_at: None };
            assert_eq!(times.iter().map(|(_, times)| *times).collect::<Vec<_>>(), [expected]);
        }
    }
}

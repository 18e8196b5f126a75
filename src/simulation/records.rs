//! The records with which the exchange answers queries: from a replica that lags, with execution
//! lists cut short, with or without saying how complete they are.

use std::collections::BTreeMap;

use super::dice::Dice;
use crate::exchange::wire::{AsOf, QueryResult};
use crate::types::OrderId;

/// How records behave.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RecordBehavior {
    /// Lag in microseconds.
    pub(super) lag_micros: u64,
    /// Whether they say how complete they are.
    pub(super) shows_as_of: bool,
    /// Percentage of execution lists that are cut short.
    pub(super) cut_lists: u64,
}

/// Earlier records, for a replica that lags.
#[derive(Default)]
pub(super) struct RecordHistory {
    orders: BTreeMap<OrderId, Vec<(u64, QueryResult)>>,
    feed: Vec<(u64, AsOf)>,
}

impl RecordHistory {
    /// Adds the current record of an order.
    pub(super) fn note(&mut self, at_micros: u64, order_id: OrderId, record: QueryResult) {
        let known = self.orders.entry(order_id).or_default();
        if known.last().is_none_or(|(_, last)| *last != record) {
            known.push((at_micros, record));
        }
    }

    /// Adds the current position of the feed.
    pub(super) fn note_feed(&mut self, at_micros: u64, as_of: AsOf) {
        if self.feed.last().is_none_or(|(_, last)| *last != as_of) {
            self.feed.push((at_micros, as_of));
        }
    }

    /// The record of an order at a time.
    pub(super) fn order(&self, order_id: OrderId, at_micros: u64) -> Option<&QueryResult> {
        let known = self.orders.get(&order_id)?;
        known.iter().rev().find(|(at, _)| *at <= at_micros).map(|(_, record)| record)
    }

    /// The position of the feed at a time.
    pub(super) fn feed(&self, at_micros: u64) -> Option<&AsOf> {
        self.feed.iter().rev().find(|(at, _)| *at <= at_micros).map(|(_, as_of)| as_of)
    }
}

/// Cuts the execution list of a record short. If the cut list is consistent with its sum, the
/// record does not say how complete it is; otherwise the sum gives the cut away.
pub(super) fn cut(record: &mut QueryResult, dice: &mut Dice) {
    record.executions.truncate(dice.below(record.executions.len() + 1));
    if dice.percent(50) {
        record.filled_shares = record.executions.iter().map(|known| known.num_shares).sum();
        record.as_of = None;
    } else if dice.percent(50) {
        record.as_of = None;
    }
}

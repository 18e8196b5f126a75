//! How the exchange tells what it knows of an order when it is asked: from a replica that lags, with
//! lists that are cut short, with or without a word on how complete it is.

use std::collections::BTreeMap;

use super::dice::Dice;
use crate::exchange::wire::{AsOf, QueryResult};
use crate::types::OrderId;

/// What kind of records this exchange gives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RecordManner {
    /// How far they are behind, in microseconds.
    pub(super) lag_micros: u64,
    /// Whether they say how complete they are.
    pub(super) shows_as_of: bool,
    /// Of a hundred lists of executions, so many are cut short.
    pub(super) cut_lists: u64,
}

/// What the exchange knew, and when.
#[derive(Default)]
pub(super) struct RecordHistory {
    orders: BTreeMap<OrderId, Vec<(u64, QueryResult)>>,
    feed: Vec<(u64, AsOf)>,
}

impl RecordHistory {
    /// Takes note of an order as it is now.
    pub(super) fn note(&mut self, at_micros: u64, order_id: OrderId, record: QueryResult) {
        let known = self.orders.entry(order_id).or_default();
        if known.last().is_none_or(|(_, last)| *last != record) {
            known.push((at_micros, record));
        }
    }

    /// Takes note of how far the feed has come.
    pub(super) fn note_feed(&mut self, at_micros: u64, as_of: AsOf) {
        if self.feed.last().is_none_or(|(_, last)| *last != as_of) {
            self.feed.push((at_micros, as_of));
        }
    }

    /// An order as it was at a time.
    pub(super) fn order(&self, order_id: OrderId, at_micros: u64) -> Option<&QueryResult> {
        let known = self.orders.get(&order_id)?;
        known.iter().rev().find(|(at, _)| *at <= at_micros).map(|(_, record)| record)
    }

    /// How far the feed had come at a time.
    pub(super) fn feed(&self, at_micros: u64) -> Option<&AsOf> {
        self.feed.iter().rev().find(|(at, _)| *at <= at_micros).map(|(_, as_of)| as_of)
    }
}

/// Cuts the list of a record short. One that does not count what it leaves out no longer says how
/// complete it is; the sum of the shares gives the other away.
pub(super) fn cut(record: &mut QueryResult, dice: &mut Dice) {
    record.executions.truncate(dice.below(record.executions.len() + 1));
    if dice.percent(50) {
        record.filled_shares = record.executions.iter().map(|known| known.num_shares).sum();
        record.as_of = None;
    } else if dice.percent(50) {
        record.as_of = None;
    }
}

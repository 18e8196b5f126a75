//! Executions, shares and value of both sides.

use serde::Serialize;

use crate::order::Fill;
use crate::types::Shares;

/// What one side has of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideTotals {
    pub executions: u64,
    pub shares: Shares,
    pub value_in_cents: i64,
}

/// What both sides have of a symbol, as they were found, before repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SymbolTotals {
    pub exchange: SideTotals,
    pub ours: SideTotals,
}

impl SideTotals {
    pub(super) fn add(&mut self, fill: &Fill) {
        self.executions += 1;
        self.shares = self.shares.saturating_add(fill.num_shares);
        let value = i128::from(fill.num_shares) * i128::from(fill.price.cents());
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.value_in_cents = self.value_in_cents.saturating_add(value);
    }
}

impl SymbolTotals {
    pub(super) fn add(&mut self, more: &Self) {
        for (sum, more) in [(&mut self.exchange, &more.exchange), (&mut self.ours, &more.ours)] {
            sum.executions += more.executions;
            sum.shares = sum.shares.saturating_add(more.shares);
            sum.value_in_cents = sum.value_in_cents.saturating_add(more.value_in_cents);
        }
    }
}

//! Compares the executions that the exchange lists for a day with ours. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use compact_str::CompactString;
use serde::Serialize;

use super::totals::SymbolTotals;
use crate::engine::DayFinding;
use crate::exchange::wire::DayExecution;
use crate::order::{Execution, Fill, Order, TrackedOrder};
use crate::types::{
    ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol, TimestampMicros,
    TradeDate,
};

/// Our record of an order, with its executions as they were noted.
pub type OurOrder = (TrackedOrder, Vec<Fill>);

/// How an execution differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The exchange lists it, and it does not count here.
    Missing,
    /// It counts here with other shares or another price.
    OtherNumbers,
    /// It names another symbol or side than the order here has, or another id of the exchange's.
    OtherOrder,
    /// It was busted or discarded here.
    VoidHere,
    /// It counts here, and the exchange does not list it.
    Unlisted,
    /// The exchange lists it for an order that is not known here.
    UnknownOrder,
}

/// One execution that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    pub kind: DifferenceKind,
    /// Our id of the order, if it is known.
    pub order_id: Option<OrderId>,
    /// The exchange's id of the order, if it is known.
    pub external_order_id: Option<CompactString>,
    pub execution_id: ExecutionId,
    pub symbol: Symbol,
    pub num_shares: Shares,
    pub price_in_cents: PriceCents,
    pub timestamp: TimestampMicros,
}

/// An execution as the exchange lists it.
#[derive(Debug, Clone)]
struct Listed {
    symbol: Symbol,
    side: Side,
    external_order_id: ExternalOrderId,
    fill: Fill,
}

impl Listed {
    /// Whether it is an execution of this order, as far as both sides know.
    fn is_of(&self, order: &Order) -> bool {
        let known_id = order.external_order_id.as_ref();
        self.symbol == order.symbol
            && self.side == order.side
            && known_id.is_none_or(|id| *id == self.external_order_id)
    }
}

/// What is known of the exchange's list of a day.
#[derive(Debug)]
pub struct Comparison {
    date: TradeDate,
    /// Executions at this time or later are left out: they may still be under way.
    until: TimestampMicros,
    listed: BTreeMap<OrderId, Vec<Listed>>,
    symbols: BTreeMap<Symbol, SymbolTotals>,
    differences: Vec<Difference>,
    findings: Vec<DayFinding>,
}

/// What the comparison came to.
#[derive(Debug, Default)]
pub struct Known {
    pub symbols: BTreeMap<Symbol, SymbolTotals>,
    /// By order and execution.
    pub differences: Vec<Difference>,
    /// For the engines, one for each order that differs.
    pub findings: Vec<DayFinding>,
}

impl Comparison {
    /// A comparison of the executions of a day up to, but without, a time.
    pub fn new(date: TradeDate, until: TimestampMicros) -> Self {
        Self {
            date,
            until,
            listed: BTreeMap::new(),
            symbols: BTreeMap::new(),
            differences: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Takes an execution of the exchange's list, with our id of its order if we know it. One that is
    /// listed twice counts once.
    pub fn list(&mut self, execution: &DayExecution, order_id: Option<OrderId>) {
        if execution.timestamp >= self.until {
            return;
        }
        let fill = Fill {
            execution_id: execution.execution_id.clone(),
            price: execution.price_in_cents,
            num_shares: execution.num_shares,
            executed_at: execution.timestamp,
        };
        let symbol = execution.symbol;
        if let Some(order_id) = order_id {
            let of_order = self.listed.entry(order_id).or_default();
            if of_order.iter().any(|known| known.fill.is_same(&fill)) {
                return;
            }
            self.symbols.entry(symbol).or_default().exchange.add(&fill);
            let (side, external_order_id) = (execution.side, execution.order_id.clone());
            of_order.push(Listed { symbol, side, external_order_id, fill });
        } else {
            self.symbols.entry(symbol).or_default().exchange.add(&fill);
            let external = Some(execution.order_id.as_str().into());
            self.differ(DifferenceKind::UnknownOrder, (None, external), symbol, &fill);
        }
    }

    /// Orders that the exchange's list names.
    pub fn listed_orders(&self) -> impl Iterator<Item = OrderId> {
        self.listed.keys().copied()
    }

    /// Compares an order: one that the list names, or that was executed here on the day. `is_complete`:
    /// whether the exchange lists all of the day; else nothing is held against what it lacks.
    pub fn compare(&mut self, order_id: OrderId, ours: Option<&OurOrder>, is_complete: bool) {
        let listed = self.listed.remove(&order_id).unwrap_or_default();
        let Some((tracked, noted)) = ours else {
            for Listed { symbol, fill, .. } in listed {
                self.differ(DifferenceKind::UnknownOrder, (Some(order_id), None), symbol, &fill);
            }
            return;
        };
        let order = tracked.order();
        let external = order.external_order_id.as_ref().map(|id| CompactString::new(id.as_str()));
        let ids = (Some(order_id), external);
        let (mut to_count, mut unlisted) = (Vec::new(), Vec::new());
        for one in &listed {
            let Listed { symbol, fill, .. } = one;
            if !one.is_of(order) {
                self.differ(DifferenceKind::OtherOrder, ids.clone(), *symbol, fill);
                continue;
            }
            let kind = match tracked.executions().get(&fill.execution_id) {
                None | Some(Execution::TakenBack) => DifferenceKind::Missing,
                Some(Execution::Busted) => DifferenceKind::VoidHere,
                Some(known) if known.counted() == Some((fill.num_shares, fill.price)) => continue,
                Some(Execution::Counted { .. } | Execution::Booked { .. }) => {
                    DifferenceKind::OtherNumbers
                }
            };
            self.differ(kind, ids.clone(), *symbol, fill);
            to_count.push(fill.clone());
        }
        let of_list: BTreeSet<&ExecutionId> =
            listed.iter().map(|listed| &listed.fill.execution_id).collect();
        let times: HashMap<&ExecutionId, TimestampMicros> =
            noted.iter().map(|fill| (&fill.execution_id, fill.executed_at)).collect();
        let mut ours: Vec<Fill> = Vec::new();
        for (id, execution) in tracked.executions().iter() {
            let Some((num_shares, price)) = execution.counted() else { continue };
            let at = times.get(id).copied();
            let is_of_day = at.is_some_and(|at| self.date.has(at) && at < self.until);
            if of_list.contains(id) || is_of_day {
                let executed_at = at.unwrap_or(self.date.begins());
                ours.push(Fill { execution_id: id.clone(), price, num_shares, executed_at });
            }
        }
        ours.sort_by(|one, other| one.execution_id.cmp(&other.execution_id));
        for fill in ours {
            self.symbols.entry(order.symbol).or_default().ours.add(&fill);
            if is_complete && !of_list.contains(&fill.execution_id) {
                self.differ(DifferenceKind::Unlisted, ids.clone(), order.symbol, &fill);
                unlisted.push(fill.execution_id);
            }
        }
        if !to_count.is_empty() || !unlisted.is_empty() {
            let trade_date = self.date;
            self.findings.push(DayFinding { trade_date, order_id, listed: to_count, unlisted });
        }
    }

    /// What it came to.
    pub fn finish(self) -> Known {
        let Self { listed, symbols, mut differences, findings, .. } = self;
        assert!(listed.is_empty(), "every order of the list was compared");
        differences.sort_by(|one, other| {
            (one.order_id, &one.execution_id).cmp(&(other.order_id, &other.execution_id))
        });
        Known { symbols, differences, findings }
    }

    fn differ(
        &mut self,
        kind: DifferenceKind,
        (order_id, external_order_id): (Option<OrderId>, Option<CompactString>),
        symbol: Symbol,
        fill: &Fill,
    ) {
        self.differences.push(Difference {
            kind,
            order_id,
            external_order_id,
            execution_id: fill.execution_id.clone(),
            symbol,
            num_shares: fill.num_shares,
            price_in_cents: fill.price,
            timestamp: fill.executed_at,
        });
    }
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;

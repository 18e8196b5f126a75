//! The report of a day's comparison, for programs and for a person who signs it.

use std::fmt::Write;

use serde::Serialize;

use super::comparison::{Difference, DifferenceKind};
use super::totals::SymbolTotals;
use crate::types::{Symbol, TimestampMicros, TradeDate};

/// Most differences and unreadable elements that a report lists; it counts all.
pub(super) const MAX_LISTED: usize = 10_000;

/// What has come of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It counts now, as a repair.
    Booked,
    /// It is a case that an operator decides.
    Quarantined,
    /// It counts no longer.
    Void,
    /// Nothing: a person has to look at it.
    Open,
}

/// A difference and what has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Settled {
    #[serde(flatten)]
    pub(super) difference: Difference,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OfSymbol {
    pub(super) symbol: Symbol,
    #[serde(flatten)]
    pub(super) totals: SymbolTotals,
}

/// The report of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DayReport {
    pub trade_date: TradeDate,
    /// The exchange's time when its list was read.
    pub compared_at: TimestampMicros,
    /// Executions at this time or later are left out.
    pub until: TimestampMicros,
    /// `exchange`, or `file`: handed over by an operator.
    pub source: &'static str,
    /// Whether the exchange listed all of the day.
    pub is_complete: bool,
    /// Whether both sides had the same, without a difference.
    pub agrees: bool,
    pub total: SymbolTotals,
    pub(super) symbols: Vec<OfSymbol>,
    pub difference_count: usize,
    pub(super) differences: Vec<Settled>,
    pub unreadable_count: usize,
    pub(super) unreadable: Vec<String>,
}

impl DayReport {
    /// The report as text that a person can sign.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _infallible = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { trade_date, source, total, difference_count, unreadable_count, .. } = self;
        writeln!(out, "Executions of {trade_date}, compared with those of the exchange")?;
        writeln!(
            out,
            "List from: the {source}{}",
            if self.is_complete { "" } else { ", incomplete" }
        )?;
        writeln!(out, "Compared up to: {} us since 1970", self.until.micros())?;
        writeln!(out)?;
        writeln!(
            out,
            "{:<10} {:>10} {:>14} {:>18} {:>10} {:>14} {:>18}",
            "", "exchange", "shares", "value in cents", "ours", "shares", "value in cents"
        )?;
        for OfSymbol { symbol, totals } in &self.symbols {
            row(out, symbol.as_str(), totals)?;
        }
        row(out, "all", total)?;
        writeln!(out)?;
        if self.agrees {
            writeln!(out, "No differences.")?;
        } else {
            writeln!(out, "Differences: {difference_count}. Unreadable: {unreadable_count}.")?;
        }
        for Settled { difference, outcome } in &self.differences {
            let Difference { execution_id, symbol, num_shares, price_in_cents, .. } = difference;
            let of = match (&difference.order_id, &difference.external_order_id) {
                (Some(order_id), _) => format!("order {order_id}"),
                (None, Some(id)) => format!("the exchange's order {id}"),
                (None, None) => "no order".to_owned(),
            };
            writeln!(
                out,
                "- {execution_id} of {of}: {num_shares} {symbol} at {} cents: {}; {}",
                price_in_cents.cents(),
                words(difference.kind),
                outcome_words(*outcome)
            )?;
        }
        for element in &self.unreadable {
            writeln!(out, "- unreadable: {element}")?;
        }
        writeln!(out)?;
        writeln!(out, "Signed: ______________________  Date: ______________")
    }
}

fn row(out: &mut String, name: &str, totals: &SymbolTotals) -> std::fmt::Result {
    let SymbolTotals { exchange, ours } = totals;
    writeln!(
        out,
        "{name:<10} {:>10} {:>14} {:>18} {:>10} {:>14} {:>18}",
        exchange.executions,
        exchange.shares,
        exchange.value_in_cents,
        ours.executions,
        ours.shares,
        ours.value_in_cents
    )
}

fn words(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Missing => "it did not count here",
        DifferenceKind::OtherNumbers => "it counts here with other numbers",
        DifferenceKind::OtherOrder => "it names another symbol, side or order than ours",
        DifferenceKind::VoidHere => "it was busted or discarded here",
        DifferenceKind::Unlisted => "it counts here, and the exchange does not list it",
        DifferenceKind::UnknownOrder => "the order is not known here",
    }
}

fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Booked => "booked as a repair",
        Outcome::Quarantined => "in quarantine, to be decided",
        Outcome::Void => "void by now",
        Outcome::Open => "left as it is",
    }
}

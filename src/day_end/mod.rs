//! The comparison at the end of a day: every execution that the exchange lists for the day against
//! ours, those of ended orders included. It is the net under everything else: no single lost line
//! survives a day.
//!
//! [`Comparison`] is pure. [`DayEndThread::run`] is the thread `day-end`: it reads the exchange's list,
//! compares, hands findings to the orders thread, waits until the store shows what came of them, and
//! writes the report.

mod comparison;
mod metrics;
mod report;
mod reports;
mod thread;
mod totals;

pub use comparison::{Comparison, Difference, DifferenceKind, Known, OurOrder};
pub use metrics::DayEndMetrics;
pub use report::{DayReport, Outcome};
pub use reports::{DayEnds, DayState};
pub use thread::{DayEndOptions, DayEndThread, ExchangeList, OurRecords, TakeFindings};
pub use totals::{SideTotals, SymbolTotals};

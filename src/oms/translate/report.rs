//! Lines about orders that the exchange sends unasked.

use compact_str::CompactString;

use super::values::executed_shares;
use crate::engine::Report;
use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::order::{Fill, ReportKind};

/// The report of a line about an order; `None` for a line without an order, or without the fields
/// that its type needs. `posted_in`: the session that a posted line names.
pub(in crate::oms) fn report(line: FeedLine, posted_in: Option<CompactString>) -> Option<Report> {
    let kind = match line.line_type {
        // A trade without its symbol may belong to another order.
        FeedLineType::Trade if line.symbol.is_none() => return None,
        FeedLineType::Trade => ReportKind::Filled(Fill {
            execution_id: line.execution_id?,
            price: line.price_in_cents?,
            num_shares: executed_shares(line.num_shares?)?,
            executed_at: line.timestamp,
        }),
        FeedLineType::Bust => ReportKind::Busted { execution_id: line.execution_id? },
        FeedLineType::Cancelled => ReportKind::Cancelled,
        FeedLineType::Expired => ReportKind::Expired,
        FeedLineType::Heartbeat => return None,
    };
    Some(Report {
        external_order_id: line.order_id?,
        kind,
        symbol: line.symbol,
        sequence: Some(line.sequence),
        posted_in,
    })
}

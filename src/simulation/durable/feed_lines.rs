//! Whether the log has what the exchange's feed says.

use compact_str::CompactString;

use super::{DurableLog, Mark};
use crate::exchange::wire::FeedLineType;
use crate::order::{CaseCause, FeedPosition, ReportKind, TrackedOrder, UnmatchedReport};
use crate::simulation::exchange::Exchange;
use crate::simulation::invariant::{Checked, Invariant, ensure};
use crate::simulation::published::PublishedLine;
use crate::types::{ExecutionId, ExternalOrderId, OrderId};

impl DurableLog {
    /// A position asserts that everything before it is in the log, or was reconciled by a query.
    pub(super) fn moved(&mut self, position: &FeedPosition, exchange: &Exchange) -> Checked {
        let session = CompactString::from(position.session_name());
        let goes_on =
            |(name, last): &(CompactString, u64)| *name == session && *last <= position.sequence;
        if !self.position.as_ref().is_some_and(goes_on) {
            self.looked_up = 0;
        }
        let feed = exchange.feed();
        // Restarted sequences begin lower, so this position may be of the previous numbering.
        let is_current = session == feed.session() && position.sequence <= feed.last();
        self.is_renumbered = position.session != session;
        self.position = Some((session, position.sequence));
        let is_certain = !exchange.loses_busts && !exchange.has_unsure_records();
        if !is_current || !is_certain {
            return Ok(());
        }
        for published in feed.lines() {
            let line = &published.line;
            if line.sequence > self.looked_up && line.sequence <= position.sequence {
                let is_safe = published.is_unsure
                    || self.is_kept_unread(published)
                    || self.keeps_record_unread(published)
                    || self.has(published, exchange)
                    || self.will_reconcile(published)
                    || is_void(published, exchange);
                ensure(is_safe, Invariant::PositionAfterLines, || {
                    format!("the position is {}, missing is {line:?}", position.sequence)
                })?;
            }
        }
        self.looked_up = self.looked_up.max(position.sequence);
        Ok(())
    }

    /// Whether the unreadable part of a line is kept with its order, or the order is not known yet:
    /// its record is queried once it is.
    fn is_kept_unread(&self, published: &PublishedLine) -> bool {
        let tracked = published.order.and_then(|order_id| self.engines.tracked(order_id));
        let line = &published.line;
        let says_too_little = line.line_type == FeedLineType::Trade && line.symbol.is_none();
        (published.is_unread || says_too_little)
            && tracked.is_none_or(|tracked| {
                tracked.order().external_order_id.is_none() || has_unreadable_case(tracked)
            })
    }

    /// Whether the record that should make up for a line could not be read, and its order keeps
    /// that as a case. What is unreadable holds up no position: the case is durable before the
    /// position, and the order is queried, by the next process too, until a record can be read.
    /// Only for a line that this process never took: one that it took must be in the log itself.
    fn keeps_record_unread(&self, published: &PublishedLine) -> bool {
        let tracked = published.order.and_then(|order_id| self.engines.tracked(order_id));
        published.is_record_unread
            && !published.is_taken
            && tracked.is_some_and(has_unreadable_case)
    }

    /// Whether the log has what a line says, possibly for another order with the same external id:
    /// until the submit is answered, the line can only match that order.
    pub(in crate::simulation) fn has(
        &self,
        published: &PublishedLine,
        exchange: &Exchange,
    ) -> bool {
        let line = &published.line;
        let (Some(external), Some(execution)) = (&line.order_id, &line.execution_id) else {
            return true;
        };
        let is_bust = match line.line_type {
            FeedLineType::Trade => false,
            FeedLineType::Bust => true,
            FeedLineType::Cancelled | FeedLineType::Expired | FeedLineType::Heartbeat => {
                return true;
            }
        };
        let owners = exchange.owners(external);
        let is_shared = owners.len() > 1;
        let is_known = |order_id: &OrderId| {
            let mark = self.executions.get(order_id).and_then(|marks| marks.get(execution));
            if is_bust {
                return mark == Some(&Mark::Void)
                    || (is_shared && self.cases.contains(&(*order_id, None)));
            }
            // An execution that does not fit its order waits for the exchange's record or for an
            // operator. Of orders that share an id, the record of the other one may have decided.
            let tracked = self.engines.tracked(*order_id);
            let is_kept = tracked.is_some_and(|tracked| tracked.case_of(execution).is_some());
            let was_kept = || self.cases.contains(&(*order_id, Some(execution.clone())));
            mark.is_some() || is_kept || (is_shared && was_kept())
        };
        owners.iter().any(is_known)
            || self.unmatched.iter().any(|report| is_about(report, external, execution, is_bust))
    }

    /// Whether a line with this id was ever kept as an unmatched report.
    pub(in crate::simulation) fn has_held(&self, id: &ExternalOrderId) -> bool {
        self.unmatched.iter().any(|report| report.external_order_id == *id)
    }

    /// Whether an unmatched bust reopens the line's order: the order is then reconciled, which also
    /// finds what the feed lost.
    fn will_reconcile(&self, published: &PublishedLine) -> bool {
        let Some(external) = &published.line.order_id else { return false };
        let marks = published.order.and_then(|id| self.executions.get(&id));
        let is_void = |id| marks.is_some_and(|marks| marks.get(id) == Some(&Mark::Void));
        self.unmatched.iter().any(|report| match &report.kind {
            ReportKind::Busted { execution_id } => {
                report.external_order_id == *external && !is_void(execution_id)
            }
            ReportKind::Filled(_) | ReportKind::Cancelled | ReportKind::Expired => false,
        })
    }
}

fn has_unreadable_case(tracked: &TrackedOrder) -> bool {
    tracked.cases().iter().any(|open| open.case.cause == CaseCause::Unreadable)
}

/// Whether a line reports an execution that was voided since: the record that reconciled its order
/// no longer had it.
fn is_void(published: &PublishedLine, exchange: &Exchange) -> bool {
    let line = &published.line;
    let (FeedLineType::Trade, Some(order_id), Some(execution)) =
        (line.line_type, published.order, &line.execution_id)
    else {
        return false;
    };
    let counting = exchange.counting(order_id);
    counting.iter().all(|known| known.execution_id != *execution)
}

fn is_about(
    report: &UnmatchedReport,
    order: &ExternalOrderId,
    execution: &ExecutionId,
    void: bool,
) -> bool {
    let id = match &report.kind {
        ReportKind::Filled(fill) if !void => &fill.execution_id,
        ReportKind::Busted { execution_id } if void => execution_id,
        _ => return false,
    };
    report.external_order_id == *order && id == execution
}

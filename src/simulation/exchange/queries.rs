//! The exchange's records of orders, and how queries show them: late, or cut short.

use compact_str::{CompactString, format_compact};

use super::{Exchange, parse};
use crate::exchange::wire::{AsOf, ExchangeStatus, QueryRequest, QueryResponse, QueryResult};
use crate::simulation::dice::Dice;
use crate::simulation::invariant::Checked;
use crate::simulation::records;
use crate::types::OrderId;

impl Exchange {
    /// Answers queries, as far as its records allow; cuts some lists of executions short.
    pub(in crate::simulation) fn query(
        &self,
        request: &QueryRequest,
        now_micros: u64,
        mut dice: Option<&mut Dice>,
    ) -> Checked<QueryResponse> {
        let mut results = Vec::new();
        for id in &request.client_order_ids {
            let mut record = self.told(parse(id)?, id, now_micros);
            if let Some(dice) = &mut dice
                && dice.percent(self.behavior.cut_lists)
            {
                records::cut(&mut record, dice);
            }
            results.push(record);
        }
        Ok(QueryResponse { results })
    }

    /// Notes that one of the queried records comes unreadable.
    pub(in crate::simulation) fn garbles_records(&mut self, request: &QueryRequest) -> Checked {
        for id in &request.client_order_ids {
            self.feed.mark_record_unread(parse(id)?);
        }
        Ok(())
    }

    /// The record of an order as a query shows it.
    fn told(&self, order_id: OrderId, id: &CompactString, now_micros: u64) -> QueryResult {
        if self.behavior.lag_micros == 0 {
            let as_of = self.behavior.shows_as_of.then(|| self.as_of_now(now_micros));
            return QueryResult { as_of, ..self.record(order_id) };
        }
        let at = now_micros.saturating_sub(self.behavior.lag_micros);
        let as_of = self.history.feed(at).filter(|_| self.behavior.shows_as_of).cloned();
        let known = self.history.order(order_id, at).cloned();
        let record = known.unwrap_or_else(|| QueryResult {
            client_order_id: id.clone(),
            external_order_id: None,
            status: ExchangeStatus::Unknown,
            filled_shares: 0,
            executions: Vec::new(),
            error: None,
            as_of: None,
        });
        QueryResult { as_of, ..record }
    }

    fn as_of_now(&self, now_micros: u64) -> AsOf {
        let old_name = self.records_name.as_ref().filter(|(_, until)| now_micros < *until);
        let session = old_name.map_or_else(|| self.feed.session(), |(name, _)| name.clone());
        AsOf { session, sequence: self.feed.last() }
    }

    /// Remembers the current records, for queries that lag.
    pub(in crate::simulation) fn remember(&mut self, now_micros: u64) {
        if self.behavior.lag_micros == 0 {
            return;
        }
        let submitted: Vec<OrderId> = self.submits.keys().copied().collect();
        for order_id in submitted {
            let record = self.record(order_id);
            self.history.note(now_micros, order_id, record);
        }
        let place = self.as_of_now(now_micros);
        self.history.note_feed(now_micros, place);
    }

    /// Whether records may be older than they look, so that one query does not reveal what the feed
    /// lost.
    pub(in crate::simulation) fn has_unsure_records(&self) -> bool {
        let shows_as_of = self.behavior.shows_as_of && !self.feed.has_restarted_numbering();
        self.behavior.cut_lists > 0 || (self.behavior.lag_micros > 0 && !shows_as_of)
    }

    /// Whether records may show fewer executions than there are.
    pub(in crate::simulation) fn has_short_records(&self) -> bool {
        self.behavior.cut_lists > 0 || self.behavior.lag_micros > 0
    }

    /// Whether we may call an accepted order failed, because records lag.
    pub(in crate::simulation) fn may_report_unknown(&self) -> bool {
        self.behavior.lag_micros > 0
    }

    /// The exchange's own record of an order.
    pub(in crate::simulation) fn record(&self, order_id: OrderId) -> QueryResult {
        let mut record = self.rules.query(&format_compact!("{order_id}"));
        for known in &mut record.executions {
            known.execution_id = self.ids.public(&known.execution_id);
        }
        if let Some(accepted) = self.accepted.get(&order_id) {
            record.external_order_id = Some(accepted.external_order_id.clone());
            record.executions.extend(accepted.late.iter().cloned());
            record.filled_shares = record.executions.iter().map(|known| known.num_shares).sum();
        }
        record
    }
}

//! The other side: the rules of [`crate::sim_exchange`], and on top of them what these do not do:
//! executions of orders that have ended, beyond their size as well, and cancels declined.

use std::collections::BTreeMap;

use compact_str::{CompactString, format_compact};

use super::dice::Dice;
use super::invariant::{Checked, Invariant, broken};
use super::published::Published;
use super::records::{self, RecordHistory, RecordManner};
use crate::exchange::wire::{
    AsOf, CancelRequest, CancelResponse, CancelResult, ExchangeStatus, FeedLine, FeedLineType,
    QueryExecution, QueryRequest, QueryResponse, QueryResult, Refusal, SubmitRequest,
    SubmitResponse,
};
use crate::sim_exchange::ManualExchange;
use crate::types::{
    ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Symbol, TimestampMicros,
};

/// What is traded. Orders for anything else are refused.
pub(super) const SYMBOLS: [&str; 2] = ["IBM", "SPY"];

/// An order that the exchange accepted.
struct Accepted {
    external_order_id: ExternalOrderId,
    shares: Shares,
    symbol: Symbol,
    /// Executions after the end that count.
    late: Vec<QueryExecution>,
    was_filled_late: bool,
}

/// The exchange.
pub(super) struct Exchange {
    rules: ManualExchange,
    feed: Published,
    /// The name that records still call the session by, and until when.
    records_name: Option<(CompactString, u64)>,
    accepted: BTreeMap<OrderId, Accepted>,
    by_external: BTreeMap<ExternalOrderId, OrderId>,
    /// Everything that was ever executed, also what was declared void.
    executions: BTreeMap<(OrderId, ExecutionId), (Shares, PriceCents)>,
    /// How often each order came.
    submits: BTreeMap<OrderId, usize>,
    late_count: u64,
    manner: RecordManner,
    history: RecordHistory,
    /// Whether lines may be lost that nothing else tells: busts.
    pub(super) loses_busts: bool,
    /// What happened, for the trace.
    pub(super) notes: Vec<String>,
}

impl Exchange {
    pub(super) fn new(manner: RecordManner, loses_busts: bool) -> Self {
        Self {
            rules: ManualExchange::new(symbols()),
            feed: Published::new(),
            records_name: None,
            accepted: BTreeMap::new(),
            by_external: BTreeMap::new(),
            executions: BTreeMap::new(),
            submits: BTreeMap::new(),
            late_count: 0,
            manner,
            history: RecordHistory::default(),
            loses_busts,
            notes: Vec::new(),
        }
    }

    /// Takes orders.
    pub(super) fn submit(
        &mut self,
        request: &SubmitRequest,
        now: TimestampMicros,
    ) -> Checked<SubmitResponse> {
        let mut results = Vec::new();
        for order in &request.orders {
            let order_id = parse(&order.client_order_id)?;
            let submits = self.submits.entry(order_id).or_default();
            *submits += 1;
            if *submits > 1 {
                return Err(broken(Invariant::PlacedOnce, format!("{order_id} came again")));
            }
            let result = self.rules.submit(order, now);
            if let Some(external_order_id) = &result.external_order_id {
                self.by_external.insert(external_order_id.clone(), order_id);
                let accepted = Accepted {
                    external_order_id: external_order_id.clone(),
                    shares: order.num_shares,
                    symbol: order.symbol,
                    late: Vec::new(),
                    was_filled_late: false,
                };
                self.accepted.insert(order_id, accepted);
            }
            results.push(result);
        }
        self.publish();
        Ok(SubmitResponse { results })
    }

    /// Cancels orders; declines each that `declines` picks.
    pub(super) fn cancel(
        &mut self,
        request: &CancelRequest,
        now: TimestampMicros,
        declines: &mut dyn FnMut() -> bool,
    ) -> CancelResponse {
        let mut results = Vec::new();
        for id in &request.external_order_ids {
            results.push(if declines() {
                let error = Refusal { code: "halted".into(), message: "not now".to_owned() };
                CancelResult { external_order_id: id.clone(), status: None, error: Some(error) }
            } else {
                self.rules.cancel(id, now)
            });
        }
        self.publish();
        CancelResponse { results }
    }

    /// Answers questions, as well as its records allow; cuts each list short that `cuts` picks.
    pub(super) fn query(
        &self,
        request: &QueryRequest,
        now_micros: u64,
        mut dice: Option<&mut Dice>,
    ) -> Checked<QueryResponse> {
        let mut results = Vec::new();
        for id in &request.client_order_ids {
            let mut record = self.told(parse(id)?, id, now_micros);
            if let Some(dice) = &mut dice
                && dice.percent(self.manner.cut_lists)
            {
                records::cut(&mut record, dice);
            }
            results.push(record);
        }
        Ok(QueryResponse { results })
    }

    /// The record of an order as somebody is told who asks for it.
    fn told(&self, order_id: OrderId, id: &CompactString, now_micros: u64) -> QueryResult {
        if self.manner.lag_micros == 0 {
            let as_of = self.manner.shows_as_of.then(|| self.feed_place(now_micros));
            return QueryResult { as_of, ..self.record(order_id) };
        }
        let at = now_micros.saturating_sub(self.manner.lag_micros);
        let as_of = self.history.feed(at).filter(|_| self.manner.shows_as_of).cloned();
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

    fn feed_place(&self, now_micros: u64) -> AsOf {
        let old_name = self.records_name.as_ref().filter(|(_, until)| now_micros < *until);
        let session = old_name.map_or_else(|| self.feed.session(), |(name, _)| name.clone());
        AsOf { session, sequence: self.feed.last() }
    }

    /// Takes note of what it knows now, for records that lag.
    pub(super) fn remember(&mut self, now_micros: u64) {
        if self.manner.lag_micros == 0 {
            return;
        }
        let submitted: Vec<OrderId> = self.submits.keys().copied().collect();
        for order_id in submitted {
            let record = self.record(order_id);
            self.history.note(now_micros, order_id, record);
        }
        let place = self.feed_place(now_micros);
        self.history.note_feed(now_micros, place);
    }

    /// Whether what it says of orders may be older than it looks: then nothing tells what the feed has
    /// lost before it is asked again.
    pub(super) fn has_unsure_records(&self) -> bool {
        let shows_as_of = self.manner.shows_as_of && !self.feed.is_again();
        self.manner.cut_lists > 0 || (self.manner.lag_micros > 0 && !shows_as_of)
    }

    /// Whether its records may show less than has been executed.
    pub(super) fn has_short_records(&self) -> bool {
        self.manner.cut_lists > 0 || self.manner.lag_micros > 0
    }

    /// Whether an order may be called failed here that it has accepted: its records lag.
    pub(super) fn may_seem_unknown(&self) -> bool {
        self.manner.lag_micros > 0
    }

    /// The exchange's record of an order.
    pub(super) fn record(&self, order_id: OrderId) -> QueryResult {
        let mut record = self.rules.query(&format_compact!("{order_id}"));
        if let Some(accepted) = self.accepted.get(&order_id) {
            record.executions.extend(accepted.late.iter().cloned());
            record.filled_shares = record.executions.iter().map(|known| known.num_shares).sum();
        }
        record
    }

    /// A trade in one of the symbols.
    pub(super) fn print(&mut self, print: (u16, PriceCents, u32), now: TimestampMicros) {
        self.rules.print(print, now);
        self.publish();
    }

    /// The day ends.
    pub(super) fn end_day(&mut self, now: TimestampMicros) {
        self.rules.expire_day_orders(now);
        self.publish();
    }

    /// Cancels or expires an order that nobody asked to cancel.
    pub(super) fn end_unasked(&mut self, order_id: OrderId, expired: bool, now: TimestampMicros) {
        if let Some(accepted) = self.accepted.get(&order_id) {
            self.rules.end_unasked(&accepted.external_order_id, expired, now);
            self.publish();
        }
    }

    /// Executions of an order that may be declared void. Not those that could open an order again
    /// which was filled late: it would be open here and filled for us, and who asks about an order
    /// that is filled?
    pub(super) fn voidable(&self, order_id: OrderId) -> Vec<ExecutionId> {
        let Some(accepted) = self.accepted.get(&order_id) else { return Vec::new() };
        let counting =
            if accepted.was_filled_late { accepted.late.clone() } else { self.counting(order_id) };
        counting.into_iter().map(|known| known.execution_id).collect()
    }

    /// Declares an execution void.
    pub(super) fn bust(&mut self, order_id: OrderId, id: &ExecutionId, now: TimestampMicros) {
        let Some(accepted) = self.accepted.get_mut(&order_id) else { return };
        let late_before = accepted.late.len();
        accepted.late.retain(|late| late.execution_id != *id);
        if accepted.late.len() < late_before {
            let line = line(FeedLineType::Bust, &accepted.external_order_id, now);
            let symbol = Some(accepted.symbol);
            self.push(FeedLine { execution_id: Some(id.clone()), symbol, ..line }, true);
        } else {
            self.rules.bust(&accepted.external_order_id, id, now);
            self.publish();
        }
    }

    /// Executes an order that has ended, beyond its size if it is filled.
    pub(super) fn fill_late(
        &mut self,
        order_id: OrderId,
        (shares, price): (Shares, PriceCents),
        now: TimestampMicros,
    ) {
        let Some(accepted) = self.accepted.get_mut(&order_id) else { return };
        self.late_count += 1;
        let Ok(id) = ExecutionId::new(&format!("late-{}", self.late_count)) else { return };
        let line = line(FeedLineType::Trade, &accepted.external_order_id, now);
        // Some say too little to be taken as they are.
        let is_whole = !self.late_count.is_multiple_of(4);
        let line = FeedLine {
            symbol: is_whole.then_some(accepted.symbol),
            execution_id: Some(id.clone()),
            price_in_cents: Some(price),
            num_shares: Some(shares),
            ..line
        };
        accepted.was_filled_late = true;
        accepted.late.push(QueryExecution {
            execution_id: id,
            price_in_cents: price,
            num_shares: shares,
            timestamp: now,
        });
        self.push(line, true);
    }

    /// Starts again: the lines of the old feed session are gone. Under the same name it numbers its
    /// lines from further below.
    pub(super) fn restart(&mut self, keeps_name: bool) {
        self.rules.restart();
        if !(keeps_name && self.feed.begin_again()) {
            self.feed.begin_session();
        }
        self.records_name = None;
    }

    /// Gives the session of its feed another name. Records keep the old one for a while.
    pub(super) fn rename_session(&mut self, until_micros: u64) {
        self.records_name = Some((self.feed.session(), until_micros));
        self.feed.rename();
    }

    pub(super) fn feed(&self) -> &Published {
        &self.feed
    }

    pub(super) fn feed_mut(&mut self) -> &mut Published {
        &mut self.feed
    }

    /// Orders that were accepted, and their ids here.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (OrderId, &ExternalOrderId)> {
        self.accepted.iter().map(|(order_id, accepted)| (*order_id, &accepted.external_order_id))
    }

    pub(super) fn is_accepted(&self, order_id: OrderId) -> bool {
        self.accepted.contains_key(&order_id)
    }

    /// Which order one of the exchange's ids means.
    pub(super) fn order_of(&self, id: &ExternalOrderId) -> Option<OrderId> {
        self.by_external.get(id).copied()
    }

    /// What was executed for an order under an id, void or not.
    pub(super) fn execution(
        &self,
        order_id: OrderId,
        id: &ExecutionId,
    ) -> Option<(Shares, PriceCents)> {
        self.executions.get(&(order_id, id.clone())).copied()
    }

    /// Executions of an order that count.
    pub(super) fn counting(&self, order_id: OrderId) -> Vec<QueryExecution> {
        self.record(order_id).executions
    }

    /// Whether more was ever executed for an order than its size.
    pub(super) fn is_over_filled(&self, order_id: OrderId) -> bool {
        let of_order = self.executions.iter().filter(|((other, _), _)| *other == order_id);
        let executed: Shares = of_order.map(|(_, (shares, _))| shares).sum();
        self.accepted.get(&order_id).is_some_and(|accepted| executed > accepted.shares)
    }

    /// Puts the lines of the rules on the feed.
    fn publish(&mut self) {
        for line in self.rules.take_lines() {
            // A query shows what counts, not what was taken back.
            let only_here = line.line_type == FeedLineType::Bust;
            self.push(line, only_here);
        }
    }

    fn push(&mut self, line: FeedLine, only_here: bool) {
        let order = line.order_id.as_ref().and_then(|id| self.order_of(id));
        if let (FeedLineType::Trade, Some(order), Some(id), Some(shares), Some(price)) =
            (line.line_type, order, &line.execution_id, line.num_shares, line.price_in_cents)
        {
            self.executions.insert((order, id.clone()), (shares, price));
        }
        if let Some(id) = &line.order_id {
            let (kind, execution) = (line.line_type, line.execution_id.as_ref());
            let execution = execution.map_or("", |id| id.as_str());
            let sequence = self.feed.last() + 1;
            self.notes.push(format!("line {sequence}: {kind:?} {execution} of {id}"));
        }
        self.feed.push(line, order, only_here);
    }
}

fn symbols() -> Vec<Symbol> {
    SYMBOLS.iter().filter_map(|name| Symbol::new(name).ok()).collect()
}

/// A line about an order, without a sequence.
fn line(line_type: FeedLineType, order: &ExternalOrderId, now: TimestampMicros) -> FeedLine {
    FeedLine {
        sequence: 0,
        line_type,
        execution_id: None,
        symbol: None,
        price_in_cents: None,
        num_shares: None,
        order_id: Some(order.clone()),
        volume: true,
        timestamp: now,
    }
}

/// The order that a client order id of ours means.
fn parse(client_order_id: &str) -> Checked<OrderId> {
    let unknown = || format!("the exchange is told of {client_order_id:?}, which is no order id");
    client_order_id.parse().map_err(|_| broken(Invariant::RecordFirst, unknown()))
}

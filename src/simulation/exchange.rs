//! The exchange: the rules of [`crate::sim_exchange`], and misbehavior beyond them: executions of
//! orders that have ended, over-fills, and declined cancels.

use std::collections::BTreeMap;

use compact_str::{CompactString, format_compact};

use super::dice::Dice;
use super::execution_ids::ExecutionIds;
use super::invariant::{Checked, Invariant, broken};
use super::published::Published;
use super::records::{self, RecordBehavior, RecordHistory};
use crate::exchange::wire::{
    AsOf, CancelRequest, CancelResponse, CancelResult, ExchangeStatus, FeedLine, FeedLineType,
    QueryExecution, QueryRequest, QueryResponse, QueryResult, Refusal, SubmitRequest,
    SubmitResponse,
};
use crate::sim_exchange::ManualExchange;
use crate::types::{
    ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Symbol, TimestampMicros,
};

/// The traded symbols. Orders for others are rejected.
pub(super) const SYMBOLS: [&str; 2] = ["IBM", "SPY"];

/// An accepted order.
struct Accepted {
    /// The id that we are told, which may have been used before.
    external_order_id: ExternalOrderId,
    /// The id within the rules.
    named: ExternalOrderId,
    /// The exchange's restarts before this order.
    restarts: u32,
    shares: Shares,
    symbol: Symbol,
    /// Executions after the order ended that count.
    late: Vec<QueryExecution>,
    was_filled_late: bool,
}

pub(super) struct Exchange {
    rules: ManualExchange,
    feed: Published,
    /// The session name that records still show, and until when.
    records_name: Option<(CompactString, u64)>,
    accepted: BTreeMap<OrderId, Accepted>,
    by_rules: BTreeMap<ExternalOrderId, OrderId>,
    /// The orders that had each id, oldest first.
    owners: BTreeMap<ExternalOrderId, Vec<OrderId>>,
    ids: ExecutionIds,
    restarts: u32,
    /// All executions ever, including void ones.
    executions: BTreeMap<(OrderId, ExecutionId), (Shares, PriceCents)>,
    /// How often each order was submitted.
    submits: BTreeMap<OrderId, usize>,
    late_count: u64,
    /// Order ids that were reused.
    reused_count: u64,
    behavior: RecordBehavior,
    history: RecordHistory,
    /// Whether lines may be lost that only the feed has: busts.
    pub(super) loses_busts: bool,
    /// What happened, for the trace.
    pub(super) notes: Vec<String>,
}

impl Exchange {
    /// A new exchange, without orders.
    pub(super) fn new(behavior: RecordBehavior, loses_busts: bool, ids: ExecutionIds) -> Self {
        Self {
            rules: ManualExchange::new(symbols()),
            feed: Published::new(),
            records_name: None,
            accepted: BTreeMap::new(),
            by_rules: BTreeMap::new(),
            owners: BTreeMap::new(),
            ids,
            restarts: 0,
            executions: BTreeMap::new(),
            submits: BTreeMap::new(),
            late_count: 0,
            reused_count: 0,
            behavior,
            history: RecordHistory::default(),
            loses_busts,
            notes: Vec::new(),
        }
    }

    /// Accepts orders, possibly with ids reused from orders for which `has_ended` holds.
    pub(super) fn submit(
        &mut self,
        request: &SubmitRequest,
        now: TimestampMicros,
        has_ended: &dyn Fn(OrderId) -> bool,
    ) -> Checked<SubmitResponse> {
        let mut results = Vec::new();
        for order in &request.orders {
            let order_id = parse(&order.client_order_id)?;
            let submits = self.submits.entry(order_id).or_default();
            *submits += 1;
            if *submits > 1 {
                return Err(broken(Invariant::PlacedOnce, format!("{order_id} came again")));
            }
            let mut result = self.rules.submit(order, now);
            if let Some(named) = result.external_order_id.take() {
                let id = self.reused_id(has_ended).unwrap_or_else(|| named.clone());
                result.external_order_id = Some(id.clone());
                self.by_rules.insert(named.clone(), order_id);
                self.owners.entry(id.clone()).or_default().push(order_id);
                let accepted = Accepted {
                    external_order_id: id,
                    named,
                    restarts: self.restarts,
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

    /// An id from an earlier run of the exchange, whose order ended long ago on both sides.
    fn reused_id(&mut self, has_ended: &dyn Fn(OrderId) -> bool) -> Option<ExternalOrderId> {
        if !self.ids.reuses_id() {
            return None;
        }
        let is_over = |order_id: &OrderId| {
            use ExchangeStatus::{Cancelled, Expired, Filled};
            let is_old =
                self.accepted.get(order_id).is_some_and(|old| old.restarts < self.restarts);
            let is_named = self.feed.lines().iter().any(|line| line.order == Some(*order_id));
            is_old
                && !is_named
                && matches!(self.record(*order_id).status, Cancelled | Expired | Filled)
                && has_ended(*order_id)
        };
        let free = self.owners.iter().filter(|(_, owners)| owners.iter().all(is_over));
        let free: Vec<ExternalOrderId> = free.map(|(id, _)| id.clone()).collect();
        let used = self.ids.pick(&free);
        if let Some(id) = &used {
            self.reused_count += 1;
            self.notes.push(format!("{id} is used again"));
        }
        used
    }

    /// Whether an order's id names it, and not a later order. Nothing more is reported of an order
    /// whose id was reused.
    pub(super) fn is_named(&self, order_id: OrderId) -> bool {
        let id = self.accepted.get(&order_id).map(|accepted| &accepted.external_order_id);
        id.and_then(|id| self.owners.get(id)?.last()) == Some(&order_id)
    }

    /// Cancels orders, except for those that `declines` picks. An id of several orders means the
    /// one whose cancel is wanted.
    pub(super) fn cancel(
        &mut self,
        request: &CancelRequest,
        now: TimestampMicros,
        declines: &mut dyn FnMut() -> bool,
        is_wanted: &dyn Fn(OrderId) -> bool,
    ) -> CancelResponse {
        let mut results = Vec::new();
        for id in &request.external_order_ids {
            results.push(if declines() {
                let error = Refusal { code: "halted".into(), message: "not now".to_owned() };
                CancelResult { external_order_id: id.clone(), status: None, error: Some(error) }
            } else {
                let owners = self.owners(id);
                let meant = owners.iter().rev().find(|owner| is_wanted(**owner)).or(owners.last());
                let named = meant.and_then(|meant| self.accepted.get(meant)).map(|of| &of.named);
                let result = self.rules.cancel(named.unwrap_or(id), now);
                CancelResult { external_order_id: id.clone(), ..result }
            });
        }
        self.publish();
        CancelResponse { results }
    }

    /// Answers queries, as far as its records allow; cuts some lists of executions short.
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
                && dice.percent(self.behavior.cut_lists)
            {
                records::cut(&mut record, dice);
            }
            results.push(record);
        }
        Ok(QueryResponse { results })
    }

    /// Notes that one of the queried records comes unreadable.
    pub(super) fn garbles_records(&mut self, request: &QueryRequest) -> Checked {
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
    pub(super) fn remember(&mut self, now_micros: u64) {
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
    pub(super) fn has_unsure_records(&self) -> bool {
        let shows_as_of = self.behavior.shows_as_of && !self.feed.has_restarted_numbering();
        self.behavior.cut_lists > 0 || (self.behavior.lag_micros > 0 && !shows_as_of)
    }

    /// Whether records may show fewer executions than there are.
    pub(super) fn has_short_records(&self) -> bool {
        self.behavior.cut_lists > 0 || self.behavior.lag_micros > 0
    }

    /// Whether we may call an accepted order failed, because records lag.
    pub(super) fn may_report_unknown(&self) -> bool {
        self.behavior.lag_micros > 0
    }

    /// The exchange's own record of an order.
    pub(super) fn record(&self, order_id: OrderId) -> QueryResult {
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

    /// A trade in a symbol.
    pub(super) fn print(&mut self, print: (u16, PriceCents, u32), now: TimestampMicros) {
        self.rules.print(print, now);
        self.publish();
    }

    /// Ends the day.
    pub(super) fn end_day(&mut self, now: TimestampMicros) {
        self.rules.expire_day_orders(now);
        self.publish();
    }

    /// Cancels or expires an order that nobody asked to cancel.
    pub(super) fn end_unasked(&mut self, order_id: OrderId, expired: bool, now: TimestampMicros) {
        if let Some(accepted) = self.accepted.get(&order_id) {
            self.rules.end_unasked(&accepted.named, expired, now);
            self.publish();
        }
    }

    /// Executions of an order that may be voided. Not those that would reopen an order that was
    /// filled late: it would be open at the exchange and filled here, and filled orders are not
    /// queried.
    pub(super) fn voidable(&self, order_id: OrderId) -> Vec<ExecutionId> {
        let named = self.accepted.get(&order_id).filter(|_| self.is_named(order_id));
        let Some(accepted) = named else { return Vec::new() };
        let counting =
            if accepted.was_filled_late { accepted.late.clone() } else { self.counting(order_id) };
        counting.into_iter().map(|known| known.execution_id).collect()
    }

    /// Voids an execution.
    pub(super) fn bust(&mut self, order_id: OrderId, id: &ExecutionId, now: TimestampMicros) {
        let Some(accepted) = self.accepted.get_mut(&order_id) else { return };
        let late_before = accepted.late.len();
        accepted.late.retain(|late| late.execution_id != *id);
        if accepted.late.len() < late_before {
            let line = line(FeedLineType::Bust, &accepted.external_order_id, now);
            let symbol = Some(accepted.symbol);
            let line = FeedLine { execution_id: Some(id.clone()), symbol, ..line };
            self.push(line, Some(order_id), true);
        } else {
            let named = accepted.named.clone();
            let executed = self.rules.query(&format_compact!("{order_id}")).executions;
            let is_it = |known: &&QueryExecution| self.ids.public(&known.execution_id) == *id;
            let Some(execution) = executed.iter().find(is_it) else { return };
            self.rules.bust(&named, &execution.execution_id, now);
            self.publish();
        }
    }

    /// Executes an order that has ended; over-fills it if it is filled.
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
        // Some lines are incomplete.
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
        self.push(line, Some(order_id), true);
    }

    /// Restarts: the lines of the old feed session are gone. Under the same name its numbering
    /// restarts lower.
    pub(super) fn restart(&mut self, keeps_name: bool) {
        self.rules.restart();
        self.restarts += 1;
        self.ids.begin();
        if !(keeps_name && self.feed.restart_numbering()) {
            self.feed.begin_session();
        }
        self.records_name = None;
    }

    /// Renames the session of the feed. Records keep the old name for a while.
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

    /// The accepted orders and their ids.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (OrderId, &ExternalOrderId)> {
        self.accepted.iter().map(|(order_id, accepted)| (*order_id, &accepted.external_order_id))
    }

    pub(super) fn is_accepted(&self, order_id: OrderId) -> bool {
        self.accepted.contains_key(&order_id)
    }

    /// The orders that had an id, oldest first.
    pub(super) fn owners(&self, id: &ExternalOrderId) -> &[OrderId] {
        self.owners.get(id).map_or(&[], Vec::as_slice)
    }

    /// The orders that have or had the same id as this one, including itself.
    pub(super) fn sharing(&self, order_id: OrderId) -> &[OrderId] {
        let accepted = self.accepted.get(&order_id);
        accepted.map_or(&[], |accepted| self.owners(&accepted.external_order_id))
    }

    /// An execution of an order by its id, void or not.
    pub(super) fn execution(
        &self,
        order_id: OrderId,
        id: &ExecutionId,
    ) -> Option<(Shares, PriceCents)> {
        self.executions.get(&(order_id, id.clone())).copied()
    }

    /// The executions of an order that count.
    pub(super) fn counting(&self, order_id: OrderId) -> Vec<QueryExecution> {
        self.record(order_id).executions
    }

    /// Whether an order was ever over-filled.
    pub(super) fn is_over_filled(&self, order_id: OrderId) -> bool {
        let of_order = self.executions.iter().filter(|((other, _), _)| *other == order_id);
        let executed: Shares = of_order.map(|(_, (shares, _))| shares).sum();
        self.accepted.get(&order_id).is_some_and(|accepted| executed > accepted.shares)
    }

    /// Publishes the lines of the rules on the feed, with the ids that we are told.
    fn publish(&mut self) {
        let lines = self.rules.take_lines();
        let order_of = |line: &FeedLine| self.by_rules.get(line.order_id.as_ref()?).copied();
        for line in lines.iter().filter(|line| line.line_type == FeedLineType::Trade) {
            let Some(id) = &line.execution_id else { continue };
            let same = lines.iter().filter(|other| other.execution_id.as_ref() == Some(id));
            let orders: Vec<OrderId> = same.filter_map(order_of).collect();
            // Not an id that an order with the same order id has had: they would be
            // indistinguishable.
            let (accepted, owners, executions) = (&self.accepted, &self.owners, &self.executions);
            let is_free = |used: &ExecutionId| {
                let names = orders.iter().filter_map(|order| accepted.get(order));
                let named = names.filter_map(|named| owners.get(&named.external_order_id));
                named.flatten().all(|owner| !executions.contains_key(&(*owner, used.clone())))
            };
            self.ids.name(id, !orders.is_empty(), &is_free);
        }
        for mut line in lines {
            let order = line.order_id.as_ref().and_then(|id| self.by_rules.get(id).copied());
            let named = order.and_then(|order| self.accepted.get(&order));
            line.order_id = named.map(|named| named.external_order_id.clone());
            line.execution_id = line.execution_id.map(|id| self.ids.public(&id));
            // A query shows the executions that count, not those that were taken back.
            let only_on_feed = line.line_type == FeedLineType::Bust;
            self.push(line, order, only_on_feed);
        }
    }

    fn push(&mut self, line: FeedLine, order: Option<OrderId>, only_on_feed: bool) {
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
        self.feed.push(line, order, only_on_feed);
    }

    /// Order ids and execution ids reused since the last call.
    pub(super) fn take_reused_count(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.reused_count), self.ids.take_reused_count())
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

/// The order that a client order id of ours names.
fn parse(client_order_id: &str) -> Checked<OrderId> {
    let unknown = || format!("the exchange is told of {client_order_id:?}, which is no order id");
    client_order_id.parse().map_err(|_| broken(Invariant::RecordFirst, unknown()))
}

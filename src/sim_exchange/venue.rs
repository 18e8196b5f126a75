//! The rules of the exchange, pure: orders, cancels and prints go in with their time; answers, feed
//! lines and journal entries come out. The caller writes the journal entries before it sends any
//! answer or line.

mod day;
mod unasked;

use std::collections::HashMap;

pub(super) use unasked::ListedOrder;

use super::book::{Book, OrderSlot};
use super::candles::CandleLog;
use super::entry::{Entry, MAX_MESSAGE_BYTES, put_record};
use super::line::{Key, LineSymbol, LineTrade, Lines, NO_SYMBOL};
use super::orders::{
    ClientKey, Execution, MAX_FINISHED_ORDERS, MAX_OPEN_ORDERS, Order, Orders, Record, Rejection,
    Terms,
};
use super::replay::Print;
use crate::exchange::wire::{
    CancelResult, ExchangeStatus, QueryExecution, QueryResult, Refusal, SubmitOrder, SubmitResult,
};
use crate::types::{
    ExecutionId, ExternalOrderId, MAX_EXTERNAL_ID_BYTES, MAX_ORDER_SHARES, OrderType, PriceCents,
    Symbol, TimeInForce, TimestampMicros,
};

/// The exchange without sockets, files and clock.
#[derive(Debug)]
pub(super) struct Venue {
    /// Number of the last accepted order of this session.
    last_order: u64,
    traded: Vec<Traded>,
    places: HashMap<Symbol, u16>,
    /// Open orders of symbols that this run does not trade: they can be cancelled and expire.
    untraded: Book,
    orders: Orders,
    /// Latest time passed in: timestamps never go back, whatever the clock does.
    latest: TimestampMicros,
    /// Lines to publish once [`Self::journal`] is written.
    pub(super) lines: Lines,
    /// Frames to write.
    pub(super) journal: Vec<u8>,
    /// Orders and executions of the fills since this was last cleared.
    pub(super) fills: Vec<(Key, Key)>,
    pub(super) candles: CandleLog,
}

#[derive(Debug)]
struct Traded {
    symbol: Symbol,
    book: Book,
    /// Price of the first print of the day.
    open: Option<PriceCents>,
    /// Price of the last print.
    last: Option<PriceCents>,
}

impl Venue {
    /// An exchange without orders. Prints refer to symbols by their index in `symbols`.
    pub(super) fn new(symbols: &[Symbol]) -> Self {
        let traded = symbols.iter().map(|&symbol| Traded {
            symbol,
            book: Book::default(),
            open: None,
            last: None,
        });
        Self {
            last_order: 0,
            traded: traded.collect(),
            places: symbols.iter().copied().zip(0_u16..).collect(),
            untraded: Book::default(),
            orders: Orders::new(MAX_FINISHED_ORDERS),
            latest: TimestampMicros::default(),
            lines: Lines::default(),
            journal: Vec::new(),
            fills: Vec::new(),
            candles: CandleLog::default(),
        }
    }

    /// Begins a feed session.
    pub(super) fn begin_session(&mut self, session: u64) {
        (self.lines, self.last_order) = (Lines::new(session), 0);
        Entry::Started { session }.put(&mut self.journal);
    }

    pub(super) const fn session(&self) -> u64 {
        self.lines.session()
    }

    /// The newest timestamp.
    pub(super) const fn latest(&self) -> TimestampMicros {
        self.latest
    }

    pub(super) fn place(&self, symbol: &Symbol) -> Option<u16> {
        self.places.get(symbol).copied()
    }

    pub(super) fn symbol_count(&self) -> usize {
        self.traded.len()
    }

    /// Applies an entry of an earlier run. Entries about unknown orders are ignored.
    pub(super) fn restore(&mut self, entry: &Entry<'_>) {
        match *entry {
            Entry::Started { .. } | Entry::Webhook { .. } => {}
            Entry::Accepted { client, key, terms, at } => {
                let client = ClientKey::new(client);
                self.accept(Order {
                    client,
                    key,
                    terms,
                    status: ExchangeStatus::Open,
                    filled: 0,
                    executions: Vec::new(),
                    accepted_at: at,
                    at,
                });
            }
            Entry::Rejected { client, code, message, at } => {
                let refusal = Refusal { code: code.into(), message: message.to_owned() };
                self.orders.reject(Rejection { client: ClientKey::new(client), refusal, at });
            }
            Entry::Executed { order, execution } => {
                let Some(slot) = self.orders.slot(order) else { return };
                let Some(left) = self.orders.get(slot).map(Order::left) else { return };
                if execution.shares <= left && self.orders.execute(slot, execution) {
                    self.leave_book(slot);
                }
            }
            Entry::Busted { order, execution, at } => {
                let Some(slot) = self.orders.slot(order) else { return };
                if let Some((_, true)) = self.orders.bust(slot, execution, at) {
                    self.enter_book(slot);
                }
            }
            Entry::Ended { order, expired, at } => {
                let Some(slot) = self.orders.slot(order) else { return };
                self.leave_book(slot);
                self.orders.end(slot, end_status(expired), at);
            }
        }
    }

    /// The entries from which [`Self::restore`] rebuilds this state, after forgetting orders that
    /// finished before `forget_before`.
    pub(super) fn snapshot(&mut self, forget_before: TimestampMicros) -> Vec<u8> {
        self.orders.forget_finished_before(forget_before);
        let mut out = Vec::new();
        Entry::Started { session: self.session() }.put(&mut out);
        for record in self.orders.all() {
            put_record(&mut out, record);
        }
        out
    }

    /// Accepts or refuses an order; a known client id gets its first answer.
    pub(super) fn submit(&mut self, order: &SubmitOrder, now: TimestampMicros) -> SubmitResult {
        let now = self.stamp(now);
        let client = ClientKey::new(&order.client_order_id);
        if let Some(record) = self.orders.known(&client) {
            return answer(record);
        }
        match self.check(order, now) {
            Err(refusal) => self.refuse(&order.client_order_id, refusal, now),
            Ok(terms) => {
                self.last_order += 1;
                let key = Key { session: self.session(), number: self.last_order };
                let id = &order.client_order_id;
                Entry::Accepted { client: id, key, terms, at: now }.put(&mut self.journal);
                self.accept(Order {
                    client,
                    key,
                    terms,
                    status: ExchangeStatus::Open,
                    filled: 0,
                    executions: Vec::new(),
                    accepted_at: now,
                    at: now,
                });
                accepted(id.clone(), key)
            }
        }
    }

    /// Refuses an order of which only the client id could be read.
    pub(super) fn submit_unreadable(
        &mut self,
        client_order_id: &str,
        problem: &str,
        now: TimestampMicros,
    ) -> SubmitResult {
        let code = if problem.contains("a symbol of") { "unknown_symbol" } else { "invalid_order" };
        self.submit_refused(client_order_id, refusal(code, problem), now)
    }

    /// Refuses an order, unless its client id is known and gets its first answer.
    pub(super) fn submit_refused(
        &mut self,
        client_order_id: &str,
        refusal: Refusal,
        now: TimestampMicros,
    ) -> SubmitResult {
        let now = self.stamp(now);
        match self.orders.known(&ClientKey::new(client_order_id)) {
            Some(record) => answer(record),
            None => self.refuse(client_order_id, refusal, now),
        }
    }

    /// Cancels an open order, or says why not.
    pub(super) fn cancel(&mut self, id: &ExternalOrderId, now: TimestampMicros) -> CancelResult {
        let now = self.stamp(now);
        let found = order_key(id).and_then(|key| Some((key, self.orders.slot(key)?)));
        let status = found.and_then(|(_, slot)| self.orders.get(slot)).map(|order| order.status);
        let error = match (found, status) {
            (Some((key, slot)), Some(ExchangeStatus::Open)) => {
                self.end(slot, key, false, now);
                let status = Some(ExchangeStatus::Cancelled);
                return CancelResult { external_order_id: id.clone(), status, error: None };
            }
            (_, Some(ExchangeStatus::Filled)) => refusal("filled", "nothing is left to cancel"),
            (_, Some(ExchangeStatus::Cancelled)) => {
                refusal("already_cancelled", "the order is cancelled already")
            }
            (_, Some(ExchangeStatus::Expired)) => refusal("expired", "the order has expired"),
            (_, Some(ExchangeStatus::Rejected)) => {
                refusal("rejected", "the order was never accepted")
            }
            (_, Some(ExchangeStatus::Unknown) | None) | (None, Some(ExchangeStatus::Open)) => {
                refusal("unknown", "there is no such order")
            }
        };
        CancelResult { external_order_id: id.clone(), status: None, error: Some(error) }
    }

    /// The record of an order.
    pub(super) fn query(&self, client_order_id: &str) -> QueryResult {
        self.query_at(client_order_id, TimestampMicros::new(u64::MAX))
    }

    /// The record of an order at a time, except that executions busted since are missing.
    pub(super) fn query_at(&self, client_order_id: &str, at: TimestampMicros) -> QueryResult {
        let mut result = QueryResult {
            client_order_id: client_order_id.into(),
            external_order_id: None,
            status: ExchangeStatus::Unknown,
            filled_shares: 0,
            executions: Vec::new(),
            error: None,
            as_of: None,
        };
        match self.orders.known(&ClientKey::new(client_order_id)) {
            Some(Record::Rejected(rejection)) if rejection.at <= at => {
                result.status = ExchangeStatus::Rejected;
                result.error = Some(rejection.refusal.clone());
            }
            Some(Record::Accepted(order)) if order.accepted_at <= at => {
                let executed = order.executions.iter().filter(|execution| execution.at <= at);
                result.external_order_id = external_id(order.key);
                result.status = if order.at <= at { order.status } else { ExchangeStatus::Open };
                result.filled_shares = executed.clone().map(|execution| execution.shares).sum();
                result.executions = executed.filter_map(query_execution).collect();
            }
            None | Some(_) => {}
        }
        result
    }

    /// Publishes a trade of the session, and fills the orders that it reaches, together by at most
    /// its size.
    pub(super) fn print(&mut self, print: Print, now: TimestampMicros) {
        let now = self.stamp(now);
        let Some(traded) = self.traded.get_mut(usize::from(print.symbol)) else { return };
        let symbol = LineSymbol { place: print.symbol, name: traded.symbol.as_str() };
        self.candles.note(print.symbol, print.price, print.shares, now);
        traded.last = Some(print.price);
        traded.open.get_or_insert(print.price);
        let mut left = u64::from(print.shares);
        let trade = LineTrade { symbol, price: print.price, shares: left };
        let key = self.lines.print(trade, now);
        if traded.book.is_empty() {
            return;
        }
        while left > 0 {
            let Some(slot) = traded.book.best(print.price) else { break };
            let Some(order) = self.orders.get(slot) else { break };
            let (order_key, resting) = (order.key, order.resting());
            let shares = left.min(order.left());
            let execution = Execution { key, price: print.price, shares, at: now };
            Entry::Executed { order: order_key, execution }.put(&mut self.journal);
            self.lines.fill(key, order_key, LineTrade { shares, ..trade }, now);
            self.fills.push((order_key, key));
            if self.orders.execute(slot, execution) {
                traded.book.remove(resting);
            }
            left -= shares;
        }
    }

    /// Begins another day of a symbol and returns its last price.
    pub(super) fn begin_day(&mut self, place: u16) -> Option<PriceCents> {
        let traded = self.traded.get_mut(usize::from(place))?;
        traded.open = None;
        traded.last
    }

    /// The first price of a symbol's day.
    pub(super) fn open_price(&self, place: u16) -> Option<PriceCents> {
        self.traded.get(usize::from(place))?.open
    }

    /// The open day orders, which expire when the session ends.
    pub(super) fn open_day_orders(&self) -> Vec<Key> {
        let books = self.traded.iter().map(|traded| &traded.book).chain([&self.untraded]);
        let orders = books.flat_map(Book::slots).filter_map(|slot| self.orders.get(slot));
        let day_orders = orders.filter(|order| order.terms.time_in_force == TimeInForce::Day);
        day_orders.map(|order| order.key).collect()
    }

    /// Expires those of `keys` that are still open.
    pub(super) fn expire(&mut self, keys: &[Key], now: TimestampMicros) {
        let now = self.stamp(now);
        for &key in keys {
            let Some(slot) = self.orders.slot(key) else { continue };
            if self.orders.get(slot).is_some_and(|order| order.status == ExchangeStatus::Open) {
                self.end(slot, key, true, now);
            }
        }
    }

    fn check(&self, order: &SubmitOrder, now: TimestampMicros) -> Result<Terms, Refusal> {
        if now > order.submit_before {
            return Err(refusal("too_late", "submitBefore has passed"));
        }
        if self.place(&order.symbol).is_none() {
            return Err(refusal("unknown_symbol", "this symbol does not trade here"));
        }
        if !(1..=MAX_ORDER_SHARES).contains(&order.num_shares) {
            return Err(refusal("invalid_quantity", "numShares must be from 1 to 10000000"));
        }
        let is_limit = order.order_type == OrderType::Limit;
        if is_limit != order.limit_price_in_cents.is_some() {
            let problem = "a limit order has limitPriceInCents and a market order has none";
            return Err(refusal("invalid_price", problem));
        }
        if self.orders.open_count() >= MAX_OPEN_ORDERS {
            return Err(refusal("too_many_orders", "the exchange takes no more open orders"));
        }
        Ok(Terms {
            symbol: order.symbol,
            side: order.side,
            order_type: order.order_type,
            limit: order.limit_price_in_cents,
            time_in_force: order.time_in_force,
            shares: order.num_shares,
        })
    }

    fn refuse(&mut self, client: &str, refusal: Refusal, at: TimestampMicros) -> SubmitResult {
        let (code, message) = (refusal.code.as_str(), refusal.message.as_str());
        Entry::Rejected { client, code, message, at }.put(&mut self.journal);
        let error = Some(refusal.clone());
        self.orders.reject(Rejection { client: ClientKey::new(client), refusal, at });
        SubmitResult { client_order_id: client.into(), external_order_id: None, error }
    }

    fn accept(&mut self, order: Order) {
        let (resting, symbol) = (order.resting(), order.terms.symbol);
        if let Some(slot) = self.orders.accept(order) {
            self.book(symbol).insert(resting, slot);
        }
    }

    fn end(&mut self, slot: OrderSlot, key: Key, expired: bool, now: TimestampMicros) {
        let Some(order) = self.orders.get(slot) else { return };
        let name = order.terms.symbol;
        let place = self.place(&name).unwrap_or(NO_SYMBOL);
        let symbol = LineSymbol { place, name: name.as_str() };
        Entry::Ended { order: key, expired, at: now }.put(&mut self.journal);
        self.lines.order_end(key, expired, symbol, now);
        self.leave_book(slot);
        self.orders.end(slot, end_status(expired), now);
    }

    fn enter_book(&mut self, slot: OrderSlot) {
        let Some(order) = self.orders.get(slot) else { return };
        let (resting, symbol) = (order.resting(), order.terms.symbol);
        self.book(symbol).insert(resting, slot);
    }

    fn leave_book(&mut self, slot: OrderSlot) {
        let Some(order) = self.orders.get(slot) else { return };
        let (resting, symbol) = (order.resting(), order.terms.symbol);
        self.book(symbol).remove(resting);
    }

    fn book(&mut self, symbol: Symbol) -> &mut Book {
        let place = self.places.get(&symbol).map(|&place| usize::from(place));
        match place.and_then(|place| self.traded.get_mut(place)) {
            Some(traded) => &mut traded.book,
            None => &mut self.untraded,
        }
    }

    fn stamp(&mut self, now: TimestampMicros) -> TimestampMicros {
        self.latest = self.latest.max(now);
        self.latest
    }
}

/// Whether an order id fits the format.
pub(super) fn is_usable_id(id: &str) -> bool {
    (1..=MAX_EXTERNAL_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

fn end_status(expired: bool) -> ExchangeStatus {
    if expired { ExchangeStatus::Expired } else { ExchangeStatus::Cancelled }
}

fn refusal(code: &str, message: &str) -> Refusal {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Refusal { code: code.into(), message: message.get(..end).unwrap_or_default().to_owned() }
}

fn answer(record: &Record) -> SubmitResult {
    match record {
        Record::Accepted(order) => accepted(order.client.to_text(), order.key),
        Record::Rejected(rejection) => SubmitResult {
            client_order_id: rejection.client.to_text(),
            external_order_id: None,
            error: Some(rejection.refusal.clone()),
        },
    }
}

fn accepted(client_order_id: compact_str::CompactString, key: Key) -> SubmitResult {
    SubmitResult { client_order_id, external_order_id: external_id(key), error: None }
}

/// `o<session>-<number>`. Always `Some`: digits and a hyphen are printable and short.
fn external_id(key: Key) -> Option<ExternalOrderId> {
    ExternalOrderId::new(&compact_str::format_compact!("o{}-{}", key.session, key.number)).ok()
}

fn order_key(id: &ExternalOrderId) -> Option<Key> {
    let (session, number) = id.as_str().strip_prefix('o')?.split_once('-')?;
    let key = Key { session: session.parse().ok()?, number: number.parse().ok()? };
    (external_id(key).as_ref() == Some(id)).then_some(key)
}

fn query_execution(execution: &Execution) -> Option<QueryExecution> {
    let Key { session, number } = execution.key;
    Some(QueryExecution {
        execution_id: ExecutionId::new(&compact_str::format_compact!("e{session}-{number}"))
            .ok()?,
        price_in_cents: execution.price,
        num_shares: execution.shares,
        timestamp: execution.at,
    })
}

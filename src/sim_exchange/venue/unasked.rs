//! What fault injection asks of the venue: early fills, busts and unasked ends of orders, and a
//! list of all orders.

use compact_str::CompactString;
use serde::Serialize;

use super::super::entry::Entry;
use super::super::line::{Key, LineSymbol, LineTrade, NO_SYMBOL};
use super::super::orders::{ClientKey, Execution, Order};
use super::{Venue, external_id, order_key};
use crate::exchange::wire::ExchangeStatus;
use crate::types::{
    ExternalOrderId, PriceCents, Shares, Side, Symbol, TimeInForce, TimestampMicros,
};

/// An accepted order in a listing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sim_exchange) struct ListedOrder {
    client_order_id: CompactString,
    external_order_id: Option<ExternalOrderId>,
    symbol: Symbol,
    side: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_price_in_cents: Option<PriceCents>,
    time_in_force: TimeInForce,
    num_shares: Shares,
    filled_shares: Shares,
    status: ExchangeStatus,
}

impl Venue {
    /// Accepted orders with keys after `after`, at most `limit`.
    pub(in crate::sim_exchange) fn list(
        &self,
        after: Option<&ExternalOrderId>,
        limit: usize,
    ) -> Vec<ListedOrder> {
        let after = after.and_then(order_key);
        self.orders.accepted_after(after, limit).into_iter().map(listed).collect()
    }

    /// Whether an order with this client id was accepted or refused before.
    pub(in crate::sim_exchange) fn knows(&self, client_order_id: &str) -> bool {
        self.orders.known(&ClientKey::new(client_order_id)).is_some()
    }

    /// The key of the order with this id.
    pub(in crate::sim_exchange) fn key_of(&self, id: &ExternalOrderId) -> Option<Key> {
        order_key(id).filter(|key| self.orders.slot(*key).is_some())
    }

    pub(in crate::sim_exchange) fn is_open(&self, id: &ExternalOrderId) -> bool {
        let order = self.key_of(id).and_then(|key| self.open_order(key));
        order.is_some()
    }

    fn open_order(&self, key: Key) -> Option<&Order> {
        let order = self.orders.slot(key).and_then(|slot| self.orders.get(slot));
        order.filter(|order| order.status == ExchangeStatus::Open)
    }

    /// Fills shares of an open order, at most those left, at its limit or else at the last price.
    /// Returns `false` if there is nothing to fill or no price.
    pub(in crate::sim_exchange) fn fill_now(
        &mut self,
        key: Key,
        shares: Shares,
        now: TimestampMicros,
    ) -> bool {
        let now = self.stamp(now);
        let Some(order) = self.open_order(key) else { return false };
        let (terms, shares) = (order.terms, shares.min(order.left()));
        let place = self.place(&terms.symbol);
        let traded = place.and_then(|place| self.traded.get(usize::from(place)));
        let price = terms.limit.or_else(|| traded.and_then(|traded| traded.last));
        let (Some(place), Some(price), Some(slot)) = (place, price, self.orders.slot(key)) else {
            return false;
        };
        if shares == 0 {
            return false;
        }
        let symbol = LineSymbol { place, name: terms.symbol.as_str() };
        let trade = LineTrade { symbol, price, shares };
        let print = self.lines.print(trade, now);
        let execution = Execution { key: print, price, shares, at: now };
        Entry::Executed { order: key, execution }.put(&mut self.journal);
        self.lines.fill(print, key, trade, now);
        self.fills.push((key, print));
        if self.orders.execute(slot, execution) {
            self.leave_book(slot);
        }
        true
    }

    /// Busts an execution; a filled order is open again. Returns `false` if the order has no such
    /// execution.
    pub(in crate::sim_exchange) fn bust(
        &mut self,
        key: Key,
        execution: Key,
        now: TimestampMicros,
    ) -> bool {
        let now = self.stamp(now);
        let Some(slot) = self.orders.slot(key) else { return false };
        let Some((execution, reopened)) = self.orders.bust(slot, execution, now) else {
            return false;
        };
        let Some(order) = self.orders.get(slot) else { return false };
        let name = order.terms.symbol;
        let place = self.place(&name).unwrap_or(NO_SYMBOL);
        let symbol = LineSymbol { place, name: name.as_str() };
        let trade = LineTrade { symbol, price: execution.price, shares: execution.shares };
        Entry::Busted { order: key, execution: execution.key, at: now }.put(&mut self.journal);
        self.lines.bust(execution.key, key, trade, now);
        self.candles.bust(place, execution.at);
        if reopened {
            self.enter_book(slot);
        }
        true
    }

    /// Cancels or expires an open order. Returns `false` if it is not open.
    pub(in crate::sim_exchange) fn end_unasked(
        &mut self,
        key: Key,
        expired: bool,
        now: TimestampMicros,
    ) -> bool {
        let now = self.stamp(now);
        let Some(slot) = self.orders.slot(key) else { return false };
        let is_open = self.open_order(key).is_some();
        if is_open {
            self.end(slot, key, expired, now);
        }
        is_open
    }
}

fn listed(order: &Order) -> ListedOrder {
    ListedOrder {
        client_order_id: order.client.to_text(),
        external_order_id: external_id(order.key),
        symbol: order.terms.symbol,
        side: order.terms.side,
        limit_price_in_cents: order.terms.limit,
        time_in_force: order.terms.time_in_force,
        num_shares: order.terms.shares,
        filled_shares: order.filled,
        status: order.status,
    }
}

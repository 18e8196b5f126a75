//! Actions of the exchange.

use super::trace::say;
use super::world::World;
use crate::exchange::wire::QueryExecution;
use crate::types::OrderId;

impl World<'_> {
    pub(super) fn print(&mut self) -> bool {
        let symbol = u16::from(self.dice.percent(50));
        let shares = u32::try_from(self.dice.between(1, 6)).unwrap_or(1);
        let price = self.price();
        say!(self.trace, "{shares} shares of {symbol} trade at {}", price.cents());
        self.exchange.print((symbol, price, shares), self.clock.exchange());
        true
    }

    /// An accepted order.
    fn some_accepted(&mut self) -> Option<OrderId> {
        let accepted = self.exchange.accepted().map(|(id, _)| id);
        let accepted: Vec<OrderId> = accepted.filter(|id| self.exchange.is_named(*id)).collect();
        self.dice.pick(&accepted).copied()
    }

    /// Whether the feed will certainly bring a line: only then may there be one that only the feed
    /// has.
    fn feed_is_certain(&self) -> bool {
        let feed = self.exchange.feed();
        self.durable.position_in(&feed.session()).is_some_and(|last| feed.keeps(last + 1))
    }

    pub(super) fn bust(&mut self) -> bool {
        if !self.feed_is_certain() && !self.exchange.loses_busts {
            return false;
        }
        let Some(order_id) = self.some_accepted() else { return false };
        let ids = self.exchange.voidable(order_id);
        let Some(id) = self.dice.pick(&ids) else { return false };
        let name = self.trace.name(order_id);
        say!(self.trace, "the exchange voids {id} of {name}");
        self.trace.count("busts");
        self.exchange.bust(order_id, id, self.clock.exchange());
        true
    }

    pub(super) fn fill_late(&mut self) -> bool {
        use crate::exchange::wire::ExchangeStatus::{Cancelled, Expired, Filled};
        if !self.feed_is_certain() {
            return false;
        }
        let Some(order_id) = self.some_accepted() else { return false };
        if !matches!(self.exchange.record(order_id).status, Cancelled | Expired | Filled) {
            return false;
        }
        // Earlier executions have come: otherwise a late fill could fill the order here in their
        // place, and filled orders are not queried.
        let is_recorded = |known: &QueryExecution| {
            self.durable.counted(order_id).any(|(id, _)| *id == known.execution_id)
        };
        if !self.exchange.counting(order_id).iter().all(is_recorded) {
            return false;
        }
        let fill = (self.dice.between(1, 2), self.price());
        let name = self.trace.name(order_id);
        say!(self.trace, "the exchange executes {} of {name} late", fill.0);
        self.trace.count("late fills");
        self.exchange.fill_late(order_id, fill, self.clock.exchange());
        true
    }

    pub(super) fn end_unasked(&mut self) -> bool {
        let Some(order_id) = self.some_accepted() else { return false };
        let (name, expired) = (self.trace.name(order_id), self.dice.percent(50));
        say!(self.trace, "the exchange ends {name} unasked, expired: {expired}");
        self.exchange.end_unasked(order_id, expired, self.clock.exchange());
        true
    }

    pub(super) fn end_day(&mut self) -> bool {
        say!(self.trace, "the day ends at the exchange");
        self.exchange.end_day(self.clock.exchange());
        true
    }
}

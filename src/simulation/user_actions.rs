//! Actions of users.

use super::exchange::SYMBOLS;
use super::invariant::{Checked, Invariant, ensure};
use super::trace::say;
use super::world::World;
use crate::engine::AccountMode;
use crate::oms::CreateOrder;
use crate::types::{ClientOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce, UserId};

/// Few prices, so that some limits are reached and some are not.
const LOWEST_PRICE_CENTS: i64 = 9_990;
const PRICE_STEPS: usize = 10;
/// A symbol that the exchange does not trade.
const UNTRADED: &str = "NONE";

impl World<'_> {
    pub(super) fn create(&mut self) -> Checked<bool> {
        if self.node.is_none() {
            return Ok(false);
        }
        let place = self.dice.below(self.clients.users.len());
        let user = self.clients.users[place].clone();
        let has_key = self.profile.keys > 0 && self.dice.percent(60);
        let key = if has_key { Some(self.dice.below(self.profile.keys)) } else { None };
        let name = match self.dice.below(20) {
            0 => UNTRADED,
            n => SYMBOLS[n % SYMBOLS.len()],
        };
        let Ok(symbol) = Symbol::new(name) else { return Ok(false) };
        let (is_limit, is_buy, is_day) =
            (self.dice.percent(70), self.dice.percent(50), self.dice.percent(50));
        let limit_price = if is_limit { Some(self.price()) } else { None };
        let order_id = self.order_id(&user);
        let request = CreateOrder {
            order_id,
            client_order_id: key.and_then(|key| ClientOrderId::new(&format!("key-{key}")).ok()),
            symbol,
            side: if is_buy { Side::Buy } else { Side::Sell },
            limit_price,
            time_in_force: if is_day { TimeInForce::Day } else { TimeInForce::Gtc },
            num_shares: self.dice.between(1, 4),
            last_price: last_price(order_id),
            created_at: self.clock.ours().wall,
            user,
        };
        self.ask_for(request)
    }

    /// An order that the exchange accepts. `None` while the process is down, or where it may not have
    /// the cash.
    pub(super) fn create_without_key(&mut self) -> Checked<Option<OrderId>> {
        let (Some(user), Ok(symbol)) = (self.clients.users.first(), Symbol::new(SYMBOLS[0])) else {
            return Ok(None);
        };
        if self.profile.engine.accounts.mode == AccountMode::Cash {
            return Ok(None);
        }
        let user = user.clone();
        let order_id = self.order_id(&user);
        let request = CreateOrder {
            order_id,
            client_order_id: None,
            symbol,
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: 1,
            last_price: None,
            created_at: self.clock.ours().wall,
            user,
        };
        Ok(self.ask_for(request)?.then_some(order_id))
    }

    /// Repeats a key, usually with the same body.
    pub(super) fn repeat(&mut self) -> Checked<bool> {
        let Some(first) = self.dice.pick(&self.clients.keyed).cloned() else { return Ok(false) };
        if self.node.is_none() {
            return Ok(false);
        }
        let mut request = CreateOrder {
            order_id: self.order_id(&first.user),
            created_at: self.clock.ours().wall,
            ..first
        };
        match self.dice.below(8) {
            0 => request.num_shares += 1,
            1 => request.limit_price = Some(self.price()),
            _ => {}
        }
        self.ask_for(request)
    }

    fn ask_for(&mut self, request: CreateOrder) -> Checked<bool> {
        let Some(node) = &self.node else { return Ok(false) };
        let (at, last) = (request.created_at, self.durable.last_created());
        ensure(at >= last, Invariant::TimeGoesOn, || {
            format!("{} is created at {at:?}, before it {last:?}", request.order_id)
        })?;
        let name = self.trace.name(request.order_id);
        let key = request.client_order_id.as_ref().map_or("-", |key| key.as_str());
        let (user, shares, symbol) = (&request.user, request.num_shares, request.symbol);
        let limit = request.limit_price.map_or(0, PriceCents::cents);
        say!(self.trace, "{user} asks for {name}: {shares} {symbol} at {limit}, key {key}");
        self.clients.create(&node.service, &node.index, request);
        Ok(true)
    }

    fn order_id(&mut self, user: &UserId) -> OrderId {
        let nanos = u128::from(self.clock.ours().wall.micros()) * 1_000;
        OrderId::new(nanos, self.dice.any(), user.partition())
    }

    pub(super) fn price(&mut self) -> PriceCents {
        let steps = i64::try_from(self.dice.below(2 * PRICE_STEPS + 1)).unwrap_or_default();
        PriceCents::new(LOWEST_PRICE_CENTS + steps).expect("a price within bounds")
    }

    pub(super) fn cancel(&mut self) -> bool {
        let (Some(node), Some((owner, order_id))) =
            (&self.node, self.dice.pick(&self.clients.orders).cloned())
        else {
            return false;
        };
        let stranger = self.clients.users.first().filter(|_| self.dice.percent(5)).cloned();
        let user = stranger.unwrap_or(owner);
        let name = self.trace.name(order_id);
        say!(self.trace, "{user} asks to cancel {name}");
        self.clients.cancel(&node.service, &node.index, (user, order_id));
        true
    }

    pub(super) fn list(&mut self) -> bool {
        let (Some(node), Some(user)) = (&self.node, self.dice.pick(&self.clients.users).cloned())
        else {
            return false;
        };
        let limit = [1, 3, 500][self.dice.below(3)];
        say!(self.trace, "{user} asks for all orders, {limit} on a page");
        self.clients.list(&node.service, &node.index, (user, limit), &self.readers);
        true
    }

    pub(super) fn read_stream(&mut self) -> Checked<bool> {
        let place = self.dice.below(self.streams.count());
        let limit = [1, 2, 100][self.dice.below(3)];
        self.read_stream_at(place, limit)
    }

    pub(super) fn read_stream_at(&mut self, place: usize, limit: usize) -> Checked<bool> {
        let Some(node) = &self.node else { return Ok(false) };
        let Some(words) = self.streams.read((place, limit), node, &self.durable)? else {
            return Ok(false);
        };
        say!(self.trace, "stream {place} asks for {limit} changes: {words}");
        self.trace.count(words);
        self.observe()?;
        Ok(true)
    }

    pub(super) fn cut_stream(&mut self) -> bool {
        let place = self.dice.below(self.streams.count());
        let Some(node) = &self.node else { return false };
        let is_cut = self.streams.cut(place, &node.order_watch);
        if is_cut {
            say!(self.trace, "stream {place} is cut off");
        }
        is_cut
    }

    pub(super) fn hang_up(&mut self) -> bool {
        let Some(place) = self.dice.place(self.clients.waiting_count()) else { return false };
        say!(self.trace, "a user goes away");
        self.clients.hang_up(place);
        true
    }
}

/// The price that a handler would have found for the collar of a market buy, mostly. No draw of its
/// own: the id is random.
fn last_price(order_id: OrderId) -> Option<PriceCents> {
    let is_fresh = order_id.as_u128() >> 6 & 7 != 0;
    PriceCents::new(LOWEST_PRICE_CENTS).ok().filter(|_| is_fresh)
}

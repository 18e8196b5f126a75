//! Actions of users, operators, network and exchange.

use std::sync::Arc;

use super::exchange::SYMBOLS;
use super::garble;
use super::invariant::{Checked, Invariant, ensure};
use super::network::{Request, Response};
use super::published::PublishedLine;
use super::sessions::{Outgoing, SESSIONS};
use super::trace::say;
use super::world::World;
use crate::exchange::wire::{FeedLine, FeedLineType, QueryExecution};
use crate::oms::{CancelScope, CreateOrder, Halts};
use crate::order::Status;
use crate::types::{ClientOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce, UserId};

/// Few prices, so that some limits are reached and some are not.
const LOWEST_PRICE_CENTS: i64 = 9_990;
const PRICE_STEPS: usize = 10;
/// The newest lines, which the exchange may still post.
const NEWEST_LINES: usize = 12;
/// A symbol that the exchange does not trade.
const UNTRADED: &str = "NONE";

/// Users.
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
        let request = CreateOrder {
            order_id: self.order_id(&user),
            client_order_id: key.and_then(|key| ClientOrderId::new(&format!("key-{key}")).ok()),
            symbol,
            side: if is_buy { Side::Buy } else { Side::Sell },
            limit_price,
            time_in_force: if is_day { TimeInForce::Day } else { TimeInForce::Gtc },
            num_shares: self.dice.between(1, 4),
            created_at: self.clock.ours().wall,
            user,
        };
        self.ask_for(request)
    }

    /// An order that the exchange accepts. `None` while the process is down.
    pub(super) fn create_without_key(&mut self) -> Checked<Option<OrderId>> {
        let (Some(user), Ok(symbol)) = (self.clients.users.first(), Symbol::new(SYMBOLS[0])) else {
            return Ok(None);
        };
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

    fn price(&mut self) -> PriceCents {
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

/// Operators, and the exchange that posts to us.
impl World<'_> {
    fn some_user(&mut self) -> Option<UserId> {
        self.dice.pick(&self.clients.users).cloned()
    }

    fn some_symbol(&mut self) -> Option<Symbol> {
        Symbol::new(self.dice.pick(&SYMBOLS)?).ok()
    }

    pub(super) fn mass_cancel(&mut self) -> bool {
        let scope = CancelScope {
            user: if self.dice.percent(50) { self.some_user() } else { None },
            symbol: if self.dice.percent(50) { self.some_symbol() } else { None },
        };
        let Some(node) = &self.node else { return false };
        say!(self.trace, "an operator cancels {scope:?}");
        self.others.cancel_all(node.commands(), scope, &self.durable);
        true
    }

    /// Sets a halt, or more often none: otherwise little would happen.
    pub(super) fn halt(&mut self) -> bool {
        let halts = match self.dice.below(5) {
            0 => Halts { all: true, ..Halts::default() },
            1 => Halts { users: self.some_user().into_iter().collect(), ..Halts::default() },
            2 => Halts { symbols: self.some_symbol().into_iter().collect(), ..Halts::default() },
            _ => Halts::default(),
        };
        let (all, users, symbols) = (halts.all, &halts.users, &halts.symbols);
        say!(self.trace, "an operator halts all: {all}, {users:?}, {symbols:?}");
        self.machine.kill_switch.put_in_force(Arc::new(halts));
        true
    }

    /// The exchange posts some of its newest lines, in any order.
    pub(super) fn post_lines(&mut self) -> bool {
        let newest = self.exchange.feed().lines().iter().rev().take(NEWEST_LINES);
        let newest: Vec<PublishedLine> = newest
            .filter(|published| published.line.order_id.is_some())
            // Incomplete lines come only by the feed.
            .filter(|PublishedLine { line, .. }| {
                line.symbol.is_some() || line.line_type != FeedLineType::Trade
            })
            .cloned()
            .collect();
        let (Some(node), false) = (&self.node, newest.is_empty()) else { return false };
        let count = self.dice.below(4) + 1;
        let posted: Vec<PublishedLine> =
            (0..count).filter_map(|_| self.dice.pick(&newest).cloned()).collect();
        let lines: Vec<FeedLine> = posted.iter().map(|posted| posted.line.clone()).collect();
        let sequences: Vec<u64> = lines.iter().map(|line| line.sequence).collect();
        say!(self.trace, "the exchange posts lines {sequences:?}");
        let chance = if self.is_calm { 0 } else { self.profile.garbled };
        let session = self.exchange.feed().session();
        let (read, honest) = garble::posted(&session, &lines, (chance, &mut self.dice));
        for unreadable in &read.lines.unreadable {
            say!(self.trace, "  one of them as {:?}", unreadable.text);
            self.trace.count("posted lines that cannot be read");
        }
        // Readable lines are confirmed, whatever is beside them.
        let honest = honest.into_iter().map(|place| posted[place].clone()).collect();
        self.others.post(node.commands(), honest, read);
        true
    }
}

/// The network.
impl World<'_> {
    pub(super) fn send(&mut self, session: usize) -> Checked<bool> {
        let now = self.clock.ours();
        let Some(node) = &mut self.node else { return Ok(false) };
        let Some(outgoing) = node.sessions.take_request(session, now) else { return Ok(false) };
        self.check_outgoing(&outgoing)?;
        let Some(node) = &mut self.node else { return Ok(false) };
        if !self.is_calm && self.dice.percent(self.profile.refused_connections) {
            say!(self.trace, "session {session} finds nobody there");
            node.sessions.fail_to_send(outgoing, now);
        } else {
            node.sessions.send(outgoing, &mut self.network, self.clock.micros())?;
        }
        Ok(true)
    }

    /// Everything that leaves must be durable.
    fn check_outgoing(&mut self, outgoing: &Outgoing) -> Checked {
        match outgoing.request() {
            Request::Submit(request) => {
                for order in &request.orders {
                    let order_id = order.client_order_id.parse().ok();
                    let is_recorded = order_id.is_some_and(|id| self.durable.order(id).is_some());
                    ensure(is_recorded, Invariant::RecordFirst, || format!("{order:?} is sent"))?;
                }
                say!(self.trace, "{} orders are sent", request.orders.len());
                self.trace.count_many("orders sent", request.orders.len() as u64);
                if self.machine.postgres.is_away() {
                    let sent = request.orders.len() as u64;
                    self.trace.count_many("orders sent while Postgres is away", sent);
                }
            }
            Request::Cancel(request) => {
                for id in &request.external_order_ids {
                    let mut owners = self.exchange.owners(id).iter();
                    let is_recorded = owners.any(|order| self.durable.cancel_was_wanted(*order));
                    let what = || format!("a cancel of {id} is sent");
                    ensure(is_recorded, Invariant::RecordFirst, what)?;
                }
                say!(self.trace, "{} cancels are sent", request.external_order_ids.len());
                self.trace.count_many("cancels sent", request.external_order_ids.len() as u64);
            }
            Request::Query(request) => {
                let orders = request.client_order_ids.iter().filter_map(|id| id.parse().ok());
                let names: Vec<String> =
                    orders.map(|id: OrderId| self.trace.name(id).to_string()).collect();
                say!(self.trace, "{} queries are sent: {names:?}", names.len());
                self.trace.count_many("queries sent", request.client_order_ids.len() as u64);
            }
        }
        Ok(())
    }

    /// A request arrives at the exchange, in any order, or is lost.
    pub(super) fn arrive(&mut self) -> Checked<bool> {
        let held = if self.is_calm { 0 } else { self.profile.held_submits };
        let arrived = self.network.take_request(held, &mut self.dice);
        let Some((flight, request)) = arrived else { return Ok(false) };
        if !self.is_calm && self.dice.percent(self.profile.lost_requests) {
            say!(self.trace, "a request to the exchange is lost");
            return Ok(true);
        }
        if !self.is_calm && self.dice.percent(self.profile.throttled_requests) {
            say!(self.trace, "the exchange takes no more requests for now");
            self.trace.count("requests refused for now");
            let named = self.dice.percent(50).then(|| self.dice.below(1_000) as u64);
            let retry_after = named.map(std::time::Duration::from_millis);
            self.network.respond(flight, Response::TooMany { retry_after })?;
            return Ok(true);
        }
        let now = self.clock.exchange();
        let mut response = match &request {
            Request::Submit(request) => {
                let is_quiet = self.is_quiet_about_ids();
                let durable = &self.durable;
                let has_ended = |order_id| {
                    let ended = durable.order(order_id).filter(|order| {
                        is_quiet && matches!(order.status, Status::Filled | Status::Cancelled)
                    });
                    let id = ended.and_then(|order| order.external_order_id.as_ref());
                    id.is_some_and(|id| !durable.has_held(id))
                };
                let response = self.exchange.submit(request, now, &has_ended)?;
                for result in &response.results {
                    let Ok(order_id) = result.client_order_id.parse() else { continue };
                    let name = self.trace.name(order_id);
                    let id = result.external_order_id.as_ref().map_or("", |id| id.as_str());
                    let error = result.error.as_ref().map_or(id, |error| &error.code);
                    say!(self.trace, "the exchange takes {name}: {error}");
                }
                Response::Submit(response)
            }
            Request::Cancel(request) => {
                let chance = if self.is_calm { 0 } else { self.profile.declined_cancels };
                let dice = &mut self.dice;
                let is_wanted = |order_id| self.durable.cancel_was_wanted(order_id);
                let mut declines = || dice.percent(chance);
                let response = self.exchange.cancel(request, now, &mut declines, &is_wanted);
                for result in &response.results {
                    let error = result.error.as_ref().map_or("done", |error| &error.code);
                    say!(self.trace, "the exchange cancels {}: {error}", result.external_order_id);
                }
                Response::Cancel(response)
            }
            Request::Query(request) => {
                let dice = (!self.is_calm).then_some(&mut self.dice);
                let response = self.exchange.query(request, self.clock.micros(), dice)?;
                say!(self.trace, "the exchange answers {} queries", response.results.len());
                Response::Query(response)
            }
        };
        self.check_accepted(&request)?;
        if !self.is_calm {
            if self.dice.percent(self.profile.mangled_answers) {
                say!(self.trace, "  its answer is mixed up");
                response.mangle(&mut self.dice);
            } else if self.dice.percent(self.profile.garbled)
                // Not both: the line that contradicts a false refusal must be readable.
                && let Some(body) = garble::answer(&response, &mut self.dice)
            {
                say!(self.trace, "  its answer is {}", String::from_utf8_lossy(&body));
                self.trace.count("answers with an element that cannot be read");
                response = Response::Body(body);
                if let Request::Query(request) = &request {
                    self.exchange.garbles_records(request)?;
                }
            }
            if self.dice.percent(self.profile.lost_answers) {
                say!(self.trace, "  its answer cannot be read");
                response = Response::Unreadable;
            }
        }
        self.network.respond(flight, response)?;
        Ok(true)
    }

    /// An order that a reader saw fail is not accepted afterwards.
    fn check_accepted(&self, request: &Request) -> Checked {
        let Request::Submit(request) = request else { return Ok(()) };
        for order in &request.orders {
            let Ok(order_id) = order.client_order_id.parse() else { continue };
            let seen = self.readers.seen(order_id);
            let is_failed = seen.is_some_and(|seen| seen.status == Status::Failed);
            ensure(
                !(is_failed && self.exchange.is_accepted(order_id))
                    || self.exchange.may_report_unknown(),
                Invariant::FailedForGood,
                || format!("{seen:?} is accepted now"),
            )?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self) -> bool {
        let Some(place) = self.dice.place(self.network.responses.len()) else { return false };
        let (flight, response) = self.network.responses.swap_remove(place);
        let Some(node) = &mut self.node else { return true };
        if !self.is_calm && self.dice.percent(self.profile.lost_answers / 2) {
            say!(self.trace, "an answer of the exchange is lost");
            return true;
        }
        let is_waited_for = node.sessions.receive(flight, response, self.clock.ours());
        say!(self.trace, "an answer of the exchange arrives, somebody waits: {is_waited_for}");
        true
    }

    pub(super) fn cut(&mut self) -> bool {
        let (session, now) = (self.dice.below(SESSIONS), self.clock.ours());
        let is_cut = self.node.as_mut().is_some_and(|node| node.sessions.cut(session, now));
        if is_cut {
            say!(self.trace, "the connection of session {session} breaks");
            self.trace.count("cut connections");
        }
        is_cut
    }
}

/// The exchange.
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

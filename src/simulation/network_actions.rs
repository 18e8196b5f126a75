//! Actions of the network.

use super::garble;
use super::invariant::{Checked, Invariant, ensure};
use super::network::{Request, Response};
use super::sessions::{Outgoing, SESSIONS};
use super::trace::say;
use super::world::World;
use crate::order::Status;
use crate::types::OrderId;

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

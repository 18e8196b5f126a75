//! Actions of users, and the answers to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::Machine;
use super::users::{KeyChecked, Reply, Waiting};
use super::world::World;
use crate::cluster::Route;
use crate::engine::{CancelReply, CreateReply};
use crate::oms::CreateOrder;
use crate::order::Order;
use crate::simulation::exchange::SYMBOLS;
use crate::simulation::invariant::{Checked, Invariant, broken, ensure};
use crate::simulation::trace::say;
use crate::types::{
    ClientOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce, TimestampMicros, UserId,
    UserPartition,
};
use crate::wal::Lsn;

/// Few prices, so that some limits are reached and some are not.
const LOWEST_PRICE_CENTS: i64 = 9_990;
const PRICE_STEPS: usize = 10;

impl World<'_> {
    /// The machine that answers a request about a user which is sent to any of them.
    fn machine_for(&mut self, partition: UserPartition) -> Option<usize> {
        let asked = self.dice.below(self.machines.len());
        let answering = match self.route_at(asked, partition)? {
            Route::Here => asked,
            Route::Peer(peer) => {
                let is_it = |machine: &Machine| machine.node_id == peer.node_id;
                self.machines.iter().position(is_it)?
            }
            Route::Nowhere => return None,
        };
        // Passed on once.
        (self.route_at(answering, partition)? == Route::Here).then_some(answering)
    }

    /// Where a machine thinks that the users of a partition are; `None` if it does not answer.
    fn route_at(&self, place: usize, partition: UserPartition) -> Option<Route> {
        let machine = &self.machines[place];
        let process = machine.process.as_ref().filter(|_| machine.frozen_until <= self.micros)?;
        let now = machine.clock.moment(self.micros).monotonic;
        Some(process.shared.map.route_at(partition, || now))
    }

    /// A user does something.
    pub(super) fn act_as_user(&mut self) -> Checked {
        match self.dice.below(10) {
            0..=2 => self.create(),
            3 => self.repeat(),
            4..=5 => self.cancel(),
            _ => self.send_checked(),
        }
    }

    fn create(&mut self) -> Checked {
        let place = self.dice.below(self.users.names.len());
        let user = self.users.names[place].clone();
        let key = (self.profile.keys > 0 && self.dice.percent(60))
            .then(|| self.dice.below(self.profile.keys));
        let name = match self.dice.below(20) {
            0 => "NONE",
            number => SYMBOLS[number % SYMBOLS.len()],
        };
        let Ok(symbol) = Symbol::new(name) else { return Ok(()) };
        let limit_price = if self.dice.percent(70) { Some(self.price()) } else { None };
        let request = CreateOrder {
            order_id: OrderId::new(0, 0, user.partition()),
            client_order_id: key.and_then(|key| ClientOrderId::new(&format!("key-{key}")).ok()),
            symbol,
            side: if self.dice.percent(50) { Side::Buy } else { Side::Sell },
            limit_price,
            time_in_force: TimeInForce::Day,
            num_shares: self.dice.between(1, 4),
            last_price: None,
            created_at: TimestampMicros::default(),
            user,
        };
        self.ask_for(request)
    }

    pub(super) fn price(&mut self) -> PriceCents {
        let steps = i64::try_from(self.dice.below(2 * PRICE_STEPS + 1)).unwrap_or_default();
        PriceCents::new(LOWEST_PRICE_CENTS + steps).expect("a price within bounds")
    }

    fn repeat(&mut self) -> Checked {
        let Some(request) = self.dice.pick(&self.users.keyed).cloned() else { return Ok(()) };
        self.ask_for(request)
    }

    /// Sends a request to some node, which looks its key up in Postgres first.
    fn ask_for(&mut self, request: CreateOrder) -> Checked {
        let partition = request.user.partition();
        let Some(place) = self.machine_for(partition) else {
            self.trace.count("requests that no node takes");
            return Ok(());
        };
        let now = self.machines[place].clock.moment(self.micros).wall;
        let order_id = OrderId::new(u128::from(now.micros()) * 1_000, self.dice.any(), partition);
        let request = CreateOrder { order_id, created_at: now, ..request };
        let name = self.trace.name(order_id);
        say!(self.trace, "{} asks machine {place} for {name}", request.user);
        self.users.orders.push((request.user.clone(), order_id));
        let has_postgres = self.has_postgres(place);
        let Some(process) = &self.machines[place].process else { return Ok(()) };
        let epoch = process.shared.epoch;
        let Some(key) = &request.client_order_id else {
            self.users.checked.push(KeyChecked { epoch, request, checked_at: Lsn(0) });
            return Ok(());
        };
        let tables = &self.postgres.tables;
        if !has_postgres || tables.log_of(partition) != Some(process.shared.log.log_id()) {
            return Ok(());
        }
        let checked_at = process.progress.slowest();
        let first = tables.by_key(&request.user, key).map(|first| Arc::clone(first.order()));
        self.users.keyed.push(request.clone());
        match first {
            Some(first) => {
                let name = (request.user.clone(), key.clone());
                self.check_key(name, first.order_id)
            }
            None => {
                self.users.checked.push(KeyChecked { epoch, request, checked_at });
                Ok(())
            }
        }
    }

    /// A key names one order for good.
    fn check_key(&mut self, name: (UserId, ClientOrderId), order_id: OrderId) -> Checked {
        let first = *self.users.keys.entry(name.clone()).or_insert(order_id);
        ensure(first == order_id, Invariant::OneKeyOneOrder, || {
            format!("{name:?} named {first}, now {order_id}")
        })
    }

    /// Sends requests whose keys were checked to the orders thread.
    pub(super) fn send_checked(&mut self) -> Checked {
        let Some(place) = self.dice.place(self.users.checked.len()) else { return Ok(()) };
        let epoch = self.users.checked[place].epoch;
        if self.process_of(epoch).is_none() {
            return Ok(());
        }
        let KeyChecked { request, checked_at, .. } = self.users.checked.remove(place);
        let seen = self.users.versions_of(&request.user);
        let Some(process) = self.process_of(epoch) else { return Ok(()) };
        let Ok(reply) = process.shared.commands.create(request.clone(), checked_at) else {
            self.users.refused.insert(request.order_id);
            return Ok(());
        };
        let user = request.user.clone();
        self.users.waiting.push(Waiting {
            epoch,
            user,
            reply: Reply::Create(request, reply),
            seen,
        });
        Ok(())
    }

    fn cancel(&mut self) -> Checked {
        let Some((user, order_id)) = self.dice.pick(&self.users.orders).cloned() else {
            return Ok(());
        };
        let Some(place) = self.machine_for(user.partition()) else { return Ok(()) };
        let seen = self.users.versions_of(&user);
        let Some(process) = &self.machines[place].process else { return Ok(()) };
        let epoch = process.shared.epoch;
        let Ok(reply) = process.shared.commands.cancel(user.clone(), order_id) else {
            return Ok(());
        };
        let name = self.trace.name(order_id);
        say!(self.trace, "{user} asks machine {place} to cancel {name}");
        self.users.waiting.push(Waiting { epoch, user, reply: Reply::Cancel(reply), seen });
        Ok(())
    }

    /// Takes the answers that have come.
    pub(super) fn take_answers(&mut self) -> Checked {
        let mut place = 0;
        while let Some(waiting) = self.users.waiting.get(place) {
            let (epoch, has_come) = match &waiting.reply {
                Reply::Create(_, reply) => (waiting.epoch, reply.has_message()),
                Reply::Cancel(reply) => (waiting.epoch, reply.has_message()),
            };
            let answers = self.process_of(epoch).is_some();
            if !has_come || !answers {
                place += 1;
                continue;
            }
            let Waiting { user, reply, seen, .. } = self.users.waiting.remove(place);
            let order = match reply {
                Reply::Create(request, reply) => match reply.try_recv() {
                    Ok(reply) => self.created(&request, reply)?,
                    Err(_gone) => None,
                },
                Reply::Cancel(reply) => reply.try_recv().ok().and_then(|reply| match reply {
                    CancelReply::Cancelled(order)
                    | CancelReply::Pending(order)
                    | CancelReply::Conflict(order) => Some(order),
                    CancelReply::NotFound
                    | CancelReply::NoRoom
                    | CancelReply::OutcomeUnknown
                    | CancelReply::Unavailable => None,
                }),
            };
            if let Some(order) = order {
                self.told(&user, &order, &seen)?;
            }
        }
        Ok(())
    }

    fn created(
        &mut self,
        request: &CreateOrder,
        reply: CreateReply,
    ) -> Checked<Option<Arc<Order>>> {
        let (words, order) = match reply {
            CreateReply::Accepted(order) => ("orders accepted", order),
            CreateReply::Rejected(order) => ("orders rejected", order),
            CreateReply::Pending(order) => ("orders pending", order),
            CreateReply::Duplicate(order) => ("orders repeated", order),
            CreateReply::Conflict(order) => ("conflicts", order),
            CreateReply::OutcomeUnknown => {
                self.trace.count("outcomes unknown");
                return Ok(None);
            }
            CreateReply::Unavailable
            | CreateReply::KeyUnsure
            | CreateReply::NoRoom
            | CreateReply::Halted(_)
            | CreateReply::ExchangeAway
            | CreateReply::ExchangeBusy
            | CreateReply::Unfunded(_)
            | CreateReply::PriceUnavailable => {
                self.trace.count("orders refused");
                self.users.refused.insert(request.order_id);
                return Ok(None);
            }
        };
        self.trace.count(words);
        if let Some(key) = &request.client_order_id {
            self.check_key((request.user.clone(), key.clone()), order.order_id)?;
        }
        Ok(Some(order))
    }

    /// A user is told of an order: it is in Postgres, and no older than what was read before the request.
    fn told(
        &mut self,
        user: &UserId,
        order: &Arc<Order>,
        seen: &BTreeMap<OrderId, u64>,
    ) -> Checked {
        ensure(order.user == *user, Invariant::UsersIndependent, || {
            format!("{user} is answered {order:?}")
        })?;
        self.check_in_postgres(order)?;
        let before = seen.get(&order.order_id).copied().unwrap_or_default();
        ensure(order.version >= before, Invariant::VersionNeverBack, || {
            format!("version {before} was shown before, the answer is {order:?}")
        })?;
        let known = self.users.seen.get(&order.order_id).map_or(0, |known| known.version);
        if order.version > known {
            self.users.see(order)?;
        }
        Ok(())
    }

    pub(super) fn check_in_postgres(&self, order: &Order) -> Checked {
        let there = self.postgres.tables.order(order.order_id);
        let version = there.map_or(0, |there| there.order().version);
        ensure(version >= order.version, Invariant::SeenIsInPostgres, || {
            format!("{order:?} is shown, Postgres has version {version}")
        })
    }

    /// A user reads an order that memory lacks.
    pub(super) fn check_forgotten(&self, seen: &Order) -> Checked {
        match self.postgres.tables.order(seen.order_id) {
            Some(there) if there.order().version >= seen.version => Ok(()),
            there => {
                let detail = format!("{seen:?} was shown, and is now {there:?}");
                Err(broken(Invariant::SeenSurvives, detail))
            }
        }
    }
}

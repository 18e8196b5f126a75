//! What must hold at every step.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::machine::Machine;
use super::tables::Transaction;
use super::world::World;
use crate::order::{Order, TrackedOrder};
use crate::simulation::invariant::{Checked, Invariant, ensure};
use crate::simulation::network::Request;
use crate::simulation::sessions::Outgoing;
use crate::types::{ExecutionId, OrderId, Shares, UserPartition};

impl World<'_> {
    /// Everybody reads everything of every node.
    pub(super) fn read_all(&mut self) -> Checked {
        self.check_one_server()?;
        for place in 0..self.machines.len() {
            let machine = &self.machines[place];
            if machine.frozen_until > self.micros {
                continue;
            }
            let Some(process) = &machine.process else { continue };
            let now = machine.clock.moment(self.micros);
            let mut read: Vec<Arc<Order>> = Vec::new();
            let mut served = BTreeSet::new();
            let views = process.shared.commands.views();
            for user in &self.users.names {
                if !process.serves(user.partition(), now) {
                    continue;
                }
                served.insert(user.clone());
                if let Some(view) = views.user(user) {
                    read.extend(view.orders.values().cloned());
                }
            }
            let ours = Some(process.shared.log.log_id());
            let in_memory: BTreeSet<OrderId> = read.iter().map(|order| order.order_id).collect();
            for order in &read {
                self.check_in_postgres(order)?;
                self.users.see(order)?;
            }
            for seen in self.users.seen.values() {
                let is_asked = served.contains(&seen.user)
                    && !in_memory.contains(&seen.order_id)
                    && self.postgres.tables.log_of(seen.order_id.partition()) == ours;
                if is_asked {
                    self.check_forgotten(seen)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody serves users whom another node serves.
    fn check_one_server(&self) -> Checked {
        let partitions: BTreeSet<UserPartition> =
            self.users.names.iter().map(|user| user.partition()).collect();
        for partition in partitions {
            let serves = |machine: &&Machine| {
                let now = machine.clock.moment(self.micros);
                machine.process.as_ref().is_some_and(|process| process.serves(partition, now))
            };
            let serving: Vec<_> =
                self.machines.iter().filter(serves).map(|machine| machine.node_id).collect();
            ensure(serving.len() <= 1, Invariant::OneNodeServes, || {
                format!("nodes {serving:?} serve partition {}", partition.get())
            })?;
        }
        Ok(())
    }

    /// What leaves for the exchange is in Postgres.
    pub(super) fn check_outgoing(&mut self, outgoing: &Outgoing) -> Checked {
        match outgoing.request() {
            Request::Submit(request) => {
                for order in &request.orders {
                    let order_id = order.client_order_id.parse().ok();
                    let there = order_id.and_then(|id| self.postgres.tables.order(id));
                    ensure(there.is_some(), Invariant::RecordFirst, || {
                        format!("{order:?} is sent, and is not in Postgres")
                    })?;
                }
                self.trace.count_many("orders sent", request.orders.len() as u64);
            }
            Request::Cancel(request) => {
                for id in &request.external_order_ids {
                    let there = self.postgres.tables.by_external_id(id);
                    let is_wanted = there.is_some_and(|there| {
                        let order = there.order();
                        self.cancel_wanted.contains(&order.order_id) || order.status.is_terminal()
                    });
                    ensure(is_wanted, Invariant::RecordFirst, || {
                        format!("a cancel of {id} is sent, Postgres has {there:?}")
                    })?;
                }
                self.trace.count_many("cancels sent", request.external_order_ids.len() as u64);
            }
            Request::Query(request) => {
                self.trace.count_many("queries sent", request.client_order_ids.len() as u64);
            }
        }
        Ok(())
    }

    /// What a transaction is about to make of orders.
    pub(super) fn check_rows(&self, transaction: &Transaction) -> Checked {
        for tracked in &transaction.orders {
            let order = tracked.order();
            ensure(
                !self.users.refused.contains(&order.order_id),
                Invariant::RefusedIsUnrecorded,
                || format!("{order:?} was refused"),
            )?;
            if let Some(key) = &order.client_order_id {
                let first = self.postgres.tables.by_key(&order.user, key);
                let first = first.map_or(order.order_id, |first| first.order().order_id);
                ensure(first == order.order_id, Invariant::OneKeyOneOrder, || {
                    format!("{key} of {} names {first}, written is {order:?}", order.user)
                })?;
            }
            self.check_fills(tracked)?;
        }
        Ok(())
    }

    fn check_fills(&self, tracked: &TrackedOrder) -> Checked {
        let order = tracked.order();
        let sum: Shares = counted(tracked).map(|(_, shares)| shares).sum();
        ensure(order.filled_shares == sum, Invariant::FilledIsSum, || {
            format!("{order:?} has executions of {sum}")
        })?;
        ensure(sum <= order.num_shares, Invariant::FilledWithinSize, || format!("{order:?}"))?;
        for (id, shares) in counted(tracked) {
            let real = self.exchange.execution(order.order_id, id).map(|(shares, _)| shares);
            ensure(real == Some(shares), Invariant::CountedIsReal, || {
                format!("{id} of {order:?} counts {shares}, the exchange executed {real:?}")
            })?;
        }
        Ok(())
    }
}

/// The executions of an order that count.
pub(super) fn counted(tracked: &TrackedOrder) -> impl Iterator<Item = (&ExecutionId, Shares)> {
    let executions = tracked.executions().iter();
    executions.filter_map(|(id, execution)| execution.counted().map(|(shares, _)| (id, shares)))
}

//! The end of each seed: the faults stop, time passes, and all sides must agree.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::counted;
use super::world::World;
use crate::simulation::invariant::{Checked, Invariant, ensure};
use crate::simulation::quiesce::agrees;
use crate::simulation::trace::say;
use crate::types::{ExecutionId, Shares, USER_PARTITIONS, UserPartition};

/// The length of a round, in microseconds.
const ROUND_MICROS: u64 = 40_000;
/// Rounds at least: longer than the exchange may take to accept an order. And at most: longer than the
/// first lease of a node that was killed, the moves after it, and the looks by which an order that the
/// exchange does not know is called failed.
const LEAST_ROUNDS: usize = 120;
const MOST_ROUNDS: usize = 750;
/// Passes in a round.
const PASSES: usize = 3;

impl World<'_> {
    /// Stops the faults, and checks the state once everything is quiet.
    pub(super) fn rest(&mut self) -> Checked {
        say!(self.trace, "the faults stop");
        self.is_calm = true;
        self.postgres.away_until = 0;
        for machine in &mut self.machines {
            machine.frozen_until = 0;
            machine.without_postgres_until = 0;
            machine.without_redis_until = 0;
            machine.without_exchange_until = 0;
        }
        for round in 0..MOST_ROUNDS {
            self.round()?;
            self.pass_time(ROUND_MICROS);
            let is_quiet = round >= LEAST_ROUNDS && self.check_quiet().is_ok();
            if is_quiet && self.check_agreement().is_ok() {
                break;
            }
        }
        self.observe()?;
        self.check_quiet()?;
        self.check_agreement()
    }

    /// All nodes start, and share the users, before anything fails.
    pub(super) fn settle(&mut self) -> Checked {
        self.is_calm = true;
        for _ in 0..MOST_ROUNDS {
            self.round()?;
            self.pass_time(ROUND_MICROS);
            if self.check_quiet().is_ok() {
                break;
            }
        }
        self.is_calm = false;
        Ok(())
    }

    fn round(&mut self) -> Checked {
        for _ in 0..PASSES {
            for place in 0..self.machines.len() {
                self.turn(place)?;
            }
            while self.serve_postgres()? {}
            while self.arrive()? {}
            while self.answer() {}
            self.send_checked()?;
        }
        self.observe()
    }

    fn check_quiet(&self) -> Checked {
        let waiting = self.users.waiting_count();
        ensure(waiting == 0, Invariant::NobodyWaits, || format!("{waiting} requests wait"))?;
        let mut served: BTreeSet<UserPartition> = BTreeSet::new();
        let mut shares = Vec::new();
        for (place, machine) in self.machines.iter().enumerate() {
            let process = machine.process.as_ref();
            let is_quiet = process.is_some_and(super::process::Process::is_quiet);
            ensure(is_quiet, Invariant::NobodyWaits, || {
                let backlog = process.map(|process| process.driver.backlog());
                format!("machine {place} is busy: {backlog:?}")
            })?;
            let Some(process) = process else { continue };
            shares.push(process.mover.served().len());
            served.extend(process.mover.served());
        }
        let (least, most) = (shares.iter().min().copied(), shares.iter().max().copied());
        let is_even = most.unwrap_or(0) - least.unwrap_or(0) <= 1;
        let sum: usize = shares.iter().sum();
        let is_whole = sum == USER_PARTITIONS && served.len() == USER_PARTITIONS;
        ensure(is_even && is_whole, Invariant::EverybodyIsServed, || {
            format!("shares of {shares:?} partitions are served, {} in all", served.len())
        })
    }

    /// Postgres, what readers see, and the exchange's record are the same.
    fn check_agreement(&self) -> Checked {
        for (order_id, external) in self.exchange.accepted() {
            let there = self.postgres.tables.order(order_id).map(|there| there.order());
            let is_known =
                there.is_some_and(|order| order.external_order_id.as_ref() == Some(external));
            ensure(is_known, Invariant::BothSidesAgree, || {
                format!("the exchange has {order_id} as {external}, Postgres has {there:?}")
            })?;
        }
        for tracked in self.postgres.tables.orders() {
            let order = tracked.order();
            let record = self.exchange.record(order.order_id);
            ensure(agrees(order, record.status), Invariant::BothSidesAgree, || {
                format!("{order:?} is {record:?} at the exchange")
            })?;
            let ours: BTreeMap<&ExecutionId, Shares> = counted(tracked).collect();
            let executed = record.executions.iter();
            let theirs: BTreeMap<&ExecutionId, Shares> =
                executed.map(|known| (&known.execution_id, known.num_shares)).collect();
            ensure(ours == theirs, Invariant::CountedOnce, || {
                format!("{order:?} counts {ours:?}, the exchange {theirs:?}")
            })?;
            self.check_shown(order)?;
        }
        Ok(())
    }

    /// The node that serves a user shows the order as Postgres has it.
    fn check_shown(&self, order: &crate::order::Order) -> Checked {
        let partition = order.order_id.partition();
        let processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        let mut serving = processes.filter(|process| process.mover.served().contains(&partition));
        let view =
            serving.next().and_then(|process| process.shared.commands.views().user(&order.user));
        let shown = view.as_ref().and_then(|view| view.orders.get(&order.order_id));
        let is_same = match shown {
            Some(shown) => shown.version == order.version,
            None => !order.is_open(),
        };
        ensure(is_same, Invariant::NobodyWaits, || {
            format!("Postgres has {order:?}, readers see {shown:?}")
        })
    }
}

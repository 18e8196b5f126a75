//! The end of each seed: the faults stop, time passes, and both sides must agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::invariant::{Checked, Invariant, ensure};
use super::money::check_accounts;
use super::sessions::SESSIONS;
use super::trace::say;
use super::world::World;
use crate::exchange::wire::{ExchangeStatus, QueryExecution};
use crate::order::{CaseOutcome, OpenCase, OperatorAct, Order, Status};
use crate::types::{ExecutionId, OrderId, Shares};

/// Rounds until everything is quiet, and the length of each. Together longer than all deadlines,
/// graces and timeouts of a profile in sequence.
const ROUNDS: usize = 60;
const ROUND_MICROS: u64 = 40_000;
/// At least one of the last rounds must end with nothing to do.
const LAST_ROUNDS: usize = 8;
/// Rounds without an answer of the exchange: longer than any reply timeout.
const ROUNDS_WITHOUT_EXCHANGE: usize = 5;
/// Rounds until an order is at the exchange: one to record it, one to send it.
const ROUNDS_TO_EXCHANGE: usize = 2;
/// Rounds until the effects of one order are quiet.
const ROUNDS_AFTER_POSTGRES: usize = 15;
/// Rounds, and the time after each, until no deadline is pending that was sent two minutes ago.
const ROUNDS_FOR_OLD_DEADLINES: usize = 5;
const MICROS_FOR_OLD_DEADLINES: u64 = 30_000_000;
/// Actions of each kind in a round without the exchange.
const STEPS_WITHOUT_EXCHANGE: usize = 6;
/// Changes that a stream reads at a time.
const READ_AT_A_TIME: usize = 3;
/// Passes in a round: more than anything pending needs.
const STEPS_PER_ROUND: usize = 40;

impl World<'_> {
    /// Stops the faults, and checks the state once everything is quiet.
    pub(super) fn quiesce(&mut self) -> Checked {
        say!(self.trace, "the faults stop");
        self.is_calm = true;
        self.machine.disk.free_space();
        self.machine.disk.calm();
        self.machine.kill_switch.put_in_force(Arc::default());
        let is_stopping = self.node.as_ref().is_some_and(super::node::Node::is_stopping);
        for _ in 0..ROUNDS {
            if !is_stopping || self.node.is_none() {
                break;
            }
            self.round()?;
            self.pass_time(ROUND_MICROS);
        }
        // Everybody is answered whether or not Postgres is there.
        let is_away = self.dice.percent(50);
        self.set_postgres_away(is_away);
        self.answer_everybody()?;
        self.set_postgres_away(false);
        self.rounds(ROUNDS)?;
        self.outlast_clocks()?;
        self.check_failed_in_time()?;
        self.decide_cases()?;
        if self.profile.awaits_postgres {
            self.submit_without_postgres()?;
            self.rounds(ROUNDS_AFTER_POSTGRES)?;
        }
        // Something periodic may be in progress at any one moment, but not at all of them.
        for _ in 0..LAST_ROUNDS {
            self.round()?;
            if self.check_quiet().is_ok() {
                break;
            }
        }
        self.check_quiet()?;
        self.check_streams()?;
        self.check_agreement()?;
        self.check_memory()
    }

    fn rounds(&mut self, count: usize) -> Checked {
        for _ in 0..count {
            if self.node.is_none() {
                self.start()?;
            }
            self.round()?;
            self.pass_time(ROUND_MICROS);
        }
        Ok(())
    }

    /// If the exchange's clock was set, it may accept orders as long as deadlines told by the old
    /// clock are pending.
    fn outlast_clocks(&mut self) -> Checked {
        if !self.clock.was_exchange_set() {
            return Ok(());
        }
        for _ in 0..ROUNDS_FOR_OLD_DEADLINES {
            self.rounds(1)?;
            self.pass_time(MICROS_FOR_OLD_DEADLINES);
        }
        self.rounds(ROUNDS)
    }

    /// An order that the exchange never accepted has failed by now: the submit window, the
    /// tolerance, the grace, the span between two lookups and the longest pause of the exchange are
    /// over.
    fn check_failed_in_time(&self) -> Checked {
        for order in self.durable.orders() {
            let there = self.exchange.record(order.order_id).status;
            let is_open = there == ExchangeStatus::Unknown && order.status != Status::Failed;
            ensure(!is_open, Invariant::FailedInTime, || format!("{order:?}"))?;
        }
        Ok(())
    }

    /// An operator decides the remaining cases by the exchange's own record.
    fn decide_cases(&mut self) -> Checked {
        let open = self.durable.engines().open_cases();
        let cases: Vec<(OrderId, OpenCase)> =
            open.map(|(tracked, open)| (tracked.order().order_id, open.clone())).collect();
        for (order_id, open) in cases {
            let executed = self.exchange.counting(order_id);
            let is_real = open.case.execution.as_ref().is_some_and(|fill| {
                let is_it = |known: &QueryExecution| {
                    known.execution_id == fill.execution_id
                        && known.num_shares == fill.num_shares
                        && known.price_in_cents == fill.price
                };
                executed.iter().any(is_it)
            });
            let outcome = if is_real { CaseOutcome::Booked } else { CaseOutcome::Discarded };
            let act = OperatorAct { by: "operator".into(), reason: "the books say so".into() };
            let Some(node) = &self.node else { return Ok(()) };
            let asked = node.service.commands().decide_case((order_id, open.number), outcome, act);
            ensure(asked.is_ok(), Invariant::NobodyWaits, || "operators wait".to_owned())?;
            self.trace.count("cases decided by operators");
            self.rounds(1)?;
        }
        self.rounds(ROUNDS_AFTER_POSTGRES)
    }

    /// An order is sent to the exchange, and accepted, without Postgres.
    fn submit_without_postgres(&mut self) -> Checked {
        self.set_postgres_away(true);
        let Some(order_id) = self.create_without_key()? else { return Ok(()) };
        // Hands the request over.
        self.observe()?;
        for _ in 0..ROUNDS_TO_EXCHANGE {
            self.round()?;
        }
        let is_recorded = self.durable.order(order_id).is_some();
        let status = self.exchange.record(order_id).status;
        ensure(
            is_recorded && status != ExchangeStatus::Unknown,
            Invariant::ExchangeNotDelayed,
            || format!("{order_id} is recorded: {is_recorded}, at the exchange it is {status:?}"),
        )?;
        self.trace.count("orders taken by the exchange without Postgres");
        self.set_postgres_away(false);
        Ok(())
    }

    /// Users are answered in time, even while the exchange does not answer: those of orders that it
    /// has refused for now, by the deadline of their order.
    fn answer_everybody(&mut self) -> Checked {
        let to_deadline = self.profile.engine.submit_window_micros.div_ceil(ROUND_MICROS);
        let most = ROUNDS_WITHOUT_EXCHANGE + usize::try_from(to_deadline).unwrap_or(usize::MAX);
        for round in 0..most {
            if round >= ROUNDS_WITHOUT_EXCHANGE && self.clients.waiting_count() == 0 {
                break;
            }
            if self.node.is_none() {
                self.start()?;
            }
            for _ in 0..STEPS_WITHOUT_EXCHANGE {
                self.slice()?;
                self.prepare_log()?;
                self.write_log()?;
                self.follow_log()?;
                self.follow_postgres()?;
                while self.answer_reads()? {}
            }
            self.pass_time(ROUND_MICROS);
        }
        self.slice()?;
        self.write_log()?;
        self.follow_postgres()?;
        self.slice()?;
        let waiting = self.clients.waiting_count();
        ensure(waiting == 0, Invariant::AnsweredInTime, || format!("{waiting} users wait"))
    }

    fn round(&mut self) -> Checked {
        for _ in 0..STEPS_PER_ROUND {
            let mut has_worked = false;
            for session in 0..SESSIONS {
                has_worked |= self.send(session)?;
            }
            while self.arrive()? {
                has_worked = true;
            }
            while self.answer() {
                has_worked = true;
            }
            has_worked |= self.feed_lines();
            has_worked |= self.find()?;
            has_worked |= self.answer_reads()?;
            self.slice()?;
            has_worked |= self.prepare_log()?;
            has_worked |= self.write_log()?;
            has_worked |= self.follow_postgres()?;
            has_worked |= self.follow_log()?;
            if !has_worked {
                break;
            }
            self.pass_time(10);
        }
        self.feed_beat();
        self.probe();
        self.persist_index()?;
        self.slice()?;
        Ok(())
    }

    fn check_quiet(&self) -> Checked {
        let waiting = self.clients.waiting_count() + self.others.waiting_count();
        ensure(waiting == 0, Invariant::NobodyWaits, || format!("{waiting} requests wait"))?;
        let Some(node) = &self.node else { return Ok(()) };
        ensure(node.driver().is_at_rest(), Invariant::NobodyWaits, || {
            format!("events, effects and replies that wait: {:?}", node.driver().backlog())
        })?;
        ensure(!node.waits_for_postgres(), Invariant::NobodyWaits, || {
            format!("effects that wait for Postgres: {:?}", node.driver().backlog())
        })?;
        ensure(node.has_nothing_to_send(), Invariant::NobodyWaits, || {
            "something waits to be sent or taken".to_owned()
        })?;
        ensure(!node.driver().engines.is_reconciling(), Invariant::NobodyWaits, || {
            "orders wait to be reconciled".to_owned()
        })?;
        ensure(node.feed.is_at_end(&self.exchange), Invariant::NobodyWaits, || {
            "lines of the feed wait to be taken".to_owned()
        })
    }

    /// Every stream reaches the end of the log.
    fn check_streams(&mut self) -> Checked {
        for place in 0..self.streams.count() {
            while self.read_stream_at(place, READ_AT_A_TIME)? {
                while self.answer_reads()? {}
            }
        }
        self.streams.check_ends(&self.durable)
    }

    /// Our records and the exchange's are the same.
    fn check_agreement(&self) -> Checked {
        for (order_id, external) in self.exchange.accepted() {
            let order = self.durable.order(order_id);
            let is_known =
                order.is_some_and(|order| order.external_order_id.as_ref() == Some(external));
            ensure(is_known, Invariant::BothSidesAgree, || {
                format!("the exchange has {order_id} as {external}, here it is {order:?}")
            })?;
        }
        for order in self.durable.orders() {
            let record = self.exchange.record(order.order_id);
            // It was called failed while records lagged, then found and cancelled.
            let was_taken_back = self.exchange.may_report_unknown()
                && order.status == Status::Failed
                && order.external_order_id.is_some()
                && record.status != ExchangeStatus::Open;
            let is_same = agrees(order, record.status) || was_taken_back;
            ensure(is_same, Invariant::BothSidesAgree, || {
                format!("{order:?} is {record:?} at the exchange")
            })?;
            let counted: BTreeMap<&ExecutionId, Shares> =
                self.durable.counted(order.order_id).collect();
            let executed: BTreeMap<&ExecutionId, Shares> = record
                .executions
                .iter()
                .map(|known| (&known.execution_id, known.num_shares))
                .collect();
            ensure(counted == executed, Invariant::CountedOnce, || {
                format!("{order:?} counts {counted:?}, the exchange {executed:?}")
            })?;
            // An order that ended before orders could be read left memory unseen.
            let seen = self.readers.seen(order.order_id).cloned().or_else(|| self.stored(order));
            ensure(seen.as_ref() == Some(order), Invariant::NobodyWaits, || {
                format!("{order:?} is durable, readers see {seen:?}")
            })?;
        }
        Ok(())
    }

    /// An order in the store.
    fn stored(&self, order: &Order) -> Option<Arc<Order>> {
        let stored = self.node.as_ref()?.index.order(&order.user, order.order_id).ok()??;
        Some(Arc::clone(stored.order()))
    }

    /// Memory and store equal the log.
    fn check_memory(&self) -> Checked {
        let Some(node) = &self.node else { return Ok(()) };
        let (memory, log) = (&node.driver().engines, self.durable.engines());
        let position = node.index.position();
        ensure(position == node.driver().wal().committed(), Invariant::StoreFollows, || {
            format!("the store has the log up to {position}")
        })?;
        for order in self.durable.orders() {
            let order_id = order.order_id;
            let kept = memory.order(order_id);
            ensure(
                kept == Some(order) || (kept.is_none() && !order.is_open()),
                Invariant::MemoryIsTheLog,
                || format!("the log says {order:?}, memory {kept:?}"),
            )?;
            let stored = node.index.by_order_id(order_id);
            let is_same = matches!(&stored, Ok(Some(stored)) if stored.order() == order);
            ensure(is_same, Invariant::StoreFollows, || {
                format!("the log says {order:?}, the store {stored:?}")
            })?;
        }
        check_accounts(log, memory, &node.index)?;
        let overdrawn = log.accounts().filter(|(_, account)| account.is_overdrawn()).count();
        let counted = memory.overdrawn_accounts();
        ensure(counted == overdrawn, Invariant::OverdrawnIsCounted, || {
            format!("{overdrawn} accounts are overdrawn, {counted} are counted")
        })?;
        ensure(memory.open_orders() == log.open_orders(), Invariant::MemoryIsTheLog, || {
            format!("open orders: {} and {}", memory.open_orders(), log.open_orders())
        })?;
        let positions = (memory.feed_position(), log.feed_position());
        ensure(positions.0 == positions.1, Invariant::MemoryIsTheLog, || {
            format!("the feed positions of memory and log are {positions:?}")
        })?;
        let end = (&self.exchange.feed().session(), self.exchange.feed().last());
        ensure(positions.0 == Some(end), Invariant::NobodyWaits, || {
            format!("the feed position is {:?}, the feed ends at {end:?}", positions.0)
        })
    }
}

/// Whether our status corresponds to the exchange's.
pub(super) fn agrees(order: &Order, there: ExchangeStatus) -> bool {
    match there {
        ExchangeStatus::Unknown | ExchangeStatus::Rejected => order.status == Status::Failed,
        ExchangeStatus::Open if order.filled_shares == 0 => order.status == Status::Submitted,
        ExchangeStatus::Open => order.status == Status::PartiallyFilled,
        ExchangeStatus::Filled => order.status == Status::Filled,
        // A late fill may have executed the rest.
        ExchangeStatus::Cancelled | ExchangeStatus::Expired if order.shares_left() == 0 => {
            order.status == Status::Filled
        }
        ExchangeStatus::Cancelled | ExchangeStatus::Expired => order.status == Status::Cancelled,
    }
}

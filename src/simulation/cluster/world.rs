//! The world of several nodes. Takes one step after another, chosen by the dice.

use std::collections::BTreeSet;

use super::around::Around;
use super::clock::{MachineClock, wall_at};
use super::end::End;
use super::machine::Machine;
use super::postgres::{Answer, Link, Postgres, Question};
use super::process::Process;
use super::profile::Profile;
use super::redis::{Redis, RedisLink};
use super::users::Users;
use crate::cluster::{FIRST_MEMBER_LEASE, NodeId};
use crate::simulation::dice::Dice;
use crate::simulation::exchange::Exchange;
use crate::simulation::execution_ids::ExecutionIds;
use crate::simulation::invariant::Checked;
use crate::simulation::network::{Network, Request, Response};
use crate::simulation::records::RecordBehavior;
use crate::simulation::sessions::SESSIONS;
use crate::simulation::trace::{Trace, TraceListener, say};
use crate::types::OrderId;

/// Slices of the orders thread in one turn, while it has more to do.
const MOST_SLICES: usize = 24;
/// Lines or records in one turn.
const MOST_AT_ONCE: usize = 8;
/// How long a supervisor takes to start a process that has ended, in microseconds.
const LONGEST_RESTART_MICROS: u64 = 2_000_000;

pub(in crate::simulation) struct World<'a> {
    pub(in crate::simulation) trace: Trace<'a>,
    pub(super) dice: Dice,
    pub(super) profile: Profile,
    /// The true time in microseconds.
    pub(super) micros: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) postgres: Postgres,
    pub(super) redis: Redis,
    pub(super) network: Network,
    pub(super) exchange: Exchange,
    pub(super) users: Users,
    /// Orders whose cancel was to be sent to the exchange, as Postgres had them.
    pub(super) cancel_wanted: BTreeSet<OrderId>,
    /// The faults have stopped.
    pub(super) is_calm: bool,
}

impl<'a> World<'a> {
    pub(in crate::simulation) fn new(
        seed: u64,
        steps: Option<usize>,
        listener: Option<TraceListener<'a>>,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let profile = Profile::draw(&mut dice, steps);
        let records = RecordBehavior { shows_as_of: profile.shows_as_of, ..Default::default() };
        let ids = ExecutionIds::new(0, Dice::new(dice.any()));
        let tolerance = profile.engine.clock_tolerance_micros;
        let numbers = (1..).take(profile.nodes);
        let machines = numbers.map(|node_id: NodeId| {
            let clock = MachineClock::draw(&mut dice, tolerance);
            Machine::new(node_id, clock, dice.between(0, 1_000_000))
        });
        Self {
            trace: Trace::new(listener),
            machines: machines.collect(),
            dice,
            micros: 0,
            postgres: Postgres::new(),
            redis: Redis::new(),
            network: Network::default(),
            exchange: Exchange::new(records, false, ids),
            users: Users::new(profile.users),
            cancel_wanted: BTreeSet::new(),
            is_calm: false,
            profile,
        }
    }

    /// Runs the steps, then stops the faults and waits until everything is quiet.
    pub(in crate::simulation) fn run(&mut self) -> Checked {
        if self.dice.percent(70) {
            self.settle()?;
        }
        for _ in 0..self.profile.steps {
            self.step()?;
        }
        self.rest()
    }

    fn step(&mut self) -> Checked {
        let micros = self.dice.between(0, self.profile.pace_micros);
        self.pass_time(micros);
        if self.dice.percent(self.profile.faults_percent) {
            self.fail()?;
        }
        match self.dice.below(20) {
            0..=8 => {
                let place = self.dice.below(self.machines.len());
                self.turn(place)?;
            }
            9..=13 => {
                for _ in 0..self.dice.between(1, 4) {
                    self.serve_postgres()?;
                }
            }
            14..=16 => {
                for _ in 0..self.dice.between(1, 3) {
                    self.arrive()?;
                    self.answer();
                }
            }
            17..=18 => self.act_as_user()?,
            _ => self.trade(),
        }
        self.observe()
    }

    pub(super) fn observe(&mut self) -> Checked {
        for note in self.exchange.notes.drain(..) {
            say!(self.trace, "  {note}");
        }
        self.take_answers()?;
        self.read_all()
    }

    pub(super) fn pass_time(&mut self, micros: u64) {
        self.micros += micros;
    }

    pub(super) fn has_postgres(&self, place: usize) -> bool {
        self.postgres.away_until <= self.micros
            && self.machines[place].without_postgres_until <= self.micros
    }

    /// The process with this epoch, if it can do anything.
    pub(super) fn process_of(&self, epoch: i64) -> Option<&Process> {
        let awake = self.machines.iter().filter(|machine| machine.frozen_until <= self.micros);
        let mut processes = awake.filter_map(|machine| machine.process.as_ref());
        processes.find(|process| process.shared.epoch == epoch)
    }

    /// A machine works for a moment.
    pub(super) fn turn(&mut self, place: usize) -> Checked {
        let machine = &mut self.machines[place];
        if machine.frozen_until > self.micros {
            return Ok(());
        }
        let Some(mut process) = machine.process.take() else { return self.start(place) };
        let end = self.work(place, &mut process)?;
        self.machines[place].process = Some(process);
        let Some(end) = end else { return Ok(()) };
        say!(self.trace, "machine {place} ends: {end:?}");
        self.trace.count(match end {
            End::Fenced => "ends because others serve its users",
            End::Superseded => "ends because others write its users",
            End::Forgotten => "ends of forgotten nodes",
            End::Stopped => "stops after everything was handed over",
        });
        if end == End::Stopped && self.has_postgres(place) {
            self.give_back(place);
        }
        self.end_process(place);
        let pause = self.dice.between(10_000, LONGEST_RESTART_MICROS);
        self.machines[place].start_at = self.micros + pause;
        Ok(())
    }

    /// Nobody has to wait for the end of its lease.
    fn give_back(&mut self, place: usize) {
        let machine = &self.machines[place];
        if let Some(process) = &machine.process
            && process.mover.served().is_empty()
        {
            let (id, now) =
                ((machine.node_id, process.shared.epoch), self.postgres.now(self.micros));
            self.postgres.tables.renew(id, now, std::time::Duration::ZERO);
        }
    }

    pub(super) fn end_process(&mut self, place: usize) {
        if let Some(process) = self.machines[place].process.take() {
            self.users.cut(process.shared.epoch);
        }
    }

    fn start(&mut self, place: usize) -> Checked {
        if self.machines[place].start_at > self.micros || !self.has_postgres(place) {
            return Ok(());
        }
        let (machine, now) = (&mut self.machines[place], self.postgres.now(self.micros));
        let epoch = self.postgres.tables.join(machine.node_id, now, FIRST_MEMBER_LEASE);
        machine.clock.start_process(self.micros);
        let now = machine.clock.moment(self.micros);
        say!(self.trace, "machine {place} joins with epoch {epoch}");
        self.trace.count("nodes started");
        machine.process = Some(Process::start((machine.node_id, epoch), &self.profile, now)?);
        Ok(())
    }

    /// Some of the threads of a process take a step.
    fn work(&mut self, place: usize, process: &mut Process) -> Checked<Option<End>> {
        let machine = &self.machines[place];
        let now = machine.clock.moment(self.micros);
        let has_exchange = machine.without_exchange_until <= self.micros;
        let has_redis = machine.without_redis_until <= self.micros;
        let link = Link { server: self.postgres.server, cuts: machine.cuts };
        let has_postgres = self.has_postgres(place);
        let is_calm = self.is_calm;
        let limit = self.micros.saturating_sub(self.profile.request_timeout_micros);
        process.sessions.time_out(limit, now);
        let redis_link = RedisLink { run: self.redis.run, cuts: machine.redis_cuts };
        let most = if is_calm { MOST_AT_ONCE } else { 1 + self.dice.below(MOST_AT_ONCE) };
        let dice = &mut self.dice;
        let mut takes = || is_calm || dice.percent(60);
        let [renews, moves, projects, finds, reads] = [takes(), takes(), takes(), takes(), takes()];
        let [works, writes, sends, publishes] = [takes(), takes(), takes(), takes()];
        let fails = !is_calm && self.dice.percent(self.profile.redis_fails_percent);
        let redis_fails_after = if fails { self.dice.below(3) } else { usize::MAX };
        let mut around = Around {
            machine: place,
            now,
            postgres: &mut self.postgres,
            has_postgres,
            link,
            redis: &mut self.redis,
            has_redis,
            redis_link,
            redis_fails_after,
            exchange: &self.exchange,
            has_exchange,
            most,
        };
        let served = process.mover.served().len();
        let mut end = Ok(());
        if renews {
            end = end.and_then(|()| process.keep_lease(&mut around));
        }
        if moves {
            end = end.and_then(|()| process.move_partitions(&mut around));
        }
        if projects {
            end = end.and_then(|()| process.project(&mut around));
        }
        if finds {
            process.find(&around);
        }
        if reads {
            process.feed.step(&mut around);
        }
        if publishes {
            process.feed.publish(&mut around);
        }
        let now_served = process.mover.served().len();
        if now_served != served {
            say!(self.trace, "machine {place} serves {now_served} partitions");
            self.trace.count(if now_served > served { "take-overs" } else { "hand-overs" });
        }
        if end.is_err() {
            return Ok(end.err());
        }
        if works {
            let slices = if is_calm { MOST_SLICES } else { 1 + self.dice.below(MOST_SLICES) };
            for _ in 0..slices {
                if !process.slice(now)? {
                    break;
                }
            }
        }
        if writes {
            process.write_log()?;
        }
        if has_exchange && process.feed.leads(now.monotonic) {
            self.trace.count("turns of the holder of the feed");
        }
        if has_exchange {
            process.answer_probe();
        }
        if sends {
            self.send(process, has_exchange, place)?;
        }
        Ok(None)
    }

    fn send(&mut self, process: &mut Process, has_exchange: bool, place: usize) -> Checked {
        let now = self.machines[place].clock.moment(self.micros);
        for session in 0..SESSIONS {
            let Some(outgoing) = process.sessions.take_request(session, now) else { continue };
            self.check_outgoing(&outgoing)?;
            if has_exchange {
                process.sessions.send(outgoing, &mut self.network, self.micros)?;
            } else {
                process.sessions.fail_to_send(outgoing, now);
            }
        }
        Ok(())
    }

    /// Postgres does what somebody asks. False if nobody does, or it is away.
    pub(super) fn serve_postgres(&mut self) -> Checked<bool> {
        if self.postgres.away_until > self.micros {
            return Ok(false);
        }
        let Some((ticket, place, question)) = self.postgres.arrive(&mut self.dice) else {
            return Ok(false);
        };
        let answer = self.carry_out(question)?;
        if self.has_postgres(place) {
            self.postgres.answer((ticket, place), answer);
        }
        Ok(true)
    }

    /// Does what a statement says.
    pub(super) fn carry_out(&mut self, question: Question) -> Checked<Answer> {
        let now = self.postgres.now(self.micros);
        if let Question::Write(transaction) = question {
            let refused = self.postgres.tables.check(&transaction);
            if refused.is_ok() {
                self.check_rows(&transaction)?;
                self.trace.count("transactions");
                let wanted = transaction.orders.iter().map(|tracked| tracked.order());
                let wanted = wanted.filter(|order| order.wants_cancel());
                self.cancel_wanted.extend(wanted.map(|order| order.order_id));
                self.postgres.tables.commit(transaction);
            } else {
                say!(self.trace, "a transaction is refused: {refused:?}");
                self.trace.count("transactions refused");
            }
            return Ok(Answer::Written(refused));
        }
        let tables = &mut self.postgres.tables;
        Ok(match question {
            Question::Renew { id, lease } => Answer::Renewed(tables.renew(id, now, lease)),
            Question::Look => Answer::Seen(Box::new(tables.view(now))),
            Question::Claim { claimant, partitions } => {
                Answer::Claimed(tables.claim(claimant, &partitions, now))
            }
            Question::Adopt(partitions) => Answer::Adopted(tables.adopted(&partitions)),
            Question::Ended(partitions) => Answer::Ended(tables.ended(&partitions)),
            Question::HandOver { epoch, given } => {
                tables.hand_over(epoch, &given);
                Answer::Done
            }
            Question::Drain { epoch } => {
                tables.drain(epoch);
                Answer::Done
            }
            Question::TakeFeed { id, taking } => Answer::Feed(tables.take_feed(id, taking, now)),
            Question::Owned { epoch } => Answer::Owned(tables.owned(epoch)),
            Question::Write(_) => Answer::Done,
        })
    }

    /// A request arrives at the exchange, in any order, or is lost. False if there is none.
    pub(super) fn arrive(&mut self) -> Checked<bool> {
        let held = if self.is_calm { 0 } else { self.profile.held_percent };
        let lost = if self.is_calm { 0 } else { self.profile.lost_percent };
        let arrived = self.network.take_request(held, &mut self.dice);
        let Some((flight, request)) = arrived else { return Ok(false) };
        if self.dice.percent(lost) {
            return Ok(true);
        }
        let now = wall_at(self.micros);
        let response = match &request {
            Request::Submit(request) => {
                Response::Submit(self.exchange.submit(request, now, &|_: OrderId| false)?)
            }
            Request::Cancel(request) => {
                let response = self.exchange.cancel(request, now, &mut || false, &|_| true);
                Response::Cancel(response)
            }
            Request::Query(request) => {
                Response::Query(self.exchange.query(request, self.micros, None)?)
            }
        };
        if !self.dice.percent(lost) {
            self.network.respond(flight, response)?;
        }
        Ok(true)
    }

    /// An answer of the exchange arrives. False if there is none.
    pub(super) fn answer(&mut self) -> bool {
        let Some(place) = self.dice.place(self.network.responses.len()) else { return false };
        let (flight, response) = self.network.responses.swap_remove(place);
        for machine in &mut self.machines {
            let Some(process) = &mut machine.process else { continue };
            if !process.sessions.waits_for(flight) {
                continue;
            }
            if machine.frozen_until > self.micros {
                self.network.responses.push((flight, response));
                return false;
            }
            if machine.without_exchange_until <= self.micros {
                process.sessions.receive(flight, response, machine.clock.moment(self.micros));
            }
            return true;
        }
        true
    }

    /// The exchange trades, or ends an order that nobody asked to cancel.
    fn trade(&mut self) {
        let now = wall_at(self.micros);
        if self.dice.percent(5) {
            let accepted: Vec<OrderId> = self.exchange.accepted().map(|(id, _)| id).collect();
            if let Some(order_id) = self.dice.pick(&accepted) {
                let expired = self.dice.percent(50);
                self.exchange.end_unasked(*order_id, expired, now);
            }
            return;
        }
        let symbol = u16::from(self.dice.percent(50));
        let shares = u32::try_from(self.dice.between(1, 6)).unwrap_or(1);
        let price = self.price();
        self.exchange.print((symbol, price, shares), now);
    }
}

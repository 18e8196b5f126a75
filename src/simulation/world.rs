//! The world: users, the process with its disk and store, the network, the exchange with its feed,
//! and the clocks. Takes one step after another, chosen by the dice.

use std::path::PathBuf;

use super::action::Action;
use super::check_context::CheckContext;
use super::clients::Clients;
use super::clock::SimulatedClock;
use super::dice::Dice;
use super::durable::DurableLog;
use super::exchange::Exchange;
use super::execution_ids::ExecutionIds;
use super::invariant::{Checked, Invariant, broken, ensure};
use super::network::Network;
use super::node::{Machine, Node, SliceEnd};
use super::others::Others;
use super::postgres::Postgres;
use super::profile::Profile;
use super::readers::Readers;
use super::sessions::{SESSIONS, SUBMIT_SESSIONS};
use super::streams::Streams;
use super::trace::{Trace, TraceListener, say};
use crate::market::{MarketLimits, MarketWriter, Watchers, open_market};
use crate::oms::{Halts, KillSwitch};
use crate::testing::{Crash, Fault, FaultyDisk, MemoryStore};

/// Draws for one possible action: most are impossible at most times.
const DRAWS_PER_STEP: usize = 16;

pub(super) struct World<'a> {
    pub(super) dice: Dice,
    pub(super) profile: Profile,
    pub(super) trace: Trace<'a>,
    pub(super) clock: SimulatedClock,
    pub(super) machine: Machine,
    /// `None` while the process is down.
    pub(super) node: Option<Node>,
    /// Set while the process is down.
    market: Option<MarketWriter>,
    pub(super) network: Network,
    pub(super) exchange: Exchange,
    pub(super) clients: Clients,
    pub(super) others: Others,
    pub(super) readers: Readers,
    pub(super) streams: Streams,
    pub(super) durable: DurableLog,
    /// The faults have stopped.
    pub(super) is_calm: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(
        seed: u64,
        steps: Option<usize>,
        listener: Option<TraceListener<'a>>,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let profile = Profile::draw(&mut dice, steps);
        let ids = ExecutionIds::new(profile.reused_ids, Dice::new(dice.any()));
        let (market, _nobody_reads_prices) =
            open_market(Watchers::default(), MarketLimits::default());
        let clients = Clients::new(profile.users);
        let mut durable = DurableLog::new(profile.engine);
        durable.postgres = profile.awaits_postgres.then(Default::default);
        Self {
            dice,
            trace: Trace::new(listener),
            clock: SimulatedClock::new(profile.exchange_clock),
            machine: Machine {
                disk: FaultyDisk::default(),
                store: MemoryStore::new(),
                kill_switch: KillSwitch::with(Halts::default(), PathBuf::new()),
                postgres: Postgres::default(),
            },
            node: None,
            market: Some(market),
            network: Network::default(),
            exchange: Exchange::new(profile.records, profile.loses_busts, ids),
            streams: Streams::new(&clients.users, profile.changes_age_micros),
            clients,
            others: Others::default(),
            readers: Readers::default(),
            durable,
            is_calm: false,
            profile,
        }
    }

    /// Runs the steps, then stops the faults and waits until everything is quiet.
    pub(super) fn run(&mut self) -> Checked {
        self.start()?;
        for _ in 0..self.profile.steps {
            self.step()?;
        }
        self.quiesce()
    }

    fn step(&mut self) -> Checked {
        let micros = self.dice.between(0, self.profile.pace_micros);
        self.pass_time(micros);
        for _ in 0..DRAWS_PER_STEP {
            let action = self.profile.draw_action(&mut self.dice);
            let has_acted = self.act(action)?;
            self.trace_exchange_notes();
            if has_acted {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn trace_exchange_notes(&mut self) {
        for note in self.exchange.notes.drain(..) {
            say!(self.trace, "  {note}");
        }
        let (orders, executions) = self.exchange.take_reused_count();
        self.trace.count_many("ids of orders used again", orders);
        self.trace.count_many("ids of executions used again", executions);
    }

    /// Advances time, and times requests out.
    pub(super) fn pass_time(&mut self, micros: u64) {
        self.exchange.remember(self.clock.micros());
        self.clock.advance(micros);
        let limit = self.clock.micros().saturating_sub(self.profile.request_timeout_micros);
        if let Some(node) = &mut self.node {
            let late = node.sessions.time_out(limit, self.clock.ours());
            if late > 0 {
                say!(self.trace, "{late} requests to the exchange time out");
            }
        }
    }

    /// Takes an action. False if it is not possible now.
    fn act(&mut self, action: Action) -> Checked<bool> {
        match action {
            Action::Create => self.create(),
            Action::Repeat => self.repeat(),
            Action::Cancel => Ok(self.cancel()),
            Action::List => Ok(self.list()),
            Action::ReadStream => self.read_stream(),
            Action::CutStream => Ok(self.cut_stream()),
            Action::PollClients => self.observe().map(|()| self.node.is_some()),
            Action::HangUp => Ok(self.hang_up()),
            Action::MassCancel => Ok(self.mass_cancel()),
            Action::Halt => Ok(self.halt()),
            Action::Webhook => Ok(self.post_lines()),
            Action::Slice => self.slice(),
            Action::WriteLog => self.write_log(),
            Action::PrepareLog => self.prepare_log(),
            Action::FollowLog => self.follow_log(),
            Action::PersistIndex => self.persist_index(),
            Action::AnswerReads => self.answer_reads(),
            Action::Find => self.find(),
            Action::Probe => Ok(self.probe()),
            Action::SendSubmits => {
                let session = self.dice.below(SUBMIT_SESSIONS);
                self.send(session)
            }
            Action::SendControl => {
                let session = SUBMIT_SESSIONS + self.dice.below(SESSIONS - SUBMIT_SESSIONS);
                self.send(session)
            }
            Action::Arrive => self.arrive(),
            Action::Answer => Ok(self.answer()),
            Action::Cut => Ok(self.cut()),
            Action::Print => Ok(self.print()),
            Action::Bust => Ok(self.bust()),
            Action::LateFill => Ok(self.fill_late()),
            Action::Unasked => Ok(self.end_unasked()),
            Action::DayEnd => Ok(self.end_day()),
            Action::ExchangeRestart => Ok(self.restart_exchange()),
            Action::FeedLines => Ok(self.feed_lines()),
            Action::FeedBeat => Ok(self.feed_beat()),
            Action::FeedCut => Ok(self.feed_cut()),
            Action::FeedForget => Ok(self.feed_forget()),
            Action::FeedAgain => Ok(self.feed_again()),
            Action::FeedGap => Ok(self.feed_gap()),
            Action::RenameSession => Ok(self.rename_session()),
            Action::FeedGarble => Ok(self.feed_garble()),
            Action::FeedJunk => Ok(self.feed_junk()),
            Action::FeedSwap => Ok(self.feed_swap()),
            Action::Wait => Ok(self.wait()),
            Action::SetClock => Ok(self.set_clock()),
            Action::StepExchangeClock => Ok(self.step_exchange_clock()),
            Action::DiskFault => Ok(self.arm_disk()),
            Action::DiskFull => Ok(self.fill_disk()),
            Action::DiskRoom => Ok(self.free_disk()),
            Action::Kill => self.crash(Crash::Kill),
            Action::PowerLoss => self.crash(Crash::PowerLoss),
            Action::Stop => Ok(self.stop()),
            Action::Start if self.node.is_none() => self.start().map(|()| true),
            Action::Start => Ok(false),
            Action::FollowPostgres => self.follow_postgres(),
            Action::PostgresAway => Ok(self.set_postgres_away(true)),
            Action::PostgresBack => Ok(self.set_postgres_away(false)),
        }
    }

    /// Runs a slice of the orders thread, and observes the result.
    pub(super) fn slice(&mut self) -> Checked<bool> {
        let now = self.clock.ours();
        let Some(node) = &mut self.node else { return Ok(false) };
        let committed = node.driver().wal().committed();
        let end = node.slice(now)?;
        let has_committed = node.driver().wal().committed() > committed;
        say!(self.trace, "the orders thread works: {end:?}");
        if has_committed || self.machine.disk.is_dead() {
            self.trace.count("commits by the orders thread");
            self.after_disk_work()?;
            if self.node.is_none() {
                return Ok(true);
            }
        }
        self.observe()?;
        match end {
            SliceEnd::More | SliceEnd::Done => {}
            SliceEnd::Stopped => {
                self.trace.count("stops in order");
                // The store applies what is committed before it ends.
                self.follow_log()?;
                if self.persist_index()? && self.node.is_none() {
                    return Ok(true);
                }
                self.end_process();
            }
            SliceEnd::Dead => {
                self.trace.count("ends after a failed write");
                self.end_process();
                self.lose_unsynced(Crash::Kill);
                self.durable.verify_all(&self.machine.disk, &self.exchange)?;
            }
        }
        Ok(true)
    }

    /// Reads everything, polls everybody who waits, and checks the answers.
    pub(super) fn observe(&mut self) -> Checked {
        let Some(node) = &mut self.node else { return Ok(()) };
        let views = node.views().clone();
        for words in self.streams.poll_all((&views, &mut node.order_watch), &self.durable)? {
            say!(self.trace, "  {words}");
            self.trace.count(words);
        }
        let (exchange, durable) = (&self.exchange, &self.durable);
        let readable = (node.views(), &node.index);
        if node.service.is_readable() {
            self.readers.read_all(&self.clients.users, readable, (durable, exchange))?;
        }
        let context = CheckContext {
            views: node.views(),
            index: &node.index,
            exchange,
            durable,
            may_refuse: node.may_refuse(self.clock.ours()),
            is_full: node.driver().wal().is_out_of_space(),
            is_exhausted: node.driver().wal().is_exhausted(),
            is_readable: node.service.is_readable(),
        };
        for answered in self.clients.poll_all(&context)? {
            if let Some(order_id) = answered.order_id {
                let name = self.trace.name(order_id);
                say!(self.trace, "  {name} is answered: {}", answered.words);
            } else {
                say!(self.trace, "  somebody is answered: {}", answered.words);
            }
            self.trace.count(answered.words);
        }
        for words in self.others.take_answers(durable, exchange)? {
            say!(self.trace, "  {words}");
            self.trace.count(words);
        }
        for refused in &self.clients.told.refused {
            ensure(durable.order(*refused).is_none(), Invariant::RefusedIsUnrecorded, || {
                format!("{refused} is in the log")
            })?;
        }
        Ok(())
    }

    pub(super) fn write_log(&mut self) -> Checked<bool> {
        let Some(node) = &mut self.node else { return Ok(false) };
        if !node.write_log() {
            return Ok(false);
        }
        say!(self.trace, "the log is written up to {}", node.driver().wal().committed());
        self.after_disk_work()
    }

    pub(super) fn prepare_log(&mut self) -> Checked<bool> {
        let Some(node) = &mut self.node else { return Ok(false) };
        if !node.prepare_log() {
            return Ok(false);
        }
        let is_full = node.driver().wal().is_out_of_space();
        say!(self.trace, "a segment is prepared, room for it: {}", !is_full);
        self.after_disk_work()
    }

    pub(super) fn follow_log(&mut self) -> Checked<bool> {
        let Some(node) = &mut self.node else { return Ok(false) };
        if !node.follow_log()? {
            return Ok(false);
        }
        say!(self.trace, "the store has the log up to {}", node.index.position());
        Ok(true)
    }

    /// Postgres takes some of what is committed. False if there is nothing, or it is away.
    pub(super) fn follow_postgres(&mut self) -> Checked<bool> {
        let Some(node) = self.node.as_ref().filter(|_| self.profile.awaits_postgres) else {
            return Ok(false);
        };
        let committed = node.driver().wal().committed();
        let postgres = &mut self.machine.postgres;
        let has_followed = if self.is_calm {
            postgres.follow_all(committed, &node.progress)
        } else {
            postgres.follow(committed, &node.progress, &mut self.dice)
        };
        if has_followed {
            let (has, told) = (postgres.has(), node.progress.committed());
            self.durable.postgres = Some(has);
            say!(self.trace, "Postgres has the log up to {has}, we know of {told}");
        }
        Ok(has_followed)
    }

    pub(super) fn set_postgres_away(&mut self, is_away: bool) -> bool {
        let moves = self.profile.awaits_postgres && self.machine.postgres.set_away(is_away);
        if moves {
            say!(self.trace, "Postgres is away: {is_away}");
            self.trace.count("moves of Postgres");
        }
        moves
    }

    pub(super) fn persist_index(&mut self) -> Checked<bool> {
        let Some(node) = &mut self.node else { return Ok(false) };
        if !node.persist_index()? {
            return Ok(false);
        }
        say!(self.trace, "the store is durable up to {}", node.index.durable_position());
        self.trace.count("stores made durable");
        self.after_disk_work()
    }

    pub(super) fn answer_reads(&mut self) -> Checked<bool> {
        let Some(node) = &self.node else { return Ok(false) };
        if !node.answer_reads() {
            return Ok(false);
        }
        say!(self.trace, "the store answers");
        self.observe()?;
        Ok(true)
    }

    pub(super) fn find(&mut self) -> Checked<bool> {
        let Some(node) = &mut self.node else { return Ok(false) };
        let has_worked = node.find()?;
        if has_worked {
            say!(self.trace, "the store is asked which order the exchange means");
            self.trace.count("looks in the store for the exchange's orders");
        }
        Ok(has_worked)
    }

    pub(super) fn probe(&mut self) -> bool {
        let is_reached = self.is_calm || !self.dice.percent(self.profile.refused_connections);
        let has_answered = is_reached && self.node.as_ref().is_some_and(Node::answer_probe);
        if has_answered {
            say!(self.trace, "the exchange answers a probe");
        }
        has_answered
    }

    /// Establishes what is durable now, and ends the process if it died during the disk work.
    fn after_disk_work(&mut self) -> Checked<bool> {
        if self.machine.disk.is_dead() {
            self.trace.count("crashes in the middle of disk work");
            let crash = if self.dice.percent(50) { Crash::Kill } else { Crash::PowerLoss };
            return self.crash(crash);
        }
        let looked = self.durable.catch_up(&self.machine.disk, &self.exchange);
        self.trace_durable_notes();
        looked.map(|()| true)
    }

    fn trace_durable_notes(&mut self) {
        for (order_id, what) in self.durable.notes.drain(..) {
            match order_id.map(|order_id| self.trace.name(order_id)) {
                Some(name) => say!(self.trace, "  durable: {name} {what}"),
                None => say!(self.trace, "  durable: {what}"),
            }
        }
    }

    /// The process ends without warning.
    fn crash(&mut self, crash: Crash) -> Checked<bool> {
        if self.node.is_none() && crash == Crash::Kill {
            return Ok(false);
        }
        self.trace.count(match crash {
            Crash::Kill => "kills",
            Crash::PowerLoss => "losses of power",
        });
        say!(self.trace, "{crash:?}");
        self.end_process();
        self.lose_unsynced(crash);
        self.check_rot()?;
        Ok(true)
    }

    fn lose_unsynced(&mut self, crash: Crash) {
        self.machine.disk.crash(crash, self.dice.any());
        let unpersisted = self.machine.store.unpersisted_batches();
        self.machine.store.crash(self.dice.below(unpersisted + 1));
    }

    fn end_process(&mut self) {
        self.forget_exchange_clock();
        let session = self.exchange.feed().session();
        let is_known = self.durable.knows_restart_of(&session);
        self.exchange.feed_mut().set_restart_known(is_known);
        if let Some(node) = self.node.take() {
            self.market = Some(node.feed.into_market());
        }
        let cut = self.clients.cut_all();
        self.others.cut_all();
        self.streams.cut_all();
        say!(self.trace, "the process has ended, {cut} users wait in vain");
    }

    /// Starts the process, which may die while starting.
    pub(super) fn start(&mut self) -> Checked {
        let Some(market) = self.market.take() else { return Ok(()) };
        let micros = self.clock.micros_to_start(self.profile.engine.clock_tolerance_micros);
        self.pass_time(micros);
        match Node::start(&self.machine, &self.profile, market, &mut self.clock) {
            Ok(node) => {
                self.trace.count("starts");
                self.durable.verify_all(&self.machine.disk, &self.exchange)?;
                self.trace_durable_notes();
                say!(self.trace, "the process starts with {:?}", self.durable.record_counts());
                let readable = (node.views(), &node.index);
                let checks = (&self.durable, &self.exchange);
                if node.service.is_readable() {
                    self.readers.read_all(&self.clients.users, readable, checks)?;
                } else {
                    self.trace.count("starts ahead of Postgres");
                }
                self.exchange.feed_mut().forget_taken();
                self.node = Some(node);
                Ok(())
            }
            Err(failed) if self.machine.disk.has_failed() => {
                self.market = Some(failed.market);
                self.trace.count("starts that failed with the disk");
                say!(self.trace, "the process dies while it starts");
                let crash = if self.dice.percent(50) { Crash::Kill } else { Crash::PowerLoss };
                self.lose_unsynced(crash);
                Ok(())
            }
            Err(failed) => Err(broken(Invariant::StartsAfterCrash, format!("{:?}", failed.error))),
        }
    }

    fn stop(&mut self) -> bool {
        let now = self.clock.ours();
        let Some(node) = &mut self.node else { return false };
        say!(self.trace, "the process is asked to stop");
        node.begin_stop(now);
        true
    }

    fn arm_disk(&mut self) -> bool {
        let fault = if self.dice.percent(70) { Fault::Crash } else { Fault::Error };
        let operations = self.dice.between(1, 8);
        say!(self.trace, "the disk will fail after {operations}: {fault:?}");
        self.machine.disk.fail_after(operations, fault, self.dice.any());
        true
    }

    fn fill_disk(&mut self) -> bool {
        let bytes = 4_096 * self.dice.below(40);
        let is_told = self.dice.percent(50);
        say!(self.trace, "{bytes} bytes are left on the disk");
        self.trace.count("full disks");
        self.machine.disk.leave_space(bytes, is_told);
        true
    }

    fn free_disk(&mut self) -> bool {
        self.machine.disk.free_space();
        say!(self.trace, "there is room on the disk");
        true
    }

    fn wait(&mut self) -> bool {
        let millis = [1, 5, 20, 80, 400][self.dice.below(5)];
        say!(self.trace, "{millis} ms pass");
        self.pass_time(millis * 1_000);
        true
    }
}

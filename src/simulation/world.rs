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
use super::invariant::{Checked, Invariant, ensure};
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
use crate::testing::{Crash, FaultyDisk, MemoryStore};

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
    pub(super) market: Option<MarketWriter>,
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
            Action::MoveCash => Ok(self.move_cash()),
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
        for words in self.others.take_answers((durable, exchange), node)? {
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

    fn wait(&mut self) -> bool {
        let millis = [1, 5, 20, 80, 400][self.dice.below(5)];
        say!(self.trace, "{millis} ms pass");
        self.pass_time(millis * 1_000);
        true
    }
}

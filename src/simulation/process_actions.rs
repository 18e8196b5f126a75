//! Starts and ends of the process.

use super::invariant::{Checked, Invariant, broken};
use super::node::Node;
use super::trace::say;
use super::world::World;
use crate::testing::Crash;

impl World<'_> {
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

    pub(super) fn stop(&mut self) -> bool {
        let now = self.clock.ours();
        let Some(node) = &mut self.node else { return false };
        say!(self.trace, "the process is asked to stop");
        node.begin_stop(now);
        true
    }

    /// The process ends without warning.
    pub(super) fn crash(&mut self, crash: Crash) -> Checked<bool> {
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

    pub(super) fn lose_unsynced(&mut self, crash: Crash) {
        self.machine.disk.crash(crash, self.dice.any());
        let unpersisted = self.machine.store.unpersisted_batches();
        self.machine.store.crash(self.dice.below(unpersisted + 1));
    }

    pub(super) fn end_process(&mut self) {
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
}

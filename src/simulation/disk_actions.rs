//! Actions of the log, the store, Postgres, and the disk below them.

use super::invariant::Checked;
use super::trace::say;
use super::world::World;
use crate::testing::{Crash, Fault};

/// The log and the store.
impl World<'_> {
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

    pub(super) fn persist_index(&mut self) -> Checked<bool> {
        let Some(node) = &mut self.node else { return Ok(false) };
        if !node.persist_index()? {
            return Ok(false);
        }
        say!(self.trace, "the store is durable up to {}", node.index.durable_position());
        self.trace.count("stores made durable");
        self.after_disk_work()
    }

    /// Establishes what is durable now, and ends the process if it died during the disk work.
    pub(super) fn after_disk_work(&mut self) -> Checked<bool> {
        if self.machine.disk.is_dead() {
            self.trace.count("crashes in the middle of disk work");
            let crash = if self.dice.percent(50) { Crash::Kill } else { Crash::PowerLoss };
            return self.crash(crash);
        }
        let looked = self.durable.catch_up(&self.machine.disk, &self.exchange);
        self.trace_durable_notes();
        looked.map(|()| true)
    }

    pub(super) fn trace_durable_notes(&mut self) {
        for (order_id, what) in self.durable.notes.drain(..) {
            match order_id.map(|order_id| self.trace.name(order_id)) {
                Some(name) => say!(self.trace, "  durable: {name} {what}"),
                None => say!(self.trace, "  durable: {what}"),
            }
        }
    }
}

/// Postgres.
impl World<'_> {
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
}

/// Faults of the disk.
impl World<'_> {
    pub(super) fn arm_disk(&mut self) -> bool {
        let fault = if self.dice.percent(70) { Fault::Crash } else { Fault::Error };
        let operations = self.dice.between(1, 8);
        say!(self.trace, "the disk will fail after {operations}: {fault:?}");
        self.machine.disk.fail_after(operations, fault, self.dice.any());
        true
    }

    pub(super) fn fill_disk(&mut self) -> bool {
        let bytes = 4_096 * self.dice.below(40);
        let is_told = self.dice.percent(50);
        say!(self.trace, "{bytes} bytes are left on the disk");
        self.trace.count("full disks");
        self.machine.disk.leave_space(bytes, is_told);
        true
    }

    pub(super) fn free_disk(&mut self) -> bool {
        self.machine.disk.free_space();
        say!(self.trace, "there is room on the disk");
        true
    }
}

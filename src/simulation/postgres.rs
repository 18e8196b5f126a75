//! A Postgres that follows the log in parts, sometimes without an answer, and not at all while it
//! is away. It outlives the process.

use super::dice::Dice;
use crate::projection::Progress;
use crate::wal::Lsn;

#[derive(Debug, Default)]
pub(super) struct Postgres {
    /// It has everything up to here.
    has: Lsn,
    is_away: bool,
}

impl Postgres {
    pub(super) const fn has(&self) -> Lsn {
        self.has
    }

    pub(super) const fn is_away(&self) -> bool {
        self.is_away
    }

    /// Sets whether it is away. False if that changes nothing.
    pub(super) const fn set_away(&mut self, is_away: bool) -> bool {
        let changes = self.is_away != is_away;
        self.is_away = is_away;
        changes
    }

    /// Takes part of the committed log; the process may learn of it only next time. False if it has
    /// everything and the process knows.
    pub(super) fn follow(&mut self, committed: Lsn, progress: &Progress, dice: &mut Dice) -> bool {
        if self.is_away || (self.has >= committed && progress.committed() >= self.has) {
            return false;
        }
        let lag = committed.0.saturating_sub(self.has.0);
        let taken = if dice.percent(50) { lag } else { dice.between(0, lag) };
        self.has.0 += taken;
        // The connection may be lost between the commit and its answer.
        if dice.percent(80) {
            progress.reach(0, self.has);
        }
        true
    }

    /// Takes everything, and the process learns of it.
    pub(super) fn follow_all(&mut self, committed: Lsn, progress: &Progress) -> bool {
        let is_news = !self.is_away && progress.committed() < committed;
        if is_news {
            self.has = self.has.max(committed);
            progress.reach(0, self.has);
        }
        is_news
    }
}

//! Ids of cash movements in memory, and when to forget them.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::limits::FORGETS_PER_SLICE;
use crate::engine::Engines;
use crate::order::{CashMovementKind, Event};
use crate::types::UserId;
use crate::wal::Lsn;

/// The ids that the engines keep because the store may lack them, in the order of the log.
#[derive(Debug)]
pub(super) struct CashIds {
    queue: VecDeque<(Lsn, UserId, CompactString)>,
    /// Up to this position, ids may be in the store alone.
    forgotten_through: Lsn,
}

impl CashIds {
    /// Those that recovery has found in a log up to `recovered`, whose store had followed to `stored`.
    pub(super) fn recovered(engines: &Engines, stored: Lsn, recovered: Lsn) -> Self {
        let ids = engines.kept_cash_ids().map(|(user, id)| (recovered, user.clone(), id.into()));
        Self { queue: ids.collect(), forgotten_through: stored }
    }

    /// Notes the cash movements among events that were decided together, the last of them being
    /// `last_event`.
    pub(super) fn note(&mut self, events: &[Event], last_event: Lsn) {
        for event in events {
            if let Event::CashMoved(moved) = event
                && moved.kind != CashMovementKind::Opening
            {
                self.queue.push_back((last_event, moved.user.clone(), moved.id.clone()));
            }
        }
    }

    /// Whether an id that the store did not have at this position may be one that memory has
    /// forgotten since.
    pub(super) fn may_have_forgotten(&self, checked_at: Lsn) -> bool {
        checked_at < self.forgotten_through
    }

    /// Number of ids in memory.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Forgets what the store has up to `stored`, a bounded number. True when there may be more.
    pub(super) fn forget(&mut self, engines: &mut Engines, stored: Lsn) -> bool {
        for _ in 0..FORGETS_PER_SLICE {
            let Some((lsn, user, id)) = self.queue.pop_front_if(|(lsn, ..)| *lsn <= stored) else {
                return false;
            };
            engines.forget_cash_id(&user, &id);
            self.forgotten_through = self.forgotten_through.max(lsn);
        }
        true
    }
}

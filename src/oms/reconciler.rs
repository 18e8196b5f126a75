//! When the engines ask the exchange about orders: overdue ones at each look, all open ones after a
//! start or a gap, and all open ones in comparison with the exchange's record once in a while.

use std::time::Duration;

use super::limits::{
    COMPARISON_PACE, COMPARISONS_AT_ONCE, LOOKS_PER_SLICE, MAX_WAITING_RECONCILIATIONS,
};
use crate::engine::{Engines, Outbox};
use crate::types::{Moment, MonotonicMicros};

/// How often a sweep looks at which queries are due. What is due a moment after one look waits for the
/// next, and an order's deadline is several such waits. After the machine's clock was put back, recorded
/// times run a little slower than the clock that looks are timed by, so a wait of whole seconds would
/// always just miss a look each second.
const LOOKS_PER_SWEEP: u32 = 5;

/// The timetable of reconciliation.
#[derive(Debug)]
pub(super) struct Reconciler {
    sweep_interval: Duration,
    next_sweep: MonotonicMicros,
    /// The sweep that has begun has not looked at everything yet.
    is_sweeping: bool,
    next_look: MonotonicMicros,
    /// The same of the look that has begun.
    is_looking: bool,
    /// How often all open orders are compared with the exchange's record.
    comparison_interval: Duration,
    next_comparison: MonotonicMicros,
    /// When the comparison that has begun may send its next request.
    next_request: MonotonicMicros,
}

impl Reconciler {
    pub(super) fn new(
        sweep_interval: Duration,
        comparison_interval: Duration,
        now: MonotonicMicros,
    ) -> Self {
        Self {
            sweep_interval,
            next_sweep: now.saturating_add(sweep_interval),
            is_sweeping: false,
            next_look: now.saturating_add(sweep_interval / LOOKS_PER_SWEEP),
            is_looking: false,
            comparison_interval,
            next_comparison: now.saturating_add(comparison_interval),
            next_request: now,
        }
    }

    /// Begins a sweep if one is due. True when it has just begun.
    pub(super) fn begin_sweep(&mut self, now: Moment) -> bool {
        let is_due = now.monotonic >= self.next_sweep;
        if is_due {
            self.next_sweep = now.monotonic.saturating_add(self.sweep_interval);
            self.is_sweeping = true;
        }
        assert!(self.next_sweep >= now.monotonic, "the next sweep is to come");
        is_due
    }

    /// Asks what is due while `waiting` queries have not been sent. True when there is more to look
    /// at.
    pub(super) fn work(
        &mut self,
        now: Moment,
        waiting: usize,
        engines: &mut Engines,
        out: &mut Outbox,
    ) -> bool {
        if now.monotonic >= self.next_look {
            let interval = self.sweep_interval / LOOKS_PER_SWEEP;
            self.next_look = now.monotonic.saturating_add(interval);
            self.is_looking = true;
        }
        assert!(self.next_look >= now.monotonic, "the next look is to come");
        if self.is_sweeping {
            self.is_sweeping = engines.tick(now.wall, LOOKS_PER_SLICE, out);
            self.is_looking = false;
        } else if self.is_looking {
            self.is_looking = engines.query_due(now.wall, LOOKS_PER_SLICE, out);
        }
        // As many as the exchange is asked about at a time: reconciling a million orders neither fills
        // memory nor holds up a query that somebody waits for. Orders that have left memory come back
        // from the store first.
        if engines.is_reconciling() && waiting + engines.orders_being_found() == 0 {
            let effects = out.effects.len();
            engines.reconcile_some(now.wall, MAX_WAITING_RECONCILIATIONS, out);
            let asked = out.effects.len() - effects;
            assert!(asked <= MAX_WAITING_RECONCILIATIONS, "a slice reconciles a limited number");
        }
        self.compare(now, waiting == 0, engines, out);
        self.is_sweeping || self.is_looking
    }

    /// Compares open orders with the exchange's record, paced, after everything else that the
    /// exchange has to be asked.
    fn compare(&mut self, now: Moment, has_room: bool, engines: &mut Engines, out: &mut Outbox) {
        if now.monotonic >= self.next_comparison {
            self.next_comparison = now.monotonic.saturating_add(self.comparison_interval);
            engines.begin_comparison();
            assert!(engines.is_comparing(), "a comparison that begins is in progress");
        }
        assert!(self.next_comparison >= now.monotonic, "the next comparison is to come");
        let is_due = now.monotonic >= self.next_request && has_room;
        if is_due && engines.is_comparing() && !engines.is_reconciling() {
            self.next_request = now.monotonic.saturating_add(COMPARISON_PACE);
            engines.compare_some(now.wall, COMPARISONS_AT_ONCE, out);
        }
    }

    /// How long until something is due if nothing else happens.
    pub(super) fn until_due(&self, now: MonotonicMicros, is_comparing: bool) -> Duration {
        // At least the pace ahead while a comparison waits for room.
        let request = if self.next_request > now {
            self.next_request
        } else {
            now.saturating_add(COMPARISON_PACE)
        };
        let comparison = if is_comparing { request } else { self.next_comparison };
        self.next_sweep.min(self.next_look).min(comparison).saturating_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineOptions;
    use crate::types::TimestampMicros;

    #[test]
    fn what_is_due_is_looked_at_more_often_than_swept() {
        let second = Duration::from_secs(1);
        let start = MonotonicMicros::new(7);
        let mut reconciler = Reconciler::new(second, 30 * second, start);
        let mut engines = Engines::new(EngineOptions::default());
        let mut now = start;
        for _ in 1..LOOKS_PER_SWEEP {
            let wait = reconciler.until_due(now, false);
            assert_eq!(wait, second / LOOKS_PER_SWEEP);
            now = now.saturating_add(wait);
            let moment = Moment { wall: TimestampMicros::new(now.micros()), monotonic: now };
            assert!(!reconciler.begin_sweep(moment));
            reconciler.work(moment, 0, &mut engines, &mut Outbox::default());
        }
        now = now.saturating_add(reconciler.until_due(now, false));
        let moment = Moment { wall: TimestampMicros::new(now.micros()), monotonic: now };
        assert!(reconciler.begin_sweep(moment));
    }
}

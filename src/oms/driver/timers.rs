//! Work that falls due: reply timeouts, sweeps, reconciliation, and what memory forgets.

use std::time::Duration;

use super::Driver;
use crate::index::ReusedId;
use crate::types::Moment;

/// How often a partition that takes no requests any more is looked at.
const STOPPED_INTERVAL: Duration = Duration::from_millis(5);

impl Driver {
    /// Does what is due, at most `limit` overdue requests. True when more is due.
    pub(crate) fn keep_time(&mut self, now: Moment, limit: usize) -> bool {
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        let more_overdue = self.answer_overdue(now, limit);
        let more_late = self.answer_late(now, limit);
        self.drop_stopped(now);
        let refuses = self.postgres_refuses(now);
        if let Some(postgres) = &self.awaited {
            postgres.set_late(refuses);
        }
        self.mass_cancels.give_up(now.monotonic, self.wal.committed());
        if self.reconciler.begin_sweep(now) {
            for ReusedId { id, before } in self.publisher.take_reused_ids() {
                self.engines.id_used_again(now.wall, (&id, before), &mut self.outbox);
            }
            self.log_feed_position(now);
            self.show_gauges();
        }
        let waiting = self.gate.queries() + self.queues.queries.len();
        let (engines, out) = (&mut self.engines, &mut self.outbox);
        let more_to_sweep = self.reconciler.work(now, waiting, engines, out);
        self.admit_decided();
        let more_to_forget = self.publisher.forget(&mut self.engines, now);
        let stored = self.publisher.stored();
        let more_to_forget = self.cash_ids.forget(&mut self.engines, stored) || more_to_forget;
        more_overdue || more_late || more_to_sweep || more_to_forget
    }

    /// Tells the engines of requests past their reply timeout. True when there may be more.
    fn answer_overdue(&mut self, now: Moment, limit: usize) -> bool {
        for _ in 0..limit {
            let Some((order_id, to)) = self.replies.next_overdue(now.monotonic) else {
                return false;
            };
            // It is sent again soon, or refused at its deadline.
            let is_sent_again = self.queues.submits.is_held_back(order_id)
                && self.engines.order(order_id).is_some_and(|order| now.wall < order.submit_before);
            if is_sent_again {
                self.replies.postpone(order_id, to, self.reply_deadline(now));
                continue;
            }
            self.metrics.reply_timeouts.inc();
            self.engines.reply_timeout(now.wall, order_id, to, &mut self.outbox);
            if let Some(postgres) = &mut self.awaited {
                postgres.note_late(now, order_id, to);
            }
        }
        true
    }

    /// Answers requests that Postgres holds up for too long. True when there may be more.
    fn answer_late(&mut self, now: Moment, limit: usize) -> bool {
        let views = self.publisher.views();
        let replies = &mut self.replies;
        self.awaited
            .as_mut()
            .is_some_and(|postgres| postgres.answer_late(now, limit, views, replies))
    }

    /// When [`keep_time`](Self::keep_time) is due if nothing else happens.
    pub(crate) fn until_due(&self, now: Moment) -> Duration {
        let now = now.monotonic;
        let due = self.reconciler.until_due(now, self.engines.is_comparing());
        let waits = [
            self.replies.until_overdue(now),
            self.awaited.as_ref().and_then(|postgres| postgres.until_given_up(now)),
            self.mass_cancels.until_given_up(now, self.wal.committed()),
            self.partitions.is_stopping().then_some(STOPPED_INTERVAL),
        ];
        waits.into_iter().flatten().fold(due, Duration::min)
    }

    /// Logs how far the feed has been taken, also before a stop.
    pub(crate) fn log_feed_position(&mut self, now: Moment) {
        if self.options.is_member {
            self.engines.end_rounds(now.wall);
            return;
        }
        self.engines.log_feed_position(now.wall, &mut self.outbox);
        self.admit_decided();
    }
}

//! What the orders thread does where everybody's answers wait for Postgres: it shows what Postgres
//! has, answers in time those for whom it comes too late, and takes no more than can wait.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Driver;
use crate::engine::{CancelReply, CreateOrder, CreateReply, ReplyTo};
use crate::oms::limits::{MAX_HELD_FOR_CANCELS, MAX_HELD_FOR_CREATES, MAX_HELD_FOR_REPORTS};
use crate::oms::postgres_side::PostgresSide;
use crate::oms::replies::Asked;
use crate::order::{Order, Status};
use crate::projection::Progress;
use crate::types::{Moment, MonotonicMicros, OrderId, UserId};
use crate::wal::Lsn;

/// Postgres, where it is awaited.
pub(super) struct AwaitedPostgres {
    progress: Progress,
    /// Readers see nothing before Postgres has everything up to here: what a restart has recovered,
    /// while it lacks some of that.
    missing_to: Option<Lsn>,
    /// The last of what waited for it at some moment, and when that was. It has not come there yet.
    mark: Option<(Lsn, MonotonicMicros)>,
    /// Whether new orders were refused because of it, which is told once.
    is_told: bool,
}

impl AwaitedPostgres {
    /// `None` where it is not awaited. The log was recovered up to `recovered`.
    pub(super) fn new(side: Option<&PostgresSide>, recovered: Lsn) -> Option<Self> {
        let side = side.filter(|side| side.is_awaited)?;
        let progress = side.progress.clone();
        let missing_to = Some(recovered).filter(|recovered| progress.committed() < *recovered);
        Some(Self { progress, missing_to, mark: None, is_told: false })
    }

    /// Everything up to here is in Postgres.
    pub(super) fn has(&self) -> Lsn {
        self.progress.committed()
    }

    /// Whether it lacks something of what was recovered.
    pub(super) fn lacks_recovered(&self) -> bool {
        self.missing_to.is_some()
    }

    /// Whether it has not come to what waited for it so long ago.
    fn is_behind(&self, now: MonotonicMicros, limit: Duration) -> bool {
        self.mark.is_some_and(|(_, since)| now.saturating_since(since) > limit)
    }
}

/// A request past its reply timeout whose answer is not in Postgres.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    /// When they are told that the outcome is not known.
    give_up: MonotonicMicros,
    order_id: OrderId,
    to: ReplyTo,
}

impl Driver {
    /// Everything up to here is in Postgres; 0 where nobody waits for it.
    pub(crate) fn postgres_has(&self) -> Lsn {
        self.awaited.as_ref().map_or(Lsn(0), AwaitedPostgres::has)
    }

    /// Ready once Postgres has more than `seen`; never where nobody waits for it.
    pub(crate) fn poll_postgres(&self, context: &mut Context<'_>, seen: Lsn) -> Poll<()> {
        match &self.awaited {
            Some(postgres) => postgres.progress.poll_progress(context, seen),
            None => Poll::Pending,
        }
    }

    /// Whether lines of the exchange may be taken: it brings again what it is not rid of.
    pub(crate) fn takes_reports(&self) -> bool {
        self.awaiting_postgres.len() < MAX_HELD_FOR_REPORTS
    }

    /// Whether one more cancel would wait for a Postgres that too much waits for already.
    pub(super) fn holds_too_much(&self) -> bool {
        self.awaiting_postgres.len() >= MAX_HELD_FOR_CANCELS
    }

    /// How far Postgres has come, where it is awaited. Readers may read once it has everything that
    /// was recovered.
    pub(super) fn look_at_postgres(&mut self) -> Option<Lsn> {
        let postgres = self.awaited.as_mut()?;
        let has = postgres.has();
        if postgres.missing_to.is_some_and(|recovered| has >= recovered) {
            postgres.missing_to = None;
            self.views.reveal();
            tracing::info!("Postgres has all that was recovered: orders can be read");
        }
        Some(has)
    }

    /// Remembers since when Postgres is behind the last that waits for it: until it has come there,
    /// or nothing waits.
    pub(super) fn mark_postgres(&mut self, now: Moment, last: Option<Lsn>) {
        let Some(postgres) = &mut self.awaited else { return };
        let has = postgres.has();
        if postgres.mark.is_none_or(|(mark, _)| has >= mark) {
            postgres.mark = last.filter(|last| has < *last).map(|last| (last, now.monotonic));
        }
    }

    /// Whether new orders would wait for Postgres for too long, or it lacks what was recovered.
    pub(crate) fn postgres_refuses(&self, now: Moment) -> bool {
        let Some(postgres) = &self.awaited else { return false };
        postgres.lacks_recovered()
            || self.awaiting_postgres.len() >= MAX_HELD_FOR_CREATES
            || postgres.is_behind(now.monotonic, self.options.postgres_stall)
    }

    /// Whether Postgres is a reason to refuse this request, unrecorded. One that repeats an order is
    /// none: its order may be recorded.
    pub(super) fn postgres_refuses_create(&mut self, now: Moment, request: &CreateOrder) -> bool {
        let refuses = self.postgres_refuses(now);
        let Some(postgres) = &mut self.awaited else { return false };
        if refuses && !postgres.is_told {
            tracing::error!(
                "Postgres does not follow in time: new orders are refused until it does"
            );
        } else if !refuses && postgres.is_told {
            tracing::warn!("Postgres follows again: new orders are taken");
        }
        postgres.is_told = refuses;
        refuses && !self.repeats(request)
    }

    /// Who asks, where that has to be remembered: who is answered with what is shown sees their own
    /// orders alone.
    pub(super) fn asker(&self, user: &UserId) -> Option<UserId> {
        self.awaited.is_some().then(|| user.clone())
    }

    /// Notes a request that is past its reply timeout: the answer may be decided and wait for Postgres.
    pub(super) fn note_late(&mut self, now: Moment, order_id: OrderId, to: ReplyTo) {
        if self.awaited.is_some() {
            let give_up = now.monotonic.saturating_add(self.options.postgres_patience);
            self.late.push_back(Late { give_up, order_id, to });
        }
    }

    /// Answers requests past their reply timeout: that the outcome is not known yet, where readers see the
    /// order without one; and after a while that nothing is known, where they do not see it. True
    /// when there may be more.
    ///
    /// Requests were taken in this order, and so were their events decided: while the first is not
    /// shown, none of those behind it is that changed something.
    pub(super) fn answer_late(&mut self, now: Moment, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(&Late { give_up, order_id, to }) = self.late.front() else { return false };
            if let Some((asked, asker)) = self.replies.asked(to) {
                if let Some(order) = self.shown_undecided(order_id, asked, asker) {
                    self.metrics.postgres_pending.inc();
                    match asked {
                        Asked::Create => self.replies.create(to, CreateReply::Pending(order)),
                        Asked::Cancel => self.replies.cancel(to, CancelReply::Pending(order)),
                    }
                } else if now.monotonic >= give_up {
                    self.metrics.postgres_unknown.inc();
                    match asked {
                        Asked::Create => self.replies.create(to, CreateReply::OutcomeUnknown),
                        Asked::Cancel => self.replies.cancel(to, CancelReply::OutcomeUnknown),
                    }
                } else {
                    return false;
                }
            }
            self.late.pop_front();
        }
        !self.late.is_empty()
    }

    /// An order as readers see it, if they see that its outcome is not known.
    fn shown_undecided(
        &self,
        order_id: OrderId,
        asked: Asked,
        asker: Option<&UserId>,
    ) -> Option<Arc<Order>> {
        if self.views.are_hidden() {
            return None;
        }
        let view = self.views.user(asker?)?;
        let order = view.orders.get(&order_id)?;
        let is_undecided = match asked {
            Asked::Create => matches!(order.status, Status::Pending | Status::PendingCancel),
            Asked::Cancel => order.awaits_cancel(),
        };
        is_undecided.then(|| Arc::clone(order))
    }

    /// How long until somebody is to be told that nothing is known.
    pub(super) fn until_given_up(&self, now: MonotonicMicros) -> Option<Duration> {
        self.late.front().map(|late| late.give_up.saturating_since(now))
    }
}

//! Postgres where it is awaited (`--commit postgres`): since when it lags, whether new orders would wait
//! too long for it, and requests whose answers come too late because of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::limits::OmsLimits;
use super::metrics::OmsMetrics;
use super::options::OmsOptions;
use super::replies::{Replies, RequestKind};
use super::views::CommittedViews;
use crate::engine::{CancelReply, CreateReply, ReplyTo};
use crate::order::{Order, Status};
use crate::projection::{DOES_NOT_ANSWER, Progress};
use crate::sync::Beyond;
use crate::types::{Moment, MonotonicMicros, OrderId, UserId};
use crate::wal::Lsn;

/// Postgres, where readers and clients wait for it.
pub(super) struct AwaitedPostgres {
    progress: Progress,
    /// Readers see nothing before Postgres has everything up to here: what a restart has recovered,
    /// while Postgres lacks some of that.
    missing_to: Option<Lsn>,
    /// The last event that waited for Postgres at some moment, and when that was. Postgres has not
    /// reached it yet.
    mark: Option<(Lsn, MonotonicMicros)>,
    /// Whether the log says that new orders are refused.
    is_told: bool,
    /// Requests past their reply timeout, in the order in which they came.
    late: VecDeque<LateRequest>,
    /// How long Postgres may lag what waits for it before new orders are refused.
    stall: Duration,
    /// How long an answer may wait for Postgres beyond the reply timeout.
    patience: Duration,
    limits: OmsLimits,
    metrics: OmsMetrics,
}

/// A request past its reply timeout whose answer Postgres does not have.
#[derive(Debug, Clone, Copy)]
struct LateRequest {
    /// When the client is told that the outcome is not known.
    give_up: MonotonicMicros,
    order_id: OrderId,
    to: ReplyTo,
}

impl AwaitedPostgres {
    /// After a log that was recovered up to `recovered`.
    pub(super) fn new(
        progress: Progress,
        recovered: Lsn,
        options: &OmsOptions,
        metrics: OmsMetrics,
    ) -> Self {
        let missing_to = Some(recovered).filter(|recovered| progress.committed() < *recovered);
        Self {
            progress,
            missing_to,
            mark: None,
            is_told: false,
            late: VecDeque::new(),
            stall: options.postgres_stall,
            patience: options.postgres_patience,
            limits: options.limits,
            metrics,
        }
    }

    /// Everything up to here is in Postgres.
    pub(super) fn committed(&self) -> Lsn {
        self.progress.committed()
    }

    /// Waits until Postgres has more than `seen`.
    pub(super) fn beyond(&self, seen: Lsn) -> Beyond<'_> {
        self.progress.beyond(seen)
    }

    /// Whether Postgres lacks something of what was recovered.
    pub(super) fn lacks_recovered(&self) -> bool {
        self.missing_to.is_some()
    }

    /// Whether Postgres has just reached the end of what was recovered.
    pub(super) fn has_just_recovered(&mut self) -> bool {
        let committed = self.committed();
        self.missing_to.take_if(|recovered| committed >= *recovered).is_some()
    }

    /// Notes the last event that waits for Postgres, if one does: lag counts from here until Postgres has
    /// reached it.
    pub(super) fn mark(&mut self, now: Moment, last: Option<Lsn>) {
        let committed = self.committed();
        if self.mark.is_none_or(|(mark, _)| committed >= mark) {
            self.mark = last.filter(|last| committed < *last).map(|last| (last, now.monotonic));
        }
        assert!(self.mark.is_none_or(|(_, since)| since <= now.monotonic), "lag began before now");
        assert!(
            self.mark.is_none_or(|(mark, _)| committed < mark),
            "Postgres lags what it has not reached"
        );
    }

    /// Whether a new order would wait too long, while so many effects wait already.
    pub(super) fn refuses_creates(&self, now: Moment, waiting: usize) -> bool {
        let lags = |(_, since)| now.monotonic.saturating_since(since) > self.stall;
        self.lacks_recovered()
            || waiting >= self.limits.max_held_for_creates
            || self.mark.is_some_and(lags)
    }

    /// Logs that new orders are refused, or taken again, once each.
    pub(super) fn tell(&mut self, refuses: bool) {
        if refuses && !self.is_told && self.progress.is_away() {
            tracing::error!("{DOES_NOT_ANSWER}");
        } else if refuses && !self.is_told {
            tracing::error!(
                "Postgres commits too slowly: new orders are refused until it catches up"
            );
        } else if !refuses && self.is_told {
            tracing::warn!("Postgres has caught up: new orders are accepted");
        }
        self.is_told = refuses;
    }

    /// Says to other threads whether new orders are refused.
    pub(super) fn set_late(&self, refuses: bool) {
        self.progress.set_late(refuses);
    }

    /// Notes a request past its reply timeout: its answer may be decided and wait for Postgres.
    pub(super) fn note_late(&mut self, now: Moment, order_id: OrderId, to: ReplyTo) {
        let give_up = now.monotonic.saturating_add(self.patience);
        assert!(
            self.late.back().is_none_or(|last| last.give_up <= give_up),
            "late requests are in the order in which they are given up"
        );
        self.late.push_back(LateRequest { give_up, order_id, to });
    }

    /// Answers requests past their reply timeout: that the outcome is not known yet, where readers see
    /// the order without one; and after a while that nothing is known, where they do not see it.
    /// True when there may be more.
    ///
    /// Requests came in this order and so their events were decided: while the first request is not
    /// shown, no later one that changed something is.
    pub(super) fn answer_late(
        &mut self,
        now: Moment,
        limit: usize,
        views: &CommittedViews,
        replies: &mut Replies,
    ) -> bool {
        for _ in 0..limit {
            let Some(&LateRequest { give_up, order_id, to }) = self.late.front() else {
                return false;
            };
            if let Some((kind, user)) = replies.kind_and_user(to) {
                assert!(user.is_some(), "who asks is remembered where answers wait for Postgres");
                if let Some(order) = shown_undecided(views, order_id, kind, user) {
                    self.metrics.postgres_pending.inc();
                    match kind {
                        RequestKind::Create => replies.create(to, CreateReply::Pending(order)),
                        RequestKind::Cancel => replies.cancel(to, CancelReply::Pending(order)),
                    }
                } else if now.monotonic >= give_up {
                    self.metrics.postgres_unknown.inc();
                    match kind {
                        RequestKind::Create => replies.create(to, CreateReply::OutcomeUnknown),
                        RequestKind::Cancel => replies.cancel(to, CancelReply::OutcomeUnknown),
                    }
                } else {
                    return false;
                }
            }
            self.late.pop_front();
        }
        !self.late.is_empty()
    }

    /// How long until a client is to be told that nothing is known.
    pub(super) fn until_given_up(&self, now: MonotonicMicros) -> Option<Duration> {
        self.late.front().map(|late| late.give_up.saturating_since(now))
    }
}

/// An order as readers see it, if they see that its outcome is not known.
fn shown_undecided(
    views: &CommittedViews,
    order_id: OrderId,
    kind: RequestKind,
    user: Option<&UserId>,
) -> Option<Arc<Order>> {
    if views.are_hidden() {
        return None;
    }
    let view = views.user(user?)?;
    let order = view.orders.get(&order_id)?;
    assert_eq!(order.order_id, order_id, "an order is shown under its own id");
    assert_eq!(Some(&order.user), user, "an order is shown to its user");
    let is_undecided = match kind {
        RequestKind::Create => matches!(order.status, Status::Pending | Status::PendingCancel),
        RequestKind::Cancel => order.awaits_cancel(),
    };
    is_undecided.then(|| Arc::clone(order))
}

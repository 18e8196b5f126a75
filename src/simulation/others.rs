//! The other callers of the process: operators who cancel and halt, and the exchange that posts
//! lines to us.

use std::sync::Arc;

use super::durable::DurableLog;
use super::exchange::Exchange;
use super::invariant::{Checked, Invariant, broken, ensure};
use super::published::PublishedLine;
use crate::exchange::PostedLines;
use crate::oms::{CancelScope, LinesDurable, MassCancelled, OrderCommands};
use crate::order::Order;
use crate::wal::Lsn;

/// All of them who wait for an answer.
#[derive(Default)]
pub(super) struct Others {
    mass_cancels: Vec<MassCancel>,
    posts: Vec<Post>,
}

struct MassCancel {
    /// The orders it must reach, as they were.
    orders: Vec<Arc<Order>>,
    answer: oneshot::Receiver<MassCancelled>,
}

struct Post {
    /// The readable lines.
    lines: Vec<PublishedLine>,
    answer: oneshot::Receiver<LinesDurable>,
}

impl Others {
    /// Cancels all open orders in a scope.
    pub(super) fn cancel_all(
        &mut self,
        commands: &OrderCommands,
        scope: CancelScope,
        durable: &DurableLog,
    ) {
        let is_meant = |order: &&Arc<Order>| {
            order.is_open()
                && scope.user.as_ref().is_none_or(|user| order.user == *user)
                && scope.symbol.is_none_or(|symbol| order.symbol == symbol)
        };
        let orders = durable.orders().into_iter().filter(is_meant).cloned().collect();
        if let Ok(answer) = commands.mass_cancel(scope) {
            self.mass_cancels.push(MassCancel { orders, answer });
        }
    }

    /// Posts lines to us, as they are read here.
    pub(super) fn post(
        &mut self,
        commands: &OrderCommands,
        lines: Vec<PublishedLine>,
        PostedLines { session, lines: read }: PostedLines,
    ) {
        if let Ok(answer) = commands.webhook(&session, read) {
            self.posts.push(Post { lines, answer });
        }
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.mass_cancels.len() + self.posts.len()
    }

    /// The process has ended.
    pub(super) fn cut_all(&mut self) {
        self.mass_cancels.clear();
        self.posts.clear();
    }

    /// Checks the answers that have come.
    pub(super) fn take_answers(
        &mut self,
        durable: &DurableLog,
        exchange: &Exchange,
    ) -> Checked<Vec<&'static str>> {
        let mut words = Vec::new();
        for waiting in std::mem::take(&mut self.mass_cancels) {
            match waiting.answer.try_recv() {
                Ok(MassCancelled { is_shown, .. }) => {
                    check_mass_cancel(&waiting.orders, durable)?;
                    if is_shown {
                        check_shown(&waiting.orders, durable)?;
                    }
                    words.push(if is_shown { "mass cancels" } else { "mass cancels not shown" });
                }
                Err(oneshot::TryRecvError::Empty) => self.mass_cancels.push(waiting),
                Err(oneshot::TryRecvError::Disconnected) => return Err(forgotten()),
            }
        }
        for waiting in std::mem::take(&mut self.posts) {
            match waiting.answer.try_recv() {
                Ok(LinesDurable) => {
                    for line in &waiting.lines {
                        ensure(durable.has(line, exchange), Invariant::ConfirmedIsDurable, || {
                            format!("{line:?} is confirmed")
                        })?;
                    }
                    words.push("posted lines confirmed");
                }
                Err(oneshot::TryRecvError::Empty) => self.posts.push(waiting),
                Err(oneshot::TryRecvError::Disconnected) => return Err(forgotten()),
            }
        }
        Ok(words)
    }
}

fn forgotten() -> super::Violation {
    broken(Invariant::OneAnswer, "a running process forgot an operator or the exchange")
}

/// If Postgres is awaited, it has the cancels or the ends of these orders.
fn check_shown(orders: &[Arc<Order>], durable: &DurableLog) -> Checked {
    let Some(has) = durable.postgres else { return Ok(()) };
    for order in orders {
        let mut versions = durable.changes(&order.user, (Lsn(0), has));
        let is_there = versions.any(|(_, there)| {
            let is_asked = there.awaits_cancel() || !there.is_open();
            there.order_id == order.order_id && there.version >= order.version && is_asked
        });
        ensure(is_there, Invariant::SeenIsInPostgres, || {
            format!("the cancel of {order:?} is shown, Postgres has all up to {has}")
        })?;
    }
    Ok(())
}

fn check_mass_cancel(orders: &[Arc<Order>], durable: &DurableLog) -> Checked {
    for order in orders {
        // One that failed here and lives at the exchange is cancelled there in any case.
        let is_asked = order.wants_cancel() || durable.cancel_was_requested(order.order_id);
        // A bust may have reopened it.
        let has_ended = durable.has_ended_since(order.order_id, order.version);
        ensure(is_asked || has_ended, Invariant::MassCancelIsWhole, || {
            format!("{:?} was not asked to be cancelled", durable.order(order.order_id))
        })?;
    }
    Ok(())
}

//! The other callers of the process: operators who cancel and halt, and the exchange that posts
//! lines to us.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::durable::DurableLog;
use super::exchange::Exchange;
use super::invariant::{Checked, Invariant, broken, ensure};
use super::node::Node;
use super::published::PublishedLine;
use crate::engine::CashReply;
use crate::exchange::PostedLines;
use crate::oms::{CancelScope, LinesDurable, MassCancelled, OrderCommands, OrderService};
use crate::order::{CashTerms, OperatorAct, Order};
use crate::types::{CashMovementId, UserId};
use crate::wal::Lsn;

/// All of them who wait for an answer.
#[derive(Default)]
pub(super) struct Others {
    mass_cancels: Vec<MassCancel>,
    posts: Vec<Post>,
    cash: Vec<CashAsked>,
}

/// A movement of cash that an operator has asked for.
struct CashAsked {
    user: UserId,
    id: CashMovementId,
    terms: CashTerms,
    answer: Pin<Box<dyn Future<Output = CashReply>>>,
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

    /// Moves cash of a user.
    pub(super) fn move_cash(
        &mut self,
        service: &OrderService,
        (user, id, terms): (UserId, CashMovementId, CashTerms),
    ) {
        let (service, whose, named) = (service.clone(), user.clone(), id.clone());
        let act = OperatorAct { by: "carol".into(), reason: "by hand".into() };
        let answer = Box::pin(async move { service.move_cash(whose, named, (terms, act)).await });
        self.cash.push(CashAsked { user, id, terms, answer });
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.mass_cancels.len() + self.posts.len() + self.cash.len()
    }

    /// The process has ended.
    pub(super) fn cut_all(&mut self) {
        self.mass_cancels.clear();
        self.posts.clear();
        self.cash.clear();
    }

    /// Checks the answers that have come.
    pub(super) fn take_answers(
        &mut self,
        (durable, exchange): (&DurableLog, &Exchange),
        node: &Node,
    ) -> Checked<Vec<&'static str>> {
        let mut words = Vec::new();
        for mut waiting in std::mem::take(&mut self.cash) {
            let mut context = Context::from_waker(Waker::noop());
            match waiting.answer.as_mut().poll(&mut context) {
                Poll::Ready(reply) => words.push(check_cash(&waiting, &reply, durable, node)?),
                Poll::Pending => self.cash.push(waiting),
            }
        }
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

/// What an operator is told about cash is in the log, and read by everybody.
fn check_cash(
    asked: &CashAsked,
    reply: &CashReply,
    durable: &DurableLog,
    node: &Node,
) -> Checked<&'static str> {
    let CashAsked { user, id, terms, .. } = asked;
    let (expected, words) = match reply {
        CashReply::Moved(_) => (*terms, "cash moved"),
        CashReply::Repeated(_) => (*terms, "cash moved before"),
        CashReply::Conflict(first) => (*first, "ids of other cash movements"),
        CashReply::Refused(_) => return Ok("withdrawals refused"),
        CashReply::NoRoom => return Ok("cash movements refused for room"),
        CashReply::Unavailable => return Ok("cash movements refused"),
        CashReply::NoAccounts | CashReply::CheckAgain | CashReply::OutcomeUnknown => {
            return Err(broken(Invariant::OneAnswer, format!("{id} of {user}: {reply:?}")));
        }
    };
    let recorded = durable.book().cash_terms(user, id);
    ensure(recorded == Some(expected), Invariant::CashMovesOnce, || {
        format!("{id} of {user} is answered with {reply:?}, durable is {recorded:?}")
    })?;
    if let CashReply::Moved(account) | CashReply::Repeated(account) = reply {
        let shown = node.views().user(user).and_then(|view| view.account.clone());
        let stored = || node.index.account(user).ok().flatten().map(Arc::new);
        let read = shown.or_else(stored);
        let is_new = read.as_ref().is_some_and(|read| read.version() >= account.version());
        ensure(is_new, Invariant::AnswerIsReadable, || {
            format!("{id} of {user} is answered with {account:?}, {read:?} is read")
        })?;
    }
    Ok(words)
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

//! Checks answers against the request and against what happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check_context::{CheckContext, Told};
use super::invariant::{Checked, Invariant, broken, ensure};
use crate::engine::{CancelReply, CreateReply};
use crate::exchange::wire::ExchangeStatus;
use crate::oms::CreateOrder;
use crate::order::{Ending, Order, Status};
use crate::types::{OrderId, Side, UserId};

/// Checks the answer to a create. Returns its outcome in words.
pub(super) fn check_create_reply(
    told: &mut Told,
    request: &CreateOrder,
    reply: &CreateReply,
    (context, store_has_moved): (&CheckContext<'_>, bool),
) -> Checked<&'static str> {
    let (order, words) = match reply {
        CreateReply::Accepted(order) => {
            check_own(order, request)?;
            let record = context.exchange.record(order.order_id);
            let is_theirs = record.external_order_id == order.external_order_id;
            let is_named = order.external_order_id.is_some();
            ensure(is_named && is_theirs, Invariant::AnswerIsTrue, || {
                format!("accepted as {order:?}, the exchange has {record:?}")
            })?;
            (order, "accepted")
        }
        CreateReply::Rejected(order) => {
            check_own(order, request)?;
            ensure(order.status == Status::Failed, Invariant::AnswerIsTrue, || {
                format!("rejected as {order:?}")
            })?;
            (order, "rejected")
        }
        CreateReply::Pending(order) => {
            check_own(order, request)?;
            (order, "pending")
        }
        CreateReply::Duplicate(order) => {
            check_body(order, request, true)?;
            (order, "duplicate")
        }
        CreateReply::Conflict(order) => {
            check_body(order, request, false)?;
            (order, "conflict")
        }
        CreateReply::OutcomeUnknown => return Ok("outcome unknown"),
        CreateReply::KeyUnsure | CreateReply::Unavailable => {
            told.refused.insert(request.order_id);
            // Between the lookup in the store and the orders thread, memory may forget the order
            // that a key names.
            let may_be_unsure = request.client_order_id.is_some() && store_has_moved;
            ensure(context.may_refuse || may_be_unsure, Invariant::RefusedForRoom, || {
                format!("{} was refused while there is room", request.order_id)
            })?;
            return Ok("refused");
        }
        CreateReply::NoRoom => {
            told.refused.insert(request.order_id);
            ensure(context.is_full, Invariant::RefusedForRoom, || {
                format!("{} was refused for want of room that there is", request.order_id)
            })?;
            return Ok("refused for room");
        }
        CreateReply::Halted(_) => {
            told.refused.insert(request.order_id);
            return Ok("halted");
        }
        CreateReply::ExchangeAway => {
            told.refused.insert(request.order_id);
            return Ok("exchange away");
        }
        CreateReply::ExchangeBusy => {
            told.refused.insert(request.order_id);
            return Ok("exchange busy");
        }
        CreateReply::Unfunded(_) => {
            told.refused.insert(request.order_id);
            return Ok("unfunded");
        }
        CreateReply::PriceUnavailable => {
            told.refused.insert(request.order_id);
            let needs_price = request.side == Side::Buy && request.limit_price.is_none();
            ensure(needs_price && request.last_price.is_none(), Invariant::AnswerIsTrue, || {
                format!("{} was refused for want of a price", request.order_id)
            })?;
            return Ok("no price");
        }
    };
    check_name(told, order, request)?;
    Ok(words)
}

/// The requested order, and no other.
fn check_own(order: &Order, request: &CreateOrder) -> Checked {
    let is_own = order.order_id == request.order_id && has_body(order, request);
    ensure(is_own, Invariant::AnswerIsTrue, || format!("{request:?} was answered {order:?}"))
}

/// The order that the key named first.
fn check_body(order: &Order, request: &CreateOrder, same: bool) -> Checked {
    let has_key = order.client_order_id.is_some()
        && order.client_order_id == request.client_order_id
        && order.order_id != request.order_id;
    ensure(has_key && has_body(order, request) == same, Invariant::OneKeyOneOrder, || {
        format!("{request:?} was answered {order:?}")
    })
}

fn check_name(told: &mut Told, order: &Order, request: &CreateOrder) -> Checked {
    let Some(key) = &request.client_order_id else { return Ok(()) };
    let name = (request.user.clone(), key.clone());
    let first = *told.names.entry(name).or_insert(order.order_id);
    ensure(first == order.order_id, Invariant::OneKeyOneOrder, || {
        format!("{key} of {} named {first}, now {}", request.user, order.order_id)
    })
}

fn has_body(order: &Order, request: &CreateOrder) -> bool {
    order.symbol == request.symbol
        && order.side == request.side
        && order.limit_price == request.limit_price
        && order.time_in_force == request.time_in_force
        && order.num_shares == request.num_shares
}

/// Checks the answer to a cancel. Returns its outcome in words.
pub(super) fn check_cancel_reply(
    (order_id, is_theirs): (OrderId, bool),
    reply: &CancelReply,
    context: &CheckContext<'_>,
) -> Checked<&'static str> {
    let is_true = |holds: bool, order: &Order, words: &str| {
        let status = context.exchange.record(order_id).status;
        ensure(holds, Invariant::AnswerIsTrue, || {
            format!("{words} was answered with {order:?}, at the exchange it is {status:?}")
        })
    };
    match reply {
        CancelReply::Cancelled(order) => {
            let lives = context.exchange.record(order_id).status == ExchangeStatus::Open;
            let by_user = order.ending() == Some(Ending::CancelledByUser);
            let is_cancelled = order.status == Status::Cancelled && by_user;
            is_true(is_cancelled && !lives, order, "cancelled")?;
            Ok("cancelled")
        }
        CancelReply::Pending(order) => {
            let waits = matches!(order.status, Status::Pending | Status::PendingCancel);
            is_true(waits, order, "not known yet")?;
            Ok("cancel pending")
        }
        CancelReply::Conflict(order) => {
            let waits = matches!(order.status, Status::Pending | Status::PendingCancel);
            let by_user = order.ending() == Some(Ending::CancelledByUser);
            is_true(!waits && !by_user, order, "not cancelled")?;
            Ok("cancel conflict")
        }
        CancelReply::NotFound => {
            let known = || format!("{order_id} was acknowledged and is not found");
            ensure(!is_theirs, Invariant::NeverLost, known)?;
            Ok("cancel not found")
        }
        CancelReply::Unavailable if context.may_refuse => Ok("cancel refused"),
        CancelReply::OutcomeUnknown => Ok("cancel outcome unknown"),
        CancelReply::NoRoom if context.is_exhausted => Ok("cancel refused for room"),
        CancelReply::NoRoom | CancelReply::Unavailable => {
            Err(broken(Invariant::RefusedForRoom, "a cancel was refused while there is room"))
        }
    }
}

/// Checks a list of all orders of a user: newest first, each once, none missing, and none older
/// than an earlier read.
pub(super) fn check_list(
    user: &UserId,
    known: &BTreeMap<OrderId, u64>,
    orders: &[Arc<Order>],
) -> Checked {
    for (newer, older) in orders.iter().zip(orders.iter().skip(1)) {
        ensure(newer.order_id > older.order_id, Invariant::ListIsWhole, || {
            format!("{newer:?} is listed before {older:?}")
        })?;
    }
    let listed: BTreeMap<OrderId, &Arc<Order>> =
        orders.iter().map(|order| (order.order_id, order)).collect();
    for (order_id, order) in &listed {
        ensure(order.user == *user, Invariant::UsersIndependent, || {
            format!("{user} is shown {order_id} of {}", order.user)
        })?;
    }
    for (order_id, version) in known {
        let order = listed.get(order_id);
        ensure(
            order.is_some_and(|order| order.version >= *version),
            Invariant::ListIsWhole,
            || format!("version {version} of {order_id} was read before, listed is {order:?}"),
        )?;
    }
    Ok(())
}

//! `DELETE /orders`: cancels a user's open orders, each as `DELETE /order/:id` would, since each gets an
//! outcome of its own. The operators' mass cancel has none, and visits the open orders of many users.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{StatusCode, Uri};
use serde::Serialize;

use super::order_list::read_symbols;
use super::orders::{Cancelled, cancel_outcome, store_unavailable};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::{Query, invalid};
use crate::oms::CancelReply;
use crate::order::{Order, OrderFilter, PageRequest, Sequence, StatusSet};
use crate::runtime::sleep;
use crate::types::OrderId;

/// Most orders that one request cancels: as many as an answer has room for.
const MAX_ORDERS: usize = 500;
/// Other tasks run meanwhile: awaiting a timer is what lets them.
const PAUSE: Duration = Duration::from_micros(1);

#[derive(Debug, Serialize)]
struct Outcomes {
    orders: Vec<Outcome>,
    /// There are open orders that nobody has cancelled: the request is to be repeated.
    more: bool,
}

/// What came of one order's cancel.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    order_id: OrderId,
    /// `cancelled`, `pending_cancel`, or the code of a problem.
    outcome: &'static str,
    /// What the problem says.
    detail: Option<String>,
    /// The order as it is then, where that is known.
    order: Option<Arc<Order>>,
}

/// `DELETE /orders`.
pub(in crate::http) async fn delete(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    let filter = read(&call.head.uri)?;
    let (targets, more) = targets(app, call, filter).await?;
    let cancels = targets.iter().map(|order| cancel(app, call, order.order_id));
    let mut outcomes = Vec::with_capacity(targets.len());
    let mut passing = None;
    for (order_id, order, outcome) in join_all(cancels).await {
        let (outcome, detail) = match outcome {
            Ok(Cancelled::Confirmed) => ("cancelled", None),
            Ok(Cancelled::Pending(_)) => ("pending_cancel", None),
            Err(problem) => {
                let said = (problem.code(), Some(problem.detail().to_owned()));
                if problem.is_passing() {
                    passing.get_or_insert(problem);
                }
                said
            }
        };
        outcomes.push(Outcome { order_id, outcome, detail, order });
    }
    match passing {
        // Nothing has happened: the request may be made again, perhaps at another node.
        Some(problem) if outcomes.iter().all(|one| one.outcome == problem.code()) => Err(problem),
        _ => Ok(json_response(StatusCode::OK, &Outcomes { orders: outcomes, more })),
    }
}

async fn cancel(
    app: &App,
    call: &Call,
    order_id: OrderId,
) -> (OrderId, Option<Arc<Order>>, Result<Cancelled, Problem>) {
    let reply = app.site.orders.cancel(call.user.clone(), order_id).await;
    let order = match &reply {
        CancelReply::Cancelled(order)
        | CancelReply::Pending(order)
        | CancelReply::Conflict(order) => Some(Arc::clone(order)),
        CancelReply::NotFound
        | CancelReply::NoRoom
        | CancelReply::OutcomeUnknown
        | CancelReply::Unavailable => None,
    };
    (order_id, order, cancel_outcome(app, order_id, reply))
}

/// The orders to cancel, and whether there are more: first those that nobody has cancelled, oldest first,
/// then those whose cancel has no outcome yet.
async fn targets(
    app: &App,
    call: &Call,
    filter: OrderFilter,
) -> Result<(Vec<Arc<Order>>, bool), Problem> {
    let sequence = Sequence::OldestFirst;
    let mut request = PageRequest { filter, sequence, after: None, limit: MAX_ORDERS };
    let (mut fresh, mut awaited) = (Vec::new(), Vec::new());
    loop {
        let part = app.site.orders.page(&call.user, &request).await.map_err(store_unavailable)?;
        for order in part.orders {
            if order.awaits_cancel() { &mut awaited } else { &mut fresh }.push(order);
        }
        awaited.truncate(MAX_ORDERS);
        request.after = part.next;
        if request.after.is_none() || fresh.len() > MAX_ORDERS {
            break;
        }
        sleep(PAUSE).await;
    }
    let more = fresh.len() > MAX_ORDERS;
    fresh.extend(awaited);
    fresh.truncate(MAX_ORDERS);
    Ok((fresh, more))
}

fn read(uri: &Uri) -> Result<OrderFilter, Problem> {
    let query = Query::parse_with_lists(uri, &["symbol"], &["symbol"])?;
    let symbols = read_symbols(&query)?;
    // In a list an empty one is as good as none. Here it would be all orders.
    if query.has("symbol") && symbols.is_empty() {
        return Err(invalid(
            "symbol",
            "",
            "a symbol; without `symbol` all open orders are cancelled",
        ));
    }
    Ok(OrderFilter { statuses: StatusSet::open(), symbols, ..OrderFilter::default() })
}

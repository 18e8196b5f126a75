//! `GET /order/:id/executions`: the fills of one order.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use super::orders::{store_unavailable, unknown_order};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::{Query, invalid};
use crate::oms::StoreUnavailable;
use crate::order::ListedExecution;
use crate::runtime::timeout;
use crate::types::{ExecutionId, OrderId};

/// Default number of executions per page.
const DEFAULT_LIMIT: usize = 100;
/// Most executions per page.
const MAX_LIMIT: usize = 1_000;
/// Longest wait for the store to have the newest version of the order.
const STORE_DEADLINE: Duration = Duration::from_secs(2);
const A_CURSOR: &str = "a cursor from an earlier page";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    executions: Vec<ListedExecution>,
    next_cursor: Option<ExecutionId>,
}

/// `GET /order/:id/executions`. Another user's order is as unknown as one that does not exist.
pub(in crate::http) async fn list(
    app: &App,
    call: &Call,
    id: &str,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(&call.head.uri, &["limit", "cursor"])?;
    let limit = query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
    let cursor = query.get("cursor");
    let order_id: OrderId = id.parse().map_err(|_| unknown_order(id))?;
    let found = timeout(STORE_DEADLINE, app.site.orders.executions(&call.user, order_id)).await;
    let found = found.unwrap_or(Err(StoreUnavailable)).map_err(store_unavailable)?;
    let executions = found.ok_or_else(|| unknown_order(id))?;
    // New ones come at the end, so that the place after a cursor stays.
    let passed = match cursor {
        None => 0,
        Some(cursor) => {
            let place = executions.iter().position(|one| one.execution_id.as_str() == cursor);
            place.ok_or_else(|| invalid("cursor", cursor, A_CURSOR))? + 1
        }
    };
    let has_more = executions.len() > passed + limit;
    let executions: Vec<_> = executions.into_iter().skip(passed).take(limit).collect();
    let last = executions.last().filter(|_| has_more);
    let next_cursor = last.map(|last| last.execution_id.clone());
    Ok(json_response(StatusCode::OK, &Page { executions, next_cursor }))
}

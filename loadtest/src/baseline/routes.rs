//! The routes of the peer.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Site,
    auth::User,
    exchange::Submitted,
    order::{NewOrder, Order},
    problem::Problem,
    store::PageRequest,
};

/// Default and maximum page size.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

/// The query of `GET /orders`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    status: Option<String>,
    symbol: Option<String>,
    limit: Option<i64>,
    cursor: Option<Uuid>,
}

/// The answer to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    orders: Vec<Order>,
    next_cursor: Option<Uuid>,
}

/// `POST /order`: insert, send, update.
pub(super) async fn create(
    State(site): State<Arc<Site>>,
    User(user): User,
    body: Result<Json<NewOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body.map_err(|error| Problem::invalid(&error.body_text()))?;
    if !site.symbols.contains(&new.symbol) {
        return Err(Problem::invalid("symbol: the exchange does not list it"));
    }
    let mut order = new.of_user(user)?;
    site.store.insert(&order).await?;
    match site.exchange.submit(&order).await {
        Submitted::Accepted(external_order_id) => {
            order.accept(external_order_id);
            site.store.update(&order).await?;
            Ok((StatusCode::CREATED, Json(order)).into_response())
        }
        Submitted::Rejected(reason) => {
            order.reject(reason);
            site.store.update(&order).await?;
            Err(Problem::rejected(order))
        }
        Submitted::Unknown => Ok((StatusCode::ACCEPTED, Json(order)).into_response()),
    }
}

/// `GET /order/:id`.
pub(super) async fn read(
    State(site): State<Arc<Site>>,
    User(user): User,
    Path(id): Path<String>,
) -> Result<Json<Order>, Problem> {
    let order_id = Uuid::try_parse(&id).map_err(|_| Problem::not_found())?;
    site.store.order(&user, order_id).await?.map(Json).ok_or_else(Problem::not_found)
}

/// `GET /orders`: newest first.
pub(super) async fn list(
    State(site): State<Arc<Site>>,
    User(user): User,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(query) = query.map_err(|error| Problem::invalid(&error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit must be from 1 to 500"));
    }
    let wanted = PageRequest {
        before: query.cursor,
        status: query.status,
        symbol: query.symbol,
        limit: limit + 1,
    };
    let mut orders = site.store.page(&user, &wanted).await?;
    // One more than requested shows whether there is another page.
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = orders.len() > wanted;
    orders.truncate(wanted);
    let next_cursor = orders.last().map(|order| order.order_id).filter(|_| has_more);
    Ok(Json(Page { orders, next_cursor }))
}

//! Admin routes that set faults and restart the exchange while it runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::faults::{FaultSettings, MAX_FORGET_MILLIS};
use super::listener::Connection;
use super::problem::{Problem, Reply, json, read_body, read_json, unavailable};
use super::state::Shared;
use super::venue::ListedOrder;
use crate::types::ExternalOrderId;

/// Orders per page of `GET /admin/orders`.
const ORDERS_OF_A_PAGE: usize = 1_000;

/// `/admin/faults`, `/admin/restart` and `/admin/orders`.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/admin/faults", get(report_faults).put(set_faults))
        .route("/admin/restart", post(restart))
        .route("/admin/orders", get(list_orders))
}

async fn report_faults(State(shared): State<Arc<Shared>>) -> Reply {
    let session = shared.look(|state| state.feed_session.to_string());
    json(&shared.faults.report(session))
}

async fn set_faults(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    let body = read_body(body)?;
    let settings = FaultSettings::from_json(&body);
    let settings = settings.map_err(|error| Problem::bad_request(error.to_string()))?;
    tracing::info!(?settings, "faults are set");
    shared.faults.set(settings);
    report_faults(State(shared)).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Restart {
    #[serde(default)]
    forget_ms: u64,
    /// The feed restarts its numbering under the same session name.
    #[serde(default)]
    keep_session: bool,
}

async fn restart(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    let Restart { forget_ms, keep_session } = read_json(&read_body(body)?)?;
    if forget_ms > MAX_FORGET_MILLIS {
        let detail = format!("forgetMs: {forget_ms} is not a number from 0 to {MAX_FORGET_MILLIS}");
        return Err(Problem::bad_request(detail));
    }
    if !shared.look(|state| state.has_journal()) {
        let detail = "the exchange has no data directory, so there is nothing to reopen";
        return Err(Problem::new(StatusCode::CONFLICT, "no_journal", detail));
    }
    // Restart once this answer is sent.
    let forget = Duration::from_millis(forget_ms);
    connection.when_closed(move || shared.request_restart(forget, keep_session));
    Ok((StatusCode::ACCEPTED, [(header::CONNECTION, "close")]).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrdersQuery {
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct OrdersAnswer {
    orders: Vec<ListedOrder>,
}

async fn list_orders(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<OrdersQuery>, QueryRejection>,
) -> Reply {
    let Query(OrdersQuery { after }) =
        query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    // An empty one is the same as none.
    let after = after.filter(|after| !after.is_empty()).map(|after| ExternalOrderId::new(&after));
    let after = after.transpose().map_err(|error| Problem::bad_request(error.to_string()))?;
    if !shared.is_written() {
        return Err(unavailable());
    }
    let orders = shared.look(|state| state.venue.list(after.as_ref(), ORDERS_OF_A_PAGE));
    json(&OrdersAnswer { orders })
}

//! The client of the exchange: one order per request, over as many kept-alive connections as needed.

use std::{net::SocketAddr, time::Duration};

use axum::http::{Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::order::Order;

/// Longest wait for an answer, the same as Longbow's.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of a submit after the order's creation, in microseconds.
const SUBMIT_WINDOW_MICROS: i64 = 5_000_000;
/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// `POST /v1/orders`.
#[derive(Serialize)]
struct SubmitRequest<'a> {
    orders: [SubmitOrder<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubmitOrder<'a> {
    client_order_id: uuid::Uuid,
    side: &'a str,
    symbol: &'a str,
    #[serde(rename = "type")]
    order_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_price_in_cents: Option<i64>,
    time_in_force: &'a str,
    num_shares: i64,
    submit_before: i64,
}

/// The answer.
#[derive(Deserialize)]
struct SubmitResponse {
    results: Vec<SubmitResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubmitResult {
    external_order_id: Option<String>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// The outcome of a submit.
#[derive(Debug)]
pub(super) enum Submitted {
    /// Accepted, with the exchange's id.
    Accepted(String),
    /// Rejected, with the reason.
    Rejected(String),
    /// No readable answer.
    Unknown,
}

/// A client of the exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    client: Client<HttpConnector, Full<Bytes>>,
    orders: Uri,
}

impl Exchange {
    /// A client of the exchange at this address.
    pub(super) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        let orders = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query("/v1/orders")
            .build();
        // A socket address is always an authority.
        Self { client, orders: orders.unwrap_or_default() }
    }

    /// Sends an order.
    pub(super) async fn submit(&self, order: &Order) -> Submitted {
        match timeout(ANSWER_TIMEOUT, self.answer(order)).await {
            Ok(Some(submitted)) => submitted,
            Ok(None) | Err(_) => Submitted::Unknown,
        }
    }

    async fn answer(&self, order: &Order) -> Option<Submitted> {
        let body = SubmitRequest {
            orders: [SubmitOrder {
                client_order_id: order.order_id,
                side: &order.position,
                symbol: &order.symbol,
                order_type: order.order_type,
                limit_price_in_cents: order.price_in_cents,
                time_in_force: &order.time_in_force,
                num_shares: order.num_shares,
                submit_before: order.created_at.saturating_add(SUBMIT_WINDOW_MICROS),
            }],
        };
        let body = serde_json::to_vec(&body).ok()?;
        let request = Request::post(self.orders.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .ok()?;
        let answer = self.client.request(request).await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let bytes = answer.into_body().collect().await.ok()?.to_bytes();
        let answer: SubmitResponse = serde_json::from_slice(&bytes).ok()?;
        let result = answer.results.into_iter().next()?;
        match (result.external_order_id, result.error) {
            (Some(id), _) => Some(Submitted::Accepted(id)),
            (None, Some(Refusal { code, message })) => {
                Some(Submitted::Rejected(format!("{code}: {message}")))
            }
            (None, None) => None,
        }
    }
}

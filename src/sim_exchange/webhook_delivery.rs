//! Delivers lines to a webhook.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::state::Shared;
use super::webhook::{Batch, signature};
use crate::types::Backoff;

/// Time limit for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest body of an answer that is read; a longer one costs the connection.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// Pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Delivers to one webhook forever: retries the oldest lines until they are accepted.
pub(super) async fn deliver(shared: Arc<Shared>, place: usize) {
    let Some(filled) = shared.look(|state| state.webhooks.filled(place)) else { return };
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(ANSWER_TIMEOUT));
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let now = shared.now();
        let next = shared.look(|state| state.webhooks.next_batch(place, state.feed_session, now));
        let Some(batch) = next else {
            filled.notified().await;
            continue;
        };
        let (end, count) = (batch.end, batch.count);
        match post(&client, batch, now.micros() / 1_000_000).await {
            Ok(()) => {
                shared.with_webhooks(|webhooks| webhooks.delivered(place, end));
                backoff.reset();
            }
            Err(problem) => {
                tracing::info!(problem, lines = count, "a webhook did not accept its lines");
                tokio::time::sleep(backoff.advance()).await;
            }
        }
    }
}

async fn post(
    client: &Client<HttpConnector, Full<Bytes>>,
    batch: Batch,
    unix_seconds: u64,
) -> Result<(), String> {
    let signature = signature(&batch.secrets, unix_seconds, &batch.body);
    let request = http::Request::post(&batch.url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header("X-Signature", signature)
        .body(Full::new(batch.body))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = client.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        // The body does not matter; a broken one costs only the connection.
        let _ = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
}

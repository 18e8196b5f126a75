use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use glommio::timer::timeout;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::address::ExchangeAddress;
use super::wire::{
    CancelRequest, CancelResponse, QueryRequest, QueryResponse, SubmitRequest, SubmitResponse,
    WebhookRequest,
};
use crate::net::{HyperIo, connect};

/// Longest answer that is read: 256 queried orders with 500 executions of 120 bytes each.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// A connection that the exchange had closed is replaced at once, so often within one request.
const MAX_STALE_CONNECTIONS: usize = 2;

/// Where the exchange is and how long it may take.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Its address.
    pub address: SocketAddr,
    /// `host:port` for the `Host` header.
    pub authority: String,
    /// Local address to connect from; the system chooses without one.
    pub source: Option<IpAddr>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer. After it the outcome is unknown.
    pub request_timeout: Duration,
}

impl SessionOptions {
    /// Looks the exchange up and takes the usual times: a second each.
    ///
    /// # Errors
    /// The name is unknown or the resolver does not answer.
    pub fn new(exchange: &ExchangeAddress) -> io::Result<Self> {
        Ok(Self {
            address: exchange.resolve()?,
            authority: exchange.authority(),
            source: None,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
        })
    }
}

/// Why a request has no answer. The difference decides what may be done about it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Not a byte of it left: it may be sent again.
    #[error("the request was not sent to the exchange: {0}")]
    NotSent(String),
    /// The exchange may have acted on it: it must not be sent again as if it had not.
    #[error("what became of the request is not known: {0}")]
    OutcomeUnknown(String),
    /// The same, because no answer came in time.
    #[error("what became of the request is not known: no answer within {0:?}")]
    TimedOut(Duration),
}

/// One connection to the exchange over which one request at a time goes. Connects when it has
/// something to send.
pub struct ExchangeSession {
    options: SessionOptions,
    live: Option<Live>,
}

/// An open connection. Dropping it closes it.
struct Live {
    sender: SendRequest<Full<Bytes>>,
    _driving: glommio::Task<()>,
}

impl ExchangeSession {
    /// A session that has not connected yet.
    pub fn new(options: SessionOptions) -> Self {
        Self { options, live: None }
    }

    /// `POST /v1/orders`.
    ///
    /// # Errors
    /// No answer, and whether the request was sent.
    pub async fn submit(
        &mut self,
        request: &SubmitRequest,
    ) -> Result<SubmitResponse, SessionError> {
        self.post("/v1/orders", request).await
    }

    /// `POST /v1/cancels`.
    ///
    /// # Errors
    /// No answer, and whether the request was sent.
    pub async fn cancel(
        &mut self,
        request: &CancelRequest,
    ) -> Result<CancelResponse, SessionError> {
        self.post("/v1/cancels", request).await
    }

    /// `POST /v1/orders/query`.
    ///
    /// # Errors
    /// No answer, and whether the request was sent.
    pub async fn query(&mut self, request: &QueryRequest) -> Result<QueryResponse, SessionError> {
        self.post("/v1/orders/query", request).await
    }

    /// `POST /v1/webhooks`. May be repeated.
    ///
    /// # Errors
    /// No answer, or another than `2xx`.
    pub async fn register_webhook(&mut self, request: &WebhookRequest) -> Result<(), SessionError> {
        self.send("/v1/webhooks", request).await.map(drop)
    }

    async fn post<A: DeserializeOwned>(
        &mut self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<A, SessionError> {
        let answer = self.send(path, body).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| SessionError::OutcomeUnknown(format!("unreadable answer: {error}")))
    }

    /// Sends a request and returns the body of its answer.
    async fn send(
        &mut self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<Bytes, SessionError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| SessionError::NotSent(format!("it cannot be written: {error}")))?;
        let body = Bytes::from(body);
        let mut stale_connections = 0;
        loop {
            let mut live = match self.live.take() {
                Some(live) => live,
                None => self.connect().await?,
            };
            // `live` comes back only after a whole answer: on a cut or a timeout it is closed.
            match self.exchange(&mut live, path, body.clone()).await {
                Ok(answer) => {
                    self.live = Some(live);
                    return Ok(answer);
                }
                Err(SessionError::NotSent(_)) if stale_connections < MAX_STALE_CONNECTIONS => {
                    stale_connections += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&self) -> Result<Live, SessionError> {
        let not_sent = |error: String| SessionError::NotSent(error);
        let stream =
            connect(self.options.address, self.options.source, self.options.connect_timeout)
                .await
                .map_err(|error| not_sent(error.to_string()))?;
        let (sender, connection) =
            handshake(HyperIo::new(stream)).await.map_err(|error| not_sent(error.to_string()))?;
        let driving = glommio::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the exchange ended");
            }
        });
        Ok(Live { sender, _driving: driving })
    }

    /// Sends one request and reads its whole answer.
    async fn exchange(
        &self,
        live: &mut Live,
        path: &'static str,
        body: Bytes,
    ) -> Result<Bytes, SessionError> {
        let request = Request::post(path)
            .header(header::HOST, &self.options.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| SessionError::NotSent(error.to_string()))?;
        let limit = self.options.request_timeout;
        let answered = timeout(limit, async { Ok(ask(live, request).await) });
        answered.await.unwrap_or(Err(SessionError::TimedOut(limit)))
    }
}

async fn ask(live: &mut Live, request: Request<Full<Bytes>>) -> Result<Bytes, SessionError> {
    let unknown = |reason: String| SessionError::OutcomeUnknown(reason);
    if let Err(error) = live.sender.ready().await {
        return Err(SessionError::NotSent(error.to_string()));
    }
    let answer = live.sender.try_send_request(request).await.map_err(|mut failed| {
        let reason = failed.error().to_string();
        // The request comes back only when nothing of it was written.
        match failed.take_message() {
            Some(_) => SessionError::NotSent(reason),
            None => unknown(reason),
        }
    })?;
    let status = answer.status();
    if !status.is_success() {
        return Err(unknown(format!("the exchange answered {status}")));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok(body.map_err(|error| unknown(error.to_string()))?.to_bytes())
}

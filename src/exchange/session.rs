//! One keep-alive connection to the exchange: submits, cancels and queries over HTTP/1.1.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use serde::Serialize;

use super::dial::Dialer;
use super::reading::{ResultElement, Results, read_results};
use super::wire::{
    CancelRequest, CancelResult, QueryRequest, QueryResult, SubmitRequest, SubmitResult,
    WebhookRequest,
};
use crate::runtime::{HyperIo, Task, TcpStream, adopt_stream, connect, spawn_local, timeout};

/// Longest answer read: 256 queried orders with 500 executions of 120 bytes each.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Longest body of a `429` that is read to its end; a longer one costs the connection.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// Most connections, closed by the exchange while idle, that one request replaces before it fails.
const MAX_STALE_CONNECTIONS: usize = 2;

/// Options of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Shared by all sessions.
    pub dialer: Dialer,
    /// `host:port` for the `Host` header.
    pub authority: String,
    /// Local address to connect from; `None` lets the system choose.
    pub source: Option<IpAddr>,
    /// Time limit for connecting, the name lookup included.
    pub connect_timeout: Duration,
    /// Time limit for an answer; past it the outcome is unknown.
    pub request_timeout: Duration,
}

impl SessionOptions {
    /// Defaults: a second for each timeout.
    pub fn new(dialer: impl Into<Dialer>) -> Self {
        let dialer = dialer.into();
        Self {
            authority: dialer.exchange().authority(),
            dialer,
            source: None,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
        }
    }
}

/// Why a request has no answer. Callers decide by this whether to send it again.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nothing was sent: the request may be repeated.
    #[error("the request was not sent to the exchange: {0}")]
    NotSent(String),
    /// The exchange may have acted on the request: it must not be repeated blindly.
    #[error("the outcome of the request is unknown: {0}")]
    OutcomeUnknown(String),
    /// Like `OutcomeUnknown`: no answer came in time.
    #[error("the outcome of the request is unknown: no answer within {0:?}")]
    TimedOut(Duration),
    /// The exchange answered `429`: it did nothing, and the request may be repeated later.
    #[error("the exchange is throttling requests (429)")]
    Throttled {
        /// How long to wait, if the exchange said so.
        retry_after: Option<Duration>,
    },
}

/// A connection to the exchange that carries one request at a time. Connects on first use.
pub struct ExchangeSession {
    options: SessionOptions,
    live: Option<Live>,
}

/// An open connection. Dropping it closes it.
struct Live {
    sender: SendRequest<Full<Bytes>>,
    /// The peer's address, and the dialer's change count when it was last known to be right.
    peer: SocketAddr,
    changes: u64,
    _driving: Task<()>,
}

impl ExchangeSession {
    /// A session that has not connected yet.
    pub fn new(options: SessionOptions) -> Self {
        Self { options, live: None }
    }

    /// `POST /v1/orders`.
    ///
    /// There is no answer; the error says whether the request was sent.
    /// No answer, and whether the request was sent.
    pub async fn submit(
        &mut self,
        request: &SubmitRequest,
    ) -> Result<Results<SubmitResult>, SessionError> {
        self.post("/v1/orders", request).await
    }

    /// `POST /v1/cancels`.
    ///
    /// There is no answer; the error says whether the request was sent.
    /// No answer, and whether the request was sent.
    pub async fn cancel(
        &mut self,
        request: &CancelRequest,
    ) -> Result<Results<CancelResult>, SessionError> {
        self.post("/v1/cancels", request).await
    }

    /// `POST /v1/orders/query`.
    ///
    /// There is no answer; the error says whether the request was sent.
    /// No answer, and whether the request was sent.
    pub async fn query(
        &mut self,
        request: &QueryRequest,
    ) -> Result<Results<QueryResult>, SessionError> {
        self.post("/v1/orders/query", request).await
    }

    /// `POST /v1/webhooks`. Safe to repeat.
    ///
    /// # Errors
    /// There is no answer, or its status is not `2xx`.
    pub async fn register_webhook(&mut self, request: &WebhookRequest) -> Result<(), SessionError> {
        self.send("/v1/webhooks", request).await.map(drop)
    }

    async fn post<T: ResultElement>(
        &mut self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<Results<T>, SessionError> {
        let answer = self.send(path, body).await?;
        read_results(&answer)
            .map_err(|error| SessionError::OutcomeUnknown(format!("unreadable answer: {error}")))
    }

    /// Sends a request and returns the body of its answer.
    async fn send(
        &mut self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<Bytes, SessionError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            SessionError::NotSent(format!("the request cannot be encoded: {error}"))
        })?;
        let body = Bytes::from(body);
        let mut stale_connections = 0;
        loop {
            let mut live = match self.live.take().filter(|live| self.is_current(live)) {
                Some(live) => live,
                None => self.connect().await?,
            };
            // `live` is put back only after a complete answer; a cut or a timeout drops, and so
            // closes, it.
            match self.exchange(&mut live, path, body.clone()).await {
                Ok(answer) => {
                    self.live = Some(live);
                    return Ok(answer);
                }
                Err(error @ SessionError::Throttled { .. }) => {
                    self.live = Some(live);
                    return Err(error);
                }
                Err(SessionError::NotSent(_)) if stale_connections < MAX_STALE_CONNECTIONS => {
                    stale_connections += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the exchange's name still resolves to this connection's address.
    fn is_current(&self, live: &Live) -> bool {
        let dialer = &self.options.dialer;
        live.changes == dialer.changes() || dialer.leads_to(live.peer)
    }

    async fn connect(&self) -> Result<Live, SessionError> {
        let not_sent = |error: io::Error| SessionError::NotSent(error.to_string());
        let (stream, peer) = self.dial().await.map_err(not_sent)?;
        let dialer = &self.options.dialer;
        // If the name changed meanwhile, the peer's address is checked before each request.
        let changes = dialer.changes();
        let is_right = changes == 0 || dialer.leads_to(peer);
        let changes = if is_right { changes } else { u64::MAX };
        let connected = handshake(HyperIo::new(stream)).await;
        let (sender, connection) =
            connected.map_err(|error| SessionError::NotSent(error.to_string()))?;
        let driving = spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the exchange ended");
            }
        });
        Ok(Live { sender, peer, changes, _driving: driving })
    }

    async fn dial(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let SessionOptions { dialer, source, connect_timeout, .. } = &self.options;
        if let Some(address) = dialer.exchange().literal() {
            return Ok((connect(address, *source, *connect_timeout).await?, address));
        }
        // Lookups and address races block, so they run on a thread. Dropping the future ends it.
        let (done, outcome) = oneshot::channel();
        let (dialer, source, connect_timeout) = (dialer.clone(), *source, *connect_timeout);
        std::thread::Builder::new().name("dial".to_owned()).spawn(move || {
            let stream = dialer.connect(source, connect_timeout, &|| done.is_closed());
            let _nobody_waits = done.send(stream);
        })?;
        let stream = outcome.await.map_err(io::Error::other)??;
        let peer = stream.peer_addr()?;
        Ok((adopt_stream(stream), peer))
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
        let answered = timeout(limit, ask(live, request));
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
        // hyper hands the request back only if nothing of it was written.
        match failed.take_message() {
            Some(_) => SessionError::NotSent(reason),
            None => unknown(reason),
        }
    })?;
    let status = answer.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = retry_after(answer.headers(), SystemTime::now());
        // Read the body to its end, so that the connection can be reused.
        let body = Limited::new(answer.into_body(), MAX_REFUSAL_BYTES).collect().await;
        let _closed_by_hyper = body.map(drop);
        return Err(SessionError::Throttled { retry_after });
    }
    if !status.is_success() {
        return Err(unknown(format!("the exchange answered {status}")));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok(body.map_err(|error| unknown(error.to_string()))?.to_bytes())
}

/// The pause that `Retry-After` asks for: seconds, or a date. A date is compared with the
/// exchange's own clock if the answer carries `Date` (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let at = date(value)?;
    let now = text(header::DATE).and_then(date).unwrap_or(now);
    // A date in the past means no pause.
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_exchanges_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_732_400_000);
        let said = |value: &str, date: Option<SystemTime>| {
            let mut all = headers(&[(header::RETRY_AFTER, value)]);
            if let Some(date) = date {
                all.insert(header::DATE, httpdate::fmt_http_date(date).parse().unwrap());
            }
            retry_after(&all, now).map(|pause| pause.as_secs())
        };
        let at = |seconds: u64| httpdate::fmt_http_date(now + Duration::from_secs(seconds));
        assert_eq!(said("7", None), Some(7));
        assert_eq!(said(&at(9), None), Some(9));
        assert_eq!(said(&at(9), Some(now + Duration::from_secs(6))), Some(3), "its clock is ahead");
        assert_eq!(said(&at(0), Some(now + Duration::from_secs(6))), Some(0));
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(said(odd, None), None, "{odd}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}

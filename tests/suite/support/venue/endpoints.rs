//! The exchange's connections: requests, answers, the feed, and webhook posts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Request as HttpRequest;

use super::book::State;
use super::wire::{Wire, answer_bytes, read_chunks};
use super::{
    CANCEL, EXECUTIONS, FEED, QUERY, Reply, Request, SUBMIT, SYMBOLS, Shared, Venue, WEBHOOKS,
    each, signature, text,
};
use crate::support::{PATIENCE, api};

/// Answers of the exchange.
impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes a request.
    pub(super) fn serve(&self, request: &Request) -> (u16, Value) {
        let mut state = self.lock();
        let answer = match (request.method.as_str(), request.path.as_str()) {
            ("GET", SYMBOLS) => (200, json!({"symbols": state.options.symbols})),
            ("POST", SUBMIT) => each(&request.body["orders"], |terms| state.submit(terms)),
            ("POST", CANCEL) => each(&request.body["externalOrderIds"], |id| {
                state.cancel(&text(id).unwrap_or_default())
            }),
            ("POST", QUERY) => {
                let moment = Instant::now().checked_sub(state.options.record_lag);
                let moment = moment.expect("the machine has been up for longer");
                each(&request.body["clientOrderIds"], |id| {
                    state.record_at(&text(id).unwrap_or_default(), moment)
                })
            }
            ("POST", WEBHOOKS) => match (text(&request.body["url"]), text(&request.body["secret"]))
            {
                (Some(url), Some(secret)) => {
                    state.webhook = Some((url, secret));
                    (200, json!({}))
                }
                _ => (400, json!({"error": "url and secret are needed"})),
            },
            ("GET", EXECUTIONS) if state.options.lists_executions => (200, state.executions()),
            _ => (404, json!({"error": "there is no such thing"})),
        };
        drop(state);
        self.changed.notify_all();
        answer
    }
}

impl Venue {
    pub(super) fn serve_connection(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut wire = Wire::new(self.clone(), stream);
        while let Some(request) = self.read_request(&mut reader) {
            let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            let hook = hooks.get(request.path.as_str()).cloned();
            drop(hooks);
            let reply = hook.map_or(Reply::Default, |hook| hook(&request));
            let stays = self.reply(&mut wire, &request, reply).is_ok();
            if !stays || request.headers.get("connection").is_some_and(|value| value == "close") {
                break;
            }
            wire.be_fine();
        }
        // The other side may have closed first.
        let _gone = wire.stream.shutdown(Shutdown::Both);
    }

    fn read_request(&self, reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut line = String::new();
        // Blank lines before a request are ignored (RFC 9112, 2.2).
        while line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().ok()?, 0);
            reader.read_exact(&mut body).ok()?;
        } else if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            body = read_chunks(reader)?;
        }
        let url = url::Url::parse("http://venue").ok()?.join(&target).ok()?;
        let path = url.path().to_owned();
        let mut state = self.lock();
        let request = Request {
            method,
            query: url.query_pairs().into_owned().collect(),
            headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            came: Instant::now(),
            number: state.requests.iter().filter(|request| request.path == path).count() + 1,
            path,
            venue: self.clone(),
            answer: Arc::default(),
        };
        state.requests.push(request.clone());
        drop(state);
        self.shared.changed.notify_all();
        Some(request)
    }

    /// Writes a reply. An error ends the connection.
    fn reply(&self, wire: &mut Wire, request: &Request, reply: Reply) -> std::io::Result<()> {
        match reply {
            Reply::Default if request.path == FEED => self.feed(wire, request, None),
            Reply::Json(session) if request.path == FEED => self.feed(wire, request, Some(session)),
            Reply::Default => {
                let (status, answer) = request.done();
                wire.send(&answer_bytes(*status, &[], &answer.to_string()))
            }
            Reply::Json(answer) => wire.send(&answer_bytes(200, &[], &answer.to_string())),
            Reply::Status(status, headers, body) => {
                wire.send(&answer_bytes(status, &headers, &body))
            }
            Reply::Raw(bytes) => wire.send(&bytes),
            Reply::After(bytes, then) => {
                wire.send(&bytes)?;
                self.reply(wire, request, *then)
            }
            Reply::Late(by, then) => {
                self.pause(by);
                self.reply(wire, request, *then)
            }
            Reply::Drip(pause, then) => {
                wire.pause = pause;
                self.reply(wire, request, *then)
            }
            Reply::CutAfter(bytes, then) => {
                wire.left = bytes;
                self.reply(wire, request, *then)?;
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
            Reply::Cut => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Reply::Silence => {
                // Until the other side or a cut ends it.
                let _unread = std::io::copy(&mut wire.stream, &mut std::io::sink());
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// The feed: an endless response.
    fn feed(
        &self,
        wire: &mut Wire,
        request: &Request,
        session: Option<Value>,
    ) -> std::io::Result<()> {
        let state = self.lock();
        let begun = state.begin_feed(request);
        let generation = state.feed_generation;
        let is_chunked = state.options.chunked;
        drop(state);
        let (line, mut next) = match begun {
            Ok(begun) => begun,
            Err(status) => return wire.send(&answer_bytes(status, &[], "{}")),
        };
        let coding = if is_chunked { "Transfer-Encoding: chunked" } else { "Connection: close" };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n{coding}\r\n\r\n");
        let first = session.unwrap_or(line);
        wire.send(head.as_bytes())?;
        wire.send_lines(&format!("{first}\n"), is_chunked)?;
        let symbols: Option<HashSet<&str>> = request
            .query
            .get("symbols")
            .filter(|list| !list.is_empty())
            .map(|list| list.split(',').collect());
        let mut beat = Instant::now();
        loop {
            let mut state = self.lock();
            let mut out = String::new();
            while state.feed_generation == generation && out.is_empty() {
                for line in &state.lines[next.min(state.lines.len())..] {
                    let is_wanted = line.order && state.options.orders_on_feed
                        || !line.order
                            && symbols.as_ref().is_none_or(|symbols| {
                                line.symbol.as_deref().is_none_or(|symbol| symbols.contains(symbol))
                            });
                    if is_wanted {
                        out.push_str(&line.text);
                        out.push('\n');
                    }
                }
                next = state.lines.len();
                let every = state.options.heartbeat;
                let due = every.map_or(PATIENCE, |every| every.saturating_sub(beat.elapsed()));
                if due.is_zero() {
                    beat = Instant::now();
                    let heartbeat = json!({"type": "heartbeat", "sequence": state.sequence,
                        "timestamp": state.now()});
                    out.push_str(&format!("{heartbeat}\n"));
                }
                if out.is_empty() {
                    let waited = self.shared.changed.wait_timeout(state, due);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            if state.feed_generation != generation {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            drop(state);
            wire.send_lines(&out, is_chunked)?;
        }
    }

    /// Posts order lines to the registered webhook, in batches, repeating each until it is confirmed.
    pub(super) fn post_for_ever(&self) {
        let mut posted: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let mut state = self.lock();
            let (registered, body) = loop {
                let done = posted.entry(state.session.clone()).or_default();
                *done = (*done).min(state.lines.len());
                let new = state.lines[*done..].iter().filter(|line| line.order);
                let lines: Vec<Value> =
                    new.filter_map(|line| serde_json::from_str(&line.text).ok()).collect();
                let registered = state.webhook.clone().filter(|_| state.options.webhook);
                match registered {
                    Some(registered) if !lines.is_empty() => {
                        let body = json!({"session": state.session, "lines": lines});
                        posted.insert(state.session.clone(), state.lines.len());
                        break (registered, body);
                    }
                    _ => {
                        let waited = self.shared.changed.wait(state);
                        state = waited.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            while !(200..300).contains(&self.post_to(&registered, &body)) {
                self.pause(Duration::from_millis(200));
            }
        }
    }

    fn post_to(&self, (url, secret): &(String, String), body: &Value) -> u16 {
        let text = body.to_string();
        let seconds = self.lock().now() / 1_000_000;
        let header = format!("t={seconds},v1={}", signature(secret, seconds, &text));
        let request = HttpRequest::post(url).header("X-Signature", header);
        let request = request.header("Content-Type", "application/json").body(text.into_bytes());
        let status = api::send(request.expect("a valid request")).map_or(0, |answer| answer.status);
        self.lock().posts.push((body.clone(), status));
        self.shared.changed.notify_all();
        status
    }
}

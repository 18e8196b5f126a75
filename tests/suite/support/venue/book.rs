//! The exchange's state and rules.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Options, Request, micros, text};

/// An execution in the exchange's record.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub id: String,
    pub price_cents: u64,
    pub shares: u64,
    pub timestamp: i64,
}

/// An order in this exchange's book.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub client_id: String,
    pub external_id: String,
    /// The order as it was submitted.
    pub terms: Value,
    /// `open`, `filled`, `cancelled`, `expired` or `rejected`.
    pub status: String,
    pub executions: Vec<Execution>,
    /// The first answer to its submit.
    answer: Value,
    /// Its record at each change.
    history: Vec<(Instant, Value)>,
}

impl Order {
    pub(crate) fn symbol(&self) -> &str {
        self.terms["symbol"].as_str().expect("it was looked at")
    }

    pub(crate) fn shares(&self) -> u64 {
        self.terms["numShares"].as_u64().expect("it was looked at")
    }

    pub(crate) fn filled_shares(&self) -> u64 {
        self.executions.iter().map(|execution| execution.shares).sum()
    }

    fn record(&self) -> Value {
        let executions: Vec<Value> = self.executions.iter().map(Execution::json).collect();
        let mut record = json!({"clientOrderId": self.client_id, "status": self.status,
            "filledShares": self.filled_shares(), "executions": executions});
        if self.status != "rejected" {
            record["externalOrderId"] = self.external_id.clone().into();
        }
        record
    }
}

impl Execution {
    pub(crate) fn json(&self) -> Value {
        json!({"executionId": self.id, "priceInCents": self.price_cents,
            "numShares": self.shares, "timestamp": self.timestamp})
    }
}
pub(super) struct FeedLine {
    pub(super) sequence: u64,
    pub(super) text: String,
    pub(super) symbol: Option<String>,
    pub(super) order: bool,
}

/// Everything that changes.
pub(super) struct State {
    pub(super) options: Options,
    pub(super) orders: Vec<Order>,
    /// Records shown instead of the true ones, by the client's id.
    pub(super) shown: HashMap<String, Value>,
    /// Ids for the next orders, instead of new ones.
    pub(super) next_external_ids: Vec<String>,
    pub(super) session: String,
    pub(super) sequence: u64,
    /// Lines of the current session.
    pub(super) lines: Vec<FeedLine>,
    /// Past feed positions, for records that lag.
    pub(super) positions: Vec<(Instant, String, u64)>,
    /// Feeds of an earlier generation end.
    pub(super) feed_generation: u64,
    pub(super) made: u64,
    pub(super) requests: Vec<Request>,
    pub(super) webhook: Option<(String, String)>,
    pub(super) posts: Vec<(Value, u16)>,
    pub(super) listeners: Vec<Listener>,
    /// Connections of an earlier generation end.
    pub(super) generation: u64,
    pub(super) connections: Vec<TcpStream>,
    pub(super) addresses: Vec<SocketAddr>,
}

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) accepting: JoinHandle<()>,
}

impl Default for State {
    fn default() -> Self {
        let start = micros(0);
        let hour = 3_600_000_000;
        let symbol = |name: &&str| {
            json!({"symbol": name, "previousCloseInCents": 10_000, "openInCents": 10_000,
                "sessionOpen": start - hour, "sessionClose": start + 8 * hour, "source": "a test"})
        };
        let options = Options {
            symbols: ["AAPL", "IBM", "META", "SPY", "TSLA"].iter().map(symbol).collect(),
            rejects: None,
            as_of: true,
            record_lag: Duration::ZERO,
            clock_offset_micros: 0,
            heartbeat: Some(Duration::from_secs(1)),
            orders_on_feed: true,
            webhook: false,
            lists_executions: false,
            gone: true,
            kept_after: 0,
            chunked: true,
        };
        let session = "venue-1".to_owned();
        Self {
            options,
            positions: vec![(Instant::now(), session.clone(), 0)],
            session,
            orders: Vec::new(),
            shown: HashMap::new(),
            next_external_ids: Vec::new(),
            sequence: 0,
            lines: Vec::new(),
            feed_generation: 0,
            made: 0,
            requests: Vec::new(),
            webhook: None,
            posts: Vec::new(),
            listeners: Vec::new(),
            generation: 0,
            connections: Vec::new(),
            addresses: Vec::new(),
        }
    }
}
impl State {
    pub(super) fn make(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{}", self.made)
    }

    /// The exchange's clock.
    pub(super) fn now(&self) -> i64 {
        micros(self.options.clock_offset_micros)
    }

    pub(super) fn order(&self, client_id: &str) -> &Order {
        let found = self.orders.iter().find(|order| order.client_id == client_id);
        found.unwrap_or_else(|| panic!("no order {client_id}"))
    }

    pub(super) fn order_mut(&mut self, client_id: &str) -> &mut Order {
        let found = self.orders.iter_mut().find(|order| order.client_id == client_id);
        found.unwrap_or_else(|| panic!("no order {client_id}"))
    }

    /// Keeps the current record of an order, for records that lag.
    pub(super) fn remember(&mut self, client_id: &str) {
        let order = self.order_mut(client_id);
        let record = order.record();
        order.history.push((Instant::now(), record));
    }

    pub(super) fn end(&mut self, client_id: &str, status: &str) {
        status.clone_into(&mut self.order_mut(client_id).status);
        self.remember(client_id);
    }

    pub(super) fn end_line(&mut self, client_id: &str) -> Value {
        let order = self.order(client_id);
        json!({"type": order.status, "symbol": order.symbol(), "orderId": order.external_id})
    }

    pub(super) fn line(&mut self, line: &mut Value) -> u64 {
        if line["sequence"].is_null() {
            line["sequence"] = (self.sequence + 1).into();
        }
        if line.get("timestamp").is_none() {
            line["timestamp"] = self.now().into();
        }
        let sequence = line["sequence"].as_u64().unwrap_or(self.sequence);
        let symbol = text(&line["symbol"]);
        self.push(FeedLine {
            sequence,
            text: line.to_string(),
            symbol,
            order: !line["orderId"].is_null(),
        });
        sequence
    }

    pub(super) fn push(&mut self, line: FeedLine) {
        self.sequence = self.sequence.max(line.sequence);
        self.lines.push(line);
        self.note_position();
    }

    pub(super) fn note_position(&mut self) {
        self.positions.push((Instant::now(), self.session.clone(), self.sequence));
    }

    /// The record of an order at some time.
    pub(super) fn record_at(&self, client_id: &str, moment: Instant) -> Value {
        if let Some(shown) = self.shown.get(client_id) {
            return shown.clone();
        }
        let order = self.orders.iter().find(|order| order.client_id == client_id);
        let past = order.and_then(|order| order.history.iter().rev().find(|(at, _)| *at <= moment));
        let mut record = past.map_or_else(
            || {
                json!({"clientOrderId": client_id, "status": "unknown", "filledShares": 0,
                "executions": []})
            },
            |(_, record)| record.clone(),
        );
        if self.options.as_of {
            let past = self.positions.iter().rev().find(|(at, ..)| *at <= moment);
            let (_, session, sequence) = past.unwrap_or(&self.positions[0]);
            record["asOf"] = json!({"session": session, "sequence": sequence});
        }
        record
    }

    pub(super) fn submit(&mut self, terms: &Value) -> Value {
        let client_id = text(&terms["clientOrderId"]).unwrap_or_default();
        if let Some(known) = self.orders.iter().find(|order| order.client_id == client_id) {
            return known.answer.clone();
        }
        let refusal = self.refusal(terms);
        let external_id = match self.next_external_ids.is_empty() {
            true => self.make("X"),
            false => self.next_external_ids.remove(0),
        };
        let answer = match &refusal {
            Some((code, message)) => json!({"clientOrderId": client_id,
                "error": {"code": code, "message": message}}),
            None => json!({"clientOrderId": client_id, "externalOrderId": external_id}),
        };
        // An invalid order is not kept.
        if client_id.is_empty() || refusal.as_ref().is_some_and(|(code, _)| code == "invalid_order")
        {
            return answer;
        }
        let status = if refusal.is_some() { "rejected" } else { "open" };
        self.orders.push(Order {
            client_id: client_id.clone(),
            external_id,
            terms: terms.clone(),
            status: status.to_owned(),
            executions: Vec::new(),
            answer: answer.clone(),
            history: Vec::new(),
        });
        self.remember(&client_id);
        answer
    }

    /// Why an order is refused, if it is.
    pub(super) fn refusal(&self, terms: &Value) -> Option<(String, String)> {
        let is_known = [
            "clientOrderId",
            "side",
            "symbol",
            "type",
            "timeInForce",
            "numShares",
            "submitBefore",
            "limitPriceInCents",
        ];
        let fits = text(&terms["clientOrderId"]).is_some_and(|id| !id.is_empty())
            && ["buy", "sell"].contains(&terms["side"].as_str().unwrap_or_default())
            && ["day", "gtc"].contains(&terms["timeInForce"].as_str().unwrap_or_default())
            && terms["numShares"].as_u64().is_some_and(|shares| shares > 0)
            && match terms["type"].as_str() {
                Some("limit") => terms["limitPriceInCents"].as_u64().is_some_and(|price| price > 0),
                Some("market") => terms.get("limitPriceInCents").is_none(),
                _ => false,
            }
            && terms
                .as_object()
                .is_some_and(|terms| terms.keys().all(|name| is_known.contains(&name.as_str())));
        if !fits {
            return Some(("invalid_order".to_owned(), format!("not an order: {terms}")));
        }
        if !self.options.symbols.iter().any(|listed| listed["symbol"] == terms["symbol"]) {
            return Some(("unknown_symbol".to_owned(), "it is not listed".to_owned()));
        }
        match terms["submitBefore"].as_i64() {
            Some(deadline) if deadline >= self.now() => self.options.rejects.clone(),
            _ => Some(("too_late".to_owned(), "submitBefore has passed".to_owned())),
        }
    }

    pub(super) fn cancel(&mut self, external_id: &str) -> Value {
        let mut alike = self.orders.iter().filter(|order| order.external_id == external_id);
        // If an id was reused, the open order counts.
        let open = alike.clone().find(|order| order.status == "open");
        let refused = |code: &str| {
            json!({"externalOrderId": external_id,
            "error": {"code": code, "message": "it cannot be cancelled"}})
        };
        let Some(order) = open else {
            return refused(match alike.next_back().map(|order| order.status.as_str()) {
                None | Some("rejected") => "unknown",
                Some("cancelled") => "already_cancelled",
                Some(other) => other,
            });
        };
        let client_id = order.client_id.clone();
        self.end(&client_id, "cancelled");
        let mut line = self.end_line(&client_id);
        self.line(&mut line);
        json!({"externalOrderId": external_id, "status": "cancelled"})
    }

    /// The answer to `GET /v1/executions`, all on one page.
    pub(super) fn executions(&self) -> Value {
        let one = |order: &Order, execution: &Execution| {
            let mut listed = execution.json();
            listed["orderId"] = order.external_id.clone().into();
            listed["symbol"] = order.terms["symbol"].clone();
            listed["side"] = order.terms["side"].clone();
            listed["clientOrderId"] = order.client_id.clone().into();
            listed
        };
        let all = self
            .orders
            .iter()
            .flat_map(|order| order.executions.iter().map(move |execution| one(order, execution)));
        json!({"executions": all.collect::<Vec<_>>()})
    }

    /// The session line of a feed from `from`, or the status of a refusal.
    pub(super) fn begin_feed(&self, request: &Request) -> Result<(Value, usize), u16> {
        let line = |sequence: u64| json!({"type": "session", "session": self.session, "sequence": sequence});
        let kept = self.options.kept_after;
        let after = |sequence: u64| {
            self.lines.iter().position(|line| line.sequence > sequence).unwrap_or(self.lines.len())
        };
        let from = request.query.get("from").and_then(|from| from.parse::<u64>().ok());
        let is_other = request.query.get("session").is_some_and(|session| *session != self.session);
        match from {
            None => Ok((line(self.sequence), self.lines.len())),
            // The first requested line.
            Some(from) if !is_other && (kept + 1..=self.sequence + 1).contains(&from) => {
                Ok((line(from - 1), after(from - 1)))
            }
            Some(_) if self.options.gone => Err(410),
            Some(_) => Ok((line(kept), after(kept))),
        }
    }
}

//! The part of the client contract that the order tests use, over a third-party HTTP client.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use ureq::{
    Agent,
    http::{Method, Request},
};

use crate::linear::{Observed, Status};

/// Longest wait for an answer. A server answers within its reply timeout; a killed one closes the
/// connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer: a page of 500 orders of under 1 KiB.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// The terms of a new order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Terms {
    /// `buy` or `sell`.
    pub position: &'static str,
    /// The symbol.
    pub symbol: &'static str,
    /// Number of shares.
    pub num_shares: u64,
    /// The limit in cents; `None` for a market order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_in_cents: Option<u64>,
    /// `day` or `gtc`.
    pub time_in_force: &'static str,
    /// The idempotency key.
    pub client_order_id: String,
}

/// An order as the server shows it, with the members of the client contract. Unknown members are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub order_id: String,
    pub client_order_id: Option<String>,
    pub external_order_id: Option<String>,
    pub symbol: String,
    pub position: String,
    #[serde(rename = "type")]
    pub order_type: String,
    pub time_in_force: String,
    pub price_in_cents: Option<u64>,
    pub num_shares: u64,
    pub filled_shares: u64,
    pub filled_value_in_cents: i64,
    pub average_price_in_cents: Option<i64>,
    pub status: String,
    pub reason: Option<String>,
    pub created_at: u64,
    pub updated_at: u64,
    pub version: u64,
}

impl Order {
    /// What the linearizability check needs; `None` if the status is not in the contract.
    pub(crate) fn observed(&self) -> Option<Observed> {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Some(Observed {
            version: self.version,
            status: self.status.parse::<Status>().ok()?,
            filled_shares: self.filled_shares,
            content: hasher.finish(),
        })
    }

    /// Whether the order has these terms.
    pub(crate) fn is_as(&self, terms: &Terms) -> bool {
        let order_type = if terms.price_in_cents.is_some() { "limit" } else { "market" };
        self.client_order_id.as_ref() == Some(&terms.client_order_id)
            && self.symbol == terms.symbol
            && self.position == terms.position
            && self.order_type == order_type
            && self.time_in_force == terms.time_in_force
            && self.price_in_cents == terms.price_in_cents
            && self.num_shares == terms.num_shares
    }
}

/// A page of `GET /orders`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    pub orders: Vec<Order>,
    pub next_cursor: Option<String>,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// Parses the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.body)
            .map_err(|error| format!("{error} in the {} answer {}", self.status, self.body))
    }

    /// The order in an answer, also in a problem document.
    pub(crate) fn order(&self) -> Result<Order, String> {
        #[derive(Deserialize)]
        struct Problem {
            order: Order,
        }
        if self.status < 300 { self.read() } else { self.read::<Problem>().map(|with| with.order) }
    }
}

/// One user's client, with a kept-alive connection.
#[derive(Debug)]
pub(crate) struct Api {
    agent: Agent,
    url: String,
    token: String,
}

impl Api {
    /// A client of the server at `url` (`http://host:port`).
    pub(crate) fn new(url: &str, token: &str) -> Self {
        Self { agent: agent(), url: url.to_owned(), token: token.to_owned() }
    }

    /// `POST /order`; `None` when no answer came.
    pub(crate) fn create(&self, terms: &Terms) -> Option<Answer> {
        self.send(Method::POST, "/order", serde_json::to_vec(terms).unwrap_or_default())
    }

    /// `DELETE /order/:id`.
    pub(crate) fn cancel(&self, order_id: &str) -> Option<Answer> {
        self.send(Method::DELETE, &format!("/order/{order_id}"), Vec::new())
    }

    /// `GET /order/:id`.
    pub(crate) fn read(&self, order_id: &str) -> Option<Answer> {
        self.send(Method::GET, &format!("/order/{order_id}"), Vec::new())
    }

    /// `GET /orders`.
    pub(crate) fn list(&self, limit: usize, cursor: Option<&str>) -> Option<Answer> {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        self.send(Method::GET, &format!("/orders?limit={limit}{cursor}"), Vec::new())
    }

    /// `GET /orders?status=`: the newest page.
    pub(crate) fn list_of_status(&self, status: &str) -> Option<Answer> {
        self.send(Method::GET, &format!("/orders?limit=500&status={status}"), Vec::new())
    }

    fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Option<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(body)
            .ok()?;
        answer(&self.agent, request)
    }
}

/// The exchange's own routes: its records and its faults.
#[derive(Debug)]
pub(crate) struct ExchangeApi {
    agent: Agent,
    url: String,
}

/// The exchange's record of an order, as `GET /admin/orders` lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedOrder {
    pub client_order_id: String,
    pub external_order_id: String,
    pub symbol: String,
    pub side: String,
    pub limit_price_in_cents: Option<u64>,
    pub time_in_force: String,
    pub num_shares: u64,
}

/// The exchange's record of an order, as `POST /v1/orders/query` returns it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExchangeRecord {
    pub client_order_id: String,
    pub external_order_id: Option<String>,
    pub status: String,
    #[serde(default)]
    pub filled_shares: u64,
    #[serde(default)]
    pub executions: Vec<Execution>,
}

/// One execution of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Execution {
    pub price_in_cents: i64,
    pub num_shares: i64,
}

/// The answer to `GET /admin/faults`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct FaultReport {
    /// As `PUT /admin/faults` takes them.
    pub settings: serde_json::Map<String, Value>,
    /// How often each fault has happened, by group and kind.
    pub done: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Most orders of one query.
pub(crate) const MAX_QUERY: usize = 256;

impl ExchangeApi {
    /// The exchange at `url` (`http://host:port`).
    pub(crate) fn new(url: &str) -> Self {
        Self { agent: agent(), url: url.to_owned() }
    }

    /// `GET /admin/faults`.
    pub(crate) fn faults(&self) -> Option<FaultReport> {
        let request = Request::get(format!("{}/admin/faults", self.url)).body(Vec::new()).ok()?;
        answer(&self.agent, request).filter(|answer| answer.status == 200)?.read().ok()
    }

    /// `PUT /admin/faults`.
    pub(crate) fn set_faults(&self, settings: &Value) -> Option<Answer> {
        let body = settings.to_string().into_bytes();
        let request = Request::put(format!("{}/admin/faults", self.url)).body(body).ok()?;
        answer(&self.agent, request)
    }

    /// A page of all accepted orders, after `after`.
    pub(crate) fn orders(&self, after: Option<&str>) -> Option<Vec<ListedOrder>> {
        #[derive(Deserialize)]
        struct Listed {
            orders: Vec<ListedOrder>,
        }
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let request = Request::get(format!("{}/admin/orders{after}", self.url));
        let listed: Listed = answer(&self.agent, request.body(Vec::new()).ok()?)?.read().ok()?;
        Some(listed.orders)
    }

    /// `POST /v1/orders/query`, for at most [`MAX_QUERY`] orders.
    pub(crate) fn query(&self, order_ids: &[&str]) -> Option<Vec<ExchangeRecord>> {
        #[derive(Deserialize)]
        struct Queried {
            results: Vec<ExchangeRecord>,
        }
        let body = json!({ "clientOrderIds": order_ids }).to_string().into_bytes();
        let request = Request::post(format!("{}/v1/orders/query", self.url)).body(body).ok()?;
        let queried: Queried = answer(&self.agent, request)?.read().ok()?;
        Some(queried.results)
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(ANSWER_TIMEOUT))
        .build()
        .new_agent()
}

fn answer(agent: &Agent, request: Request<Vec<u8>>) -> Option<Answer> {
    let mut response = agent.run(request).ok()?;
    let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().ok()?;
    Some(Answer { status: response.status().as_u16(), body })
}

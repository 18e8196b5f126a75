//! The client contract over `ureq`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Method, Request};

use super::PATIENCE;
use super::events::EventStream;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Value,
    pub text: String,
    pub headers: ureq::http::HeaderMap,
}

impl Answer {
    /// The order in an answer, also in a problem.
    pub(crate) fn order(&self) -> &Value {
        if self.body["order"].is_object() { &self.body["order"] } else { &self.body }
    }
}

fn agent(patience: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(patience))
        .build()
        .new_agent()
}

fn answer_of(agent: &Agent, request: Request<Vec<u8>>) -> Option<Answer> {
    let mut response = agent.run(request).ok()?;
    let text = response.body_mut().read_to_string().ok()?;
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    let status = response.status().as_u16();
    Some(Answer { status, body, text, headers: response.headers().clone() })
}

/// A GET without a token; `None` without an answer.
pub(crate) fn get_anonymously(url: &str) -> Option<Answer> {
    answer_of(&agent(PATIENCE), Request::get(url).body(Vec::new()).expect("a valid request"))
}

/// Sends a request as it is; `None` without an answer.
pub(crate) fn send(request: Request<Vec<u8>>) -> Option<Answer> {
    answer_of(&agent(PATIENCE), request)
}

/// Between two looks at what nothing announces: each is a request, and the servers under test need the cores.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Looks until there is a value: for what a server shows, but does not announce.
pub(crate) fn until<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// One user's client on a kept-alive connection.
pub(crate) struct Client {
    agent: Agent,
    pub address: String,
    pub token: String,
}

impl Client {
    pub(crate) fn new(address: &str, token: &str) -> Self {
        Self::with_patience(address, token, PATIENCE)
    }

    /// A client that waits only so long for an answer.
    pub(crate) fn with_patience(address: &str, token: &str, patience: Duration) -> Self {
        let (agent, address) = (agent(patience), address.to_owned());
        Self { agent, address, token: token.to_owned() }
    }

    /// Sends a request as it is; `None` without an answer.
    pub(crate) fn try_send(&self, method: Method, path: &str, body: &[u8]) -> Option<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(body.to_vec())
            .expect("a valid request");
        answer_of(&self.agent, request)
    }

    pub(crate) fn send(&self, method: Method, path: &str, body: &[u8]) -> Answer {
        self.try_send(method, path, body).unwrap_or_else(|| panic!("no answer from {path}"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string().as_bytes())
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, b"")
    }

    /// A limit order far from the market, which rests until it is cancelled.
    pub(crate) fn place_resting(&self, symbol: &str) -> Value {
        self.place_resting_for(symbol, "submitted")
    }

    /// Places a resting order and waits until it has a status.
    pub(crate) fn place_resting_for(&self, symbol: &str, status: &str) -> Value {
        let order =
            json!({"position": "buy", "symbol": symbol, "numShares": 10, "priceInCents": 1});
        let answer = self.post("/order", &order);
        // On a busy machine the server may answer before the exchange does.
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
        self.await_status(answer.body["orderId"].as_str().expect("an id"), status)
    }

    pub(crate) fn order(&self, id: &str) -> Value {
        let answer = self.get(&format!("/order/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    /// Waits until an order has a status.
    pub(crate) fn await_status(&self, id: &str, status: &str) -> Value {
        self.await_order(&format!("order {id} to be {status}"), id, |order| {
            (order["status"] == status).then(|| order.clone())
        })
    }

    /// Waits for what an order has to show. The stream announces each change, so the order is read after the
    /// stream has opened, and again after each of its blocks.
    pub(crate) fn await_order<T>(
        &self,
        what: &str,
        id: &str,
        mut look: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let mut stream = self.order_stream();
        until(what, || {
            let found = look(&self.order(id));
            if found.is_none() && stream.as_mut().is_none_or(|stream| stream.next().is_none()) {
                stream = self.order_stream();
            }
            found
        })
    }

    /// A stream of the user's orders; `None` where the server takes no more.
    pub(crate) fn order_stream(&self) -> Option<EventStream> {
        let request = format!(
            "GET /orders/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        let stream = EventStream::send(&self.address, &request);
        stream.head.first().is_some_and(|line| line.contains(" 200 ")).then_some(stream)
    }

    /// Every order of the user, newest first, over as many pages as it takes.
    pub(crate) fn all_orders(&self) -> Vec<Value> {
        let mut orders = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/orders?limit=500&cursor={cursor}"));
            assert_eq!(page.status, 200, "{}", page.text);
            orders.extend(page.body["orders"].as_array().expect("a list").iter().cloned());
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return orders,
            }
        }
    }
}

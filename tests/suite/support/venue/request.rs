//! The request and the replies of a test's hook.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Venue, list, text};

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    pub query: HashMap<String, String>,
    /// Headers, with lower-case names.
    pub headers: HashMap<String, String>,
    pub body: Value,
    pub came: Instant,
    /// Number of the request to this path, from 1.
    pub number: usize,
    pub(super) venue: Venue,
    pub(super) answer: Arc<OnceLock<(u16, Value)>>,
}

impl Request {
    /// Executes the request once and returns the true answer.
    pub(crate) fn answer(&self) -> Value {
        self.done().1.clone()
    }

    pub(super) fn done(&self) -> &(u16, Value) {
        self.answer.get_or_init(|| self.venue.shared.serve(self))
    }

    /// The ids that a submit or a query names.
    pub(crate) fn client_ids(&self) -> Vec<String> {
        let orders = list(&self.body["orders"]).iter().map(|order| &order["clientOrderId"]);
        orders.chain(list(&self.body["clientOrderIds"])).filter_map(text).collect()
    }
}

/// The reply of a hook.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The answer of the contract.
    Default,
    /// `200` with this body. On the feed: this session line, then the lines.
    Json(Value),
    Status(u16, Vec<(&'static str, String)>, String),
    /// Raw bytes; the connection stays open.
    Raw(Vec<u8>),
    /// Raw bytes, then another reply.
    After(Vec<u8>, Box<Reply>),
    /// Another reply, after a delay.
    Late(Duration, Box<Reply>),
    /// Another reply, byte by byte with a pause after each.
    Drip(Duration, Box<Reply>),
    /// The first bytes of another reply, then the connection closes.
    CutAfter(usize, Box<Reply>),
    /// Closes the connection without executing the request.
    Cut,
    /// No execution and no answer; the connection stays open.
    Silence,
}

impl Reply {
    /// Executes the request; its answer is lost with the connection.
    pub(crate) fn lost(request: &Request) -> Self {
        let _done = request.done();
        Self::Cut
    }

    /// Executes the request; its answer is edited.
    pub(crate) fn edited(request: &Request, edit: impl FnOnce(&mut Value)) -> Self {
        let mut answer = request.answer();
        edit(&mut answer);
        Self::Json(answer)
    }

    pub(crate) fn late(by: Duration) -> Self {
        Self::Late(by, Box::new(Self::Default))
    }
}

//! What a hook of a test sees of a request, and what it may make of it.

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
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    pub body: Value,
    pub came: Instant,
    /// The first one to this path is 1.
    pub number: usize,
    pub(super) venue: Venue,
    pub(super) answer: Arc<OnceLock<(u16, Value)>>,
}

impl Request {
    /// Does what is asked, once, and returns the honest answer.
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

/// What a hook makes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers as the contract says.
    Default,
    /// `200` with this. On the feed: this session line, and the lines after it.
    Json(Value),
    Status(u16, Vec<(&'static str, String)>, String),
    /// These bytes, whatever they are; the connection stays.
    Raw(Vec<u8>),
    /// These bytes, then another reply.
    After(Vec<u8>, Box<Reply>),
    /// Another reply, so much later.
    Late(Duration, Box<Reply>),
    /// Another reply, a byte at a time with such a pause after each.
    Drip(Duration, Box<Reply>),
    /// So many bytes of another reply; then the connection ends.
    CutAfter(usize, Box<Reply>),
    /// The connection ends, and nothing was done.
    Cut,
    /// Nothing was done and nothing is said, on a connection that stays.
    Silence,
}

impl Reply {
    /// What is asked is done; its answer is lost with the connection.
    pub(crate) fn lost(request: &Request) -> Self {
        let _done = request.done();
        Self::Cut
    }

    /// What is asked is done; the answer is changed.
    pub(crate) fn edited(request: &Request, edit: impl FnOnce(&mut Value)) -> Self {
        let mut answer = request.answer();
        edit(&mut answer);
        Self::Json(answer)
    }

    pub(crate) fn late(by: Duration) -> Self {
        Self::Late(by, Box::new(Self::Default))
    }
}

//! Operators' decisions handed to a running server by its operators' listener.

use serde_json::{Value, json};

use crate::config::{ActArgs, AdminArgs, CaseArgs, CloseOrderArgs, QuarantineCommand};

/// Why a decision did not get there.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Nobody answered.
    #[error("{url} does not answer: is the server running, and is this its --admin-listen?")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// What the system says.
        source: Box<ureq::Error>,
    },
    /// The server refused.
    #[error("the server refused: {detail}")]
    Refused {
        /// Its words.
        detail: String,
    },
}

/// Lists or decides cases. Gives what the server answers.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub fn quarantine(command: &QuarantineCommand) -> Result<Value, OperatorError> {
    match command {
        QuarantineCommand::List(AdminArgs { admin_url }) => {
            let url = format!("{admin_url}/quarantine");
            answer(&url, agent().get(&url).call())
        }
        QuarantineCommand::Book(arguments) => decide(arguments, "book"),
        QuarantineCommand::Discard(arguments) => decide(arguments, "discard"),
    }
}

/// Ends an order by hand. Gives the order as it is then.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub fn close_order(arguments: &CloseOrderArgs) -> Result<Value, OperatorError> {
    post(&format!("orders/{}/close", arguments.order_id), &arguments.act)
}

fn decide(arguments: &CaseArgs, outcome: &str) -> Result<Value, OperatorError> {
    let CaseArgs { order_id, case, act } = arguments;
    post(&format!("quarantine/{order_id}/{case}/{outcome}"), act)
}

fn post(path: &str, act: &ActArgs) -> Result<Value, OperatorError> {
    let ActArgs { by, reason, admin } = act;
    let url = format!("{}/{path}", admin.admin_url);
    answer(&url, agent().post(&url).send_json(json!({ "by": by, "reason": reason })))
}

/// An answer of any status is one.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn answer(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, OperatorError> {
    let unreachable =
        |source| OperatorError::Unreachable { url: url.to_owned(), source: Box::new(source) };
    let mut response = response.map_err(unreachable)?;
    let is_done = response.status().is_success();
    let body: Value = response.body_mut().read_json().map_err(unreachable)?;
    if is_done {
        return Ok(body);
    }
    let detail = body.get("detail").and_then(Value::as_str).unwrap_or("no reason given");
    Err(OperatorError::Refused { detail: detail.to_owned() })
}

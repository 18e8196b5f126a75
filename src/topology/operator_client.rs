//! Operators' decisions handed to a running server by its operators' listener.

use serde_json::{Value, json};

use super::console::note;
use crate::config::{
    AccountCommand, ActArgs, AdminArgs, CaseArgs, CloseOrderArgs, MoveCashArgs, QuarantineCommand,
    ShowAccountArgs,
};
use crate::types::UserId;

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

/// Moves cash of a user, or shows their account. Gives what the server answers.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub fn account(command: &AccountCommand) -> Result<Value, OperatorError> {
    match command {
        AccountCommand::Show(ShowAccountArgs { user, admin }) => {
            let url = format!("{}/{}", admin.admin_url, path_of(user));
            answer(&url, agent().get(&url).call())
        }
        AccountCommand::Deposit(arguments) => move_cash(arguments, "deposits"),
        AccountCommand::Withdraw(arguments) => move_cash(arguments, "withdrawals"),
    }
}

fn move_cash(arguments: &MoveCashArgs, name: &str) -> Result<Value, OperatorError> {
    let MoveCashArgs { user, amount, id, act: ActArgs { by, reason, admin } } = arguments;
    let id = id.as_ref().map_or_else(drawn_id, |id| id.as_str().to_owned());
    let url = format!("{}/{}/{name}", admin.admin_url, path_of(user));
    let body = json!({ "id": id, "amountInCents": amount.cents(), "by": by, "reason": reason });
    answer(&url, agent().post(&url).send_json(body))
}

/// Printed before it is used: whoever gets no answer repeats the command with it.
fn drawn_id() -> String {
    let id = format!("{:032x}", rand::random::<u128>());
    note(&format!("id: {id}"));
    id
}

/// The path of a user's account.
fn path_of(user: &UserId) -> String {
    let mut path = url::form_urlencoded::byte_serialize(user.as_str().as_bytes());
    format!("accounts/{}", path.by_ref().collect::<String>())
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

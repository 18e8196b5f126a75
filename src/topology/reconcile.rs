//! `longbow reconcile`: has a running server compare a day with the exchange's list.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::ReconcileArgs;
use crate::types::{PriceCents, Shares, Side, Symbol, TimestampMicros};

/// How often the server is asked whether it has compared.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const ACCEPTED: u16 = 202;

/// A report as it is shown.
#[derive(Debug)]
pub struct ShownReport {
    /// For people, or JSON.
    pub shown: String,
    /// Whether there was no difference.
    pub agrees: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
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
    /// The list cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Which line, and what is wrong.
        problem: String,
    },
}

/// Has a day compared, and waits for the report.
///
/// # Errors
/// The file cannot be read, or the server cannot be reached or refuses.
pub fn reconcile(arguments: &ReconcileArgs) -> Result<ShownReport, ReconcileError> {
    let list = arguments.executions.as_deref().map(read_list).transpose()?;
    let url = format!("{}/day-ends/{}", arguments.admin.admin_url, arguments.date);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.post(&url);
    let mut answer = answer(
        &url,
        match &list {
            Some(list) => request.send_json(list),
            None => request.send_empty(),
        },
    )?;
    while answer.0 == ACCEPTED {
        thread::sleep(LOOK_INTERVAL);
        answer = self::answer(&url, agent.get(&url).call())?;
    }
    let report: Value = read(&answer.1);
    let agrees = report.get("agrees") == Some(&Value::Bool(true));
    if arguments.json {
        return Ok(ShownReport { shown: answer.1, agrees });
    }
    let text = format!("{url}?format=text");
    let (_, shown) = self::answer(&text, agent.get(&text).call())?;
    Ok(ShownReport { shown, agrees })
}

fn answer(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(u16, String), ReconcileError> {
    let unreachable =
        |source| ReconcileError::Unreachable { url: url.to_owned(), source: Box::new(source) };
    let mut response = response.map_err(unreachable)?;
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
    let body = body.map_err(unreachable)?;
    if response.status().is_success() {
        return Ok((response.status().as_u16(), body));
    }
    let detail = read(&body).get("detail").and_then(Value::as_str).map(str::to_owned);
    Err(ReconcileError::Refused { detail: detail.unwrap_or_else(|| "no reason given".to_owned()) })
}

fn read(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

/// One line of the file.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    execution_id: String,
    order_id: String,
    client_order_id: Option<String>,
    symbol: Symbol,
    side: Side,
    price_in_cents: PriceCents,
    num_shares: Shares,
    timestamp: TimestampMicros,
}

/// The file as the list that the exchange would answer with.
fn read_list(path: &Path) -> Result<Value, ReconcileError> {
    let file = File::open(path).map_err(|error| wrong(path, &error))?;
    list_of(file).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, problem: &dyn std::fmt::Display) -> ReconcileError {
    ReconcileError::File { path: path.to_owned(), problem: problem.to_string() }
}

fn list_of(from: impl io::Read) -> Result<Value, csv::Error> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let executions = reader.deserialize().map(|line| {
        let line: Line = line?;
        Ok(json!({
            "executionId": line.execution_id,
            "orderId": line.order_id,
            "clientOrderId": line.client_order_id,
            "symbol": line.symbol,
            "side": line.side,
            "priceInCents": line.price_in_cents,
            "numShares": line.num_shares,
            "timestamp": line.timestamp,
        }))
    });
    Ok(json!({ "executions": executions.collect::<Result<Vec<_>, csv::Error>>()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_list_of_the_exchange() {
        let text = "symbol,side,executionId,orderId,clientOrderId,priceInCents,numShares,timestamp\n\
                    IBM, buy ,e1,o1,,18000,5,1764277200000000\n";
        let list = list_of(text.as_bytes()).unwrap();
        let part = crate::exchange::read_day_part(list.to_string().as_bytes()).unwrap();
        assert_eq!((part.executions.len(), part.unreadable), (1, vec![]));
        assert_eq!(part.executions[0].client_order_id, None);
        assert_eq!(part.executions[0].num_shares, 5);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, parts) in [
            ("executionId,orderId\ne1,o1\n", vec!["symbol"]),
            (
                "executionId,orderId,symbol,side,priceInCents,numShares,timestamp\n\
                 e1,o1,IBM,buy,18000,five,7\n",
                vec!["line: 2", "field 5"],
            ),
        ] {
            let error = list_of(text.as_bytes()).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part} is missing: {error}");
            }
        }
    }
}

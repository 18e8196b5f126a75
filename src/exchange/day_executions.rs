//! Reads every execution of a day from the exchange, for the comparison at the day's end. Each part of
//! the list on a connection of its own.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use compact_str::CompactString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::address::ExchangeAddress;
use super::blocking_http::{GetOptions, get};
use super::dial::Dialer;
use super::wire::DayExecution;
use crate::shutdown::Shutdown;
use crate::types::{MAX_EXECUTION_SHARES, TradeDate};

/// Longest part of a list: some 300,000 executions.
const MAX_PART_BYTES: usize = 64 * 1024 * 1024;
/// Status of what is not there.
const NOT_FOUND: u16 = 404;
/// How much of an unreadable element is shown, in characters.
const MAX_SHOWN_CHARS: usize = 240;
/// Most unreadable elements of a part that are shown.
const MAX_SHOWN: usize = 1_000;

/// A part of a day's executions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayPart {
    pub executions: Vec<DayExecution>,
    /// Elements that cannot be read, shortened, and why: the first ones.
    pub unreadable: Vec<String>,
    /// How many cannot be read.
    pub unreadable_count: usize,
    /// Names the next part.
    pub next_cursor: Option<CompactString>,
    /// Whether the exchange still keeps all executions of the day.
    pub is_complete: bool,
}

/// Asks the exchange for the executions of a day.
pub struct DayExecutions {
    dialer: Dialer,
    options: GetOptions,
}

impl DayExecutions {
    /// Each part has to come within the timeout.
    pub fn new(
        exchange: ExchangeAddress,
        source: Option<IpAddr>,
        timeout: Duration,
        shutdown: Shutdown,
    ) -> Self {
        let options = GetOptions { source, timeout, shutdown };
        Self { dialer: Dialer::new(exchange), options }
    }

    /// The part that the cursor names; without one, the first. `None`: the exchange offers no list.
    ///
    /// # Errors
    /// It does not answer, or with something else.
    pub fn part(&self, date: TradeDate, cursor: Option<&str>) -> io::Result<Option<DayPart>> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("tradeDate", &date.to_string());
        if let Some(cursor) = cursor {
            query.append_pair("cursor", cursor);
        }
        let response =
            get(&self.dialer, &format!("/v1/executions?{}", query.finish()), &self.options)?;
        match response.status {
            NOT_FOUND => Ok(None),
            200 => {
                let body = response.read_to_end(MAX_PART_BYTES)?;
                let part = read_day_part(&body);
                part.map(Some).map_err(|error| {
                    let what = format!("GET /v1/executions answered what is no list: {error}");
                    io::Error::new(io::ErrorKind::InvalidData, what)
                })
            }
            status => Err(io::Error::other(format!("GET /v1/executions answered {status}"))),
        }
    }
}

/// Reads a part of a list. An element that cannot be read does not hold up the others.
///
/// # Errors
/// It is no JSON object with a list `executions`.
pub fn read_day_part(body: &[u8]) -> Result<DayPart, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part<'a> {
        #[serde(borrow)]
        executions: Vec<&'a RawValue>,
        next_cursor: Option<CompactString>,
        complete: Option<bool>,
    }
    let part: Part<'_> = serde_json::from_slice(body)?;
    let mut read = DayPart {
        next_cursor: part.next_cursor,
        is_complete: part.complete.unwrap_or(true),
        ..DayPart::default()
    };
    for element in part.executions {
        let why = match serde_json::from_str::<DayExecution>(element.get()) {
            Ok(execution) if (1..=MAX_EXECUTION_SHARES).contains(&execution.num_shares) => {
                read.executions.push(execution);
                continue;
            }
            Ok(_) => format!("numShares: allowed: 1 to {MAX_EXECUTION_SHARES}"),
            Err(error) => error.to_string(),
        };
        read.unreadable_count += 1;
        if read.unreadable.len() < MAX_SHOWN {
            let shown: String = element.get().chars().take(MAX_SHOWN_CHARS).collect();
            read.unreadable.push(format!("{shown}: {why}"));
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_element_holds_up_no_other() {
        let good = r#"{"executionId":"e1","orderId":"o1","symbol":"IBM","side":"buy","priceInCents":100,"numShares":5,"timestamp":7,"new":1}"#;
        let body = format!(
            r#"{{"executions":[{good},{{"executionId":"e2"}},7,{good}],"nextCursor":"o1","x":0}}"#
        );
        let part = read_day_part(body.as_bytes()).unwrap();
        assert_eq!((part.executions.len(), part.unreadable.len()), (2, 2));
        assert_eq!(part.next_cursor.as_deref(), Some("o1"));
        assert!(part.is_complete && part.executions[0].client_order_id.is_none());
        assert!(part.unreadable[0].contains("e2"), "{:?}", part.unreadable);
        for shares in ["0", "1000000000001"] {
            let odd = good.replace("\"numShares\":5", &format!("\"numShares\":{shares}"));
            let part = read_day_part(format!("{{\"executions\":[{odd}]}}").as_bytes()).unwrap();
            assert_eq!((part.executions.len(), part.unreadable_count), (0, 1));
            assert!(part.unreadable[0].contains("allowed: 1 to"), "{:?}", part.unreadable);
        }
        let many = format!("{{\"executions\":[{}0]}}", "1,".repeat(5_000));
        let part = read_day_part(many.as_bytes()).unwrap();
        assert_eq!((part.unreadable_count, part.unreadable.len()), (5_001, MAX_SHOWN));
        let part = read_day_part(br#"{"executions":[],"complete":false}"#).unwrap();
        assert!(!part.is_complete && part.next_cursor.is_none());
        for wrong in ["", "[]", "{}", r#"{"executions":{}}"#] {
            assert!(read_day_part(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

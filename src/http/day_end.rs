//! `GET` and `POST /day-ends/{date}`: the comparison of a day's executions with the exchange's list.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use serde_json::json;
use tracing::field::display;

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::not_json;
use super::problem::{HttpResponse, Problem, bytes_response, json_response};
use super::query::Query;
use crate::day_end::{DayEnds, DayState};
use crate::exchange::read_day_part;
use crate::types::TradeDate;

/// Largest list that an operator hands over: some 300,000 executions.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// `GET /day-ends/{date}?format=`: the report, `202` while it is being made.
pub(super) fn show(site: &Site, date: &str, uri: &Uri) -> Result<HttpResponse, Problem> {
    let (ends, date) = (day_ends(site)?, trade_date(date)?);
    let query = Query::parse(uri, &["format"])?;
    let is_text = |name: &str| match name {
        "json" => Some(false),
        "text" => Some(true),
        _ => None,
    };
    let is_text = query.word("format", "json or text", is_text)?.unwrap_or(false);
    let unreadable = |error: std::io::Error| {
        tracing::error!(%date, %error, "the report of a day cannot be read");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The report cannot be read.")
    };
    match ends.state(date).map_err(unreadable)? {
        DayState::Unknown => Err(Problem::not_found("The day has not been compared.")),
        DayState::Running => Ok(running(date)),
        DayState::Failed(why) => {
            let detail = format!("The day could not be compared: {why}.");
            Err(Problem::new(StatusCode::CONFLICT, "not_compared", detail))
        }
        DayState::Done(_) if is_text => {
            let text = ends.text(date).map_err(unreadable)?.unwrap_or_default();
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            Ok(bytes_response(StatusCode::OK, kind, Bytes::from(text)))
        }
        DayState::Done(report) => {
            let kind = HeaderValue::from_static("application/json");
            Ok(bytes_response(StatusCode::OK, kind, Bytes::from(report)))
        }
    }
}

/// `POST /day-ends/{date}`: begins a comparison, with the exchange's list or with that in the body.
pub(super) async fn compare(
    site: &Site,
    date: &str,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (ends, date) = (day_ends(site)?, trade_date(date)?);
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let list = if body.is_empty() {
        None
    } else {
        let wrong = |error| Problem::field("body", "invalid_json", not_json(&error));
        Some(read_day_part(&body).map_err(wrong)?)
    };
    let peer = peer.map(display);
    tracing::warn!(peer, %date, of_list = list.is_some(), "an operator has a day compared");
    if ends.request(date, list) {
        Ok(running(date))
    } else {
        Err(Problem::unavailable("unavailable", "Other comparisons are waiting. Try again."))
    }
}

fn running(date: TradeDate) -> HttpResponse {
    json_response(StatusCode::ACCEPTED, &json!({ "tradeDate": date, "state": "running" }))
}

fn day_ends(site: &Site) -> Result<&DayEnds, Problem> {
    site.day_ends.as_ref().ok_or_else(|| {
        let detail = "Nodes that share users do not compare days yet.";
        Problem::new(StatusCode::NOT_IMPLEMENTED, "no_day_end", detail)
    })
}

fn trade_date(text: &str) -> Result<TradeDate, Problem> {
    text.parse().map_err(|error| Problem::field("date", "invalid_field", error))
}

//! `GET /symbol/:name/candles`: bars of a symbol.

use std::fmt;
use std::str::FromStr;

use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Serialize;

use super::order_list::read_times;
use crate::http::app::App;
use crate::http::problem::{HttpResponse, Problem, excerpt, json_response};
use crate::http::query::Query;
use crate::index::{CandlePage, CandleQuery};
use crate::market::candles::{CandleOrder, Interval, Minute};
use crate::types::{Symbol, TimestampMicros};

/// Default number of candles per page.
const DEFAULT_LIMIT: usize = 100;
/// Most candles per page.
const MAX_LIMIT: usize = 1_000;
const INTERVALS: &str = "1m, 5m, 15m, 1h or 1d";
const A_CURSOR: &str = "a cursor from an earlier page of this interval and order";

/// Where the next page begins, and of which list it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    after: Minute,
    interval: Interval,
    order: CandleOrder,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    symbol: Symbol,
    interval: &'static str,
    candles: Vec<Bar>,
    next_cursor: Option<String>,
    missing: Vec<Missing>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bar {
    start: TimestampMicros,
    open_in_cents: i64,
    high_in_cents: i64,
    low_in_cents: i64,
    close_in_cents: i64,
    volume: u64,
    trades: u64,
    partial: bool,
}

#[derive(Serialize)]
struct Missing {
    from: TimestampMicros,
    to: TimestampMicros,
}

fn word_of(order: CandleOrder) -> &'static str {
    match order {
        CandleOrder::NewestFirst => "desc",
        CandleOrder::OldestFirst => "asc",
    }
}

fn order_of(word: &str) -> Option<CandleOrder> {
    match word {
        "desc" => Some(CandleOrder::NewestFirst),
        "asc" => Some(CandleOrder::OldestFirst),
        _ => None,
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interval, order) = (<&str>::from(self.interval), word_of(self.order));
        write!(formatter, "{}-{interval}-{order}", self.after.0)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let (minute, interval, order) = (next()?, next()?, next()?);
        let cursor = Self {
            after: Minute(minute.parse().map_err(|_| ())?),
            interval: interval.parse().map_err(|_| ())?,
            order: order_of(order).ok_or(())?,
        };
        // Nothing else is written so.
        if cursor.to_string() == text { Ok(cursor) } else { Err(()) }
    }
}

fn read(uri: &Uri, symbol: Symbol) -> Result<CandleQuery, Problem> {
    let query = Query::parse(uri, &["interval", "from", "to", "order", "limit", "cursor"])?;
    let interval = query.parsed::<Interval>("interval", INTERVALS)?.unwrap_or(Interval::Minute);
    let allowed = "\"desc\" (newest first) or \"asc\"";
    let order = query.word("order", allowed, order_of)?.unwrap_or_default();
    let (from, to) = read_times(&query)?;
    let limit = query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
    let cursor = query.word("cursor", A_CURSOR, |text| {
        let cursor: Cursor = text.parse().ok()?;
        ((cursor.interval, cursor.order) == (interval, order)).then_some(cursor)
    })?;
    let after = cursor.map(|cursor| cursor.after);
    Ok(CandleQuery { symbol, interval, from, to, order, after, limit })
}

/// `GET /symbol/:name/candles`.
pub(in crate::http) async fn list(
    app: &App,
    request: &Request<Incoming>,
    name: &str,
) -> Result<HttpResponse, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    let unknown = || Problem::not_found(format!("The exchange does not list {:?}.", excerpt(name)));
    let symbol = Symbol::in_any_case(name).map_err(|_| unknown())?;
    let query = read(request.uri(), symbol)?;
    app.symbols()?.index_of(&symbol).ok_or_else(unknown)?;
    let detail = "Of several nodes none makes candles.";
    let reads = app.site.candles.as_ref();
    let reads = reads.ok_or_else(|| Problem::unavailable("no_candles", detail))?;
    let busy =
        || Problem::unavailable("unavailable", "Candles cannot be read right now. Try again.");
    let answer = reads.page(query).map_err(|_busy| busy())?;
    let page = answer.await.map_err(|_ending| busy())?;
    let CandlePage { candles, next, missing } = page.map_err(|error| {
        tracing::debug!(%error, "candles cannot be read");
        busy()
    })?;
    let CandleQuery { interval, order, .. } = query;
    let bar = |(start, candle): (Minute, crate::market::candles::Candle)| Bar {
        start: start.start(),
        open_in_cents: candle.open,
        high_in_cents: candle.high,
        low_in_cents: candle.low,
        close_in_cents: candle.close,
        volume: candle.volume,
        trades: candle.trades,
        partial: candle.is_partial,
    };
    let missing = missing.into_iter().map(|one| Missing { from: one.from, to: one.to });
    let answer = Answer {
        symbol,
        interval: interval.into(),
        candles: candles.into_iter().map(bar).collect(),
        next_cursor: next.map(|after| Cursor { after, interval, order }.to_string()),
        missing: missing.collect(),
    };
    Ok(json_response(StatusCode::OK, &answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_nothing_else_is_one() {
        for order in [CandleOrder::NewestFirst, CandleOrder::OldestFirst] {
            let cursor = Cursor { after: Minute(28_857_600), interval: Interval::Hour, order };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "1", "1-1m", "1-2m-asc", "1-1m-up", "+1-1m-asc", "1-1m-asc-", "01-1m-asc"]
        {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}

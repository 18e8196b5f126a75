//! `GET /symbols` and `GET /symbol/:name`.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use crate::http::app::App;
use crate::http::problem::{HttpResponse, Problem, excerpt, json_response};
use crate::http::query::Query;
use crate::types::{PriceCents, Symbol};

/// Default number of symbols per page.
const DEFAULT_LIMIT: usize = 100;
/// Most symbols per page.
const MAX_LIMIT: usize = 1_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedSymbol<'a> {
    symbol: Symbol,
    previous_close_in_cents: Option<i64>,
    synthetic: bool,
    source: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SymbolPage<'a> {
    symbols: Vec<ListedSymbol<'a>>,
    next_cursor: Option<Symbol>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Quote {
    symbol: Symbol,
    price_in_cents: Option<i64>,
    previous_close_in_cents: Option<i64>,
    open_in_cents: Option<i64>,
    high_in_cents: Option<i64>,
    low_in_cents: Option<i64>,
    volume: u64,
    timestamp: Option<u64>,
    stale: bool,
}

/// `GET /symbols`: the listed symbols in alphabetical order.
pub(in crate::http) fn list(
    app: &App,
    request: &Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    let query = Query::parse(request.uri(), &["query", "limit", "cursor"])?;
    let wanted = query.get("query").unwrap_or("").to_ascii_uppercase();
    let limit = query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
    let after = query.symbol("cursor")?;
    let directory = app.symbols()?;
    let mut symbols: Vec<ListedSymbol<'_>> = directory
        .listings_after(after)
        .filter(|listing| listing.symbol.as_str().starts_with(&wanted))
        .take(limit + 1)
        .map(|listing| ListedSymbol {
            symbol: listing.symbol,
            previous_close_in_cents: listing.previous_close.map(PriceCents::cents),
            synthetic: listing.synthetic,
            source: &listing.source,
        })
        .collect();
    let more = symbols.len() > limit;
    symbols.truncate(limit);
    let next_cursor = symbols.last().filter(|_| more).map(|last| last.symbol);
    Ok(json_response(StatusCode::OK, &SymbolPage { symbols, next_cursor }))
}

/// `GET /symbol/:name`: the last value of one symbol.
pub(in crate::http) async fn get(
    app: &App,
    request: &Request<Incoming>,
    name: &str,
) -> Result<HttpResponse, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    Query::none(request.uri())?;
    let market = &app.site.market;
    let directory = app.symbols()?;
    let unknown = || Problem::not_found(format!("The exchange does not list {:?}.", excerpt(name)));
    let symbol = Symbol::in_any_case(name).map_err(|_| unknown())?;
    let index = directory.index_of(&symbol).ok_or_else(unknown)?;
    let listing = directory.listing(index).ok_or_else(unknown)?;
    app.await_prices(&[index]).await;
    let (value, is_current) = market.last_value(index);
    // Before the first print of a day, the day's prices are absent, whatever the last price was.
    let traded = |cents: i64| (cents > 0).then_some(cents);
    let quote = Quote {
        symbol,
        price_in_cents: traded(value.price_cents),
        previous_close_in_cents: listing.previous_close.map(PriceCents::cents),
        open_in_cents: traded(value.open_cents),
        high_in_cents: traded(value.high_cents),
        low_in_cents: traded(value.low_cents),
        volume: value.volume,
        timestamp: value.has_price().then_some(value.timestamp.micros()),
        stale: !is_current || !value.has_price(),
    };
    Ok(json_response(StatusCode::OK, &quote))
}

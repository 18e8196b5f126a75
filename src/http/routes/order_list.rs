//! `GET /orders`: pages of a user's orders, filtered.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Uri};
use serde::Serialize;
use strum::VariantArray;

use super::orders::{A_KEY, store_unavailable};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::moment::{A_TIME, moment};
use crate::http::order_cursor::OrderCursor;
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::{Query, invalid};
use crate::oms::StoreUnavailable;
use crate::order::{Order, OrderFilter, PageRequest, Sequence, Status, StatusSet};
use crate::runtime::{sleep, timeout};
use crate::types::{ClientOrderId, Symbol, TimestampMicros};

/// Default number of orders per page.
const DEFAULT_LIMIT: usize = 50;
/// Most orders per page.
const MAX_LIMIT: usize = 500;
/// Most symbols of a filter.
const MAX_SYMBOLS: usize = 50;
/// The word for all statuses of orders that have not ended.
const OPEN: &str = "open";
/// Parts that a page is read in before it is returned short, if it has any order. Up to then, and while it
/// has none, it goes on, with other work between the parts.
const MAX_PARTS_OF_SOME: usize = 8;
/// Other tasks run meanwhile: awaiting a timer is what lets them.
const PAUSE: Duration = Duration::from_micros(1);
/// Longest wait for the store to know the newest keys of a user with a burst of orders.
const KEY_DEADLINE: Duration = Duration::from_secs(2);

const KNOWN: [&str; 8] =
    ["status", "symbol", "clientOrderId", "from", "to", "order", "limit", "cursor"];
const LISTS: [&str; 2] = ["status", "symbol"];

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    orders: Vec<Arc<Order>>,
    next_cursor: Option<OrderCursor>,
}

/// What the query of `GET /orders` asks for.
#[derive(Debug)]
pub(in crate::http) struct ListedOrders {
    request: PageRequest,
    key: Option<ClientOrderId>,
    /// Tells the list from others: see [`OrderCursor`].
    of: Option<u64>,
}

impl ListedOrders {
    pub(in crate::http) fn read(uri: &Uri) -> Result<Self, Problem> {
        let query = Query::parse_with_lists(uri, &KNOWN, &LISTS)?;
        let filter = read_filter(&query)?;
        let allowed = "\"desc\" (newest first) or \"asc\"";
        let sequence = query.word("order", allowed, |word| match word {
            "desc" => Some(Sequence::NewestFirst),
            "asc" => Some(Sequence::OldestFirst),
            _ => None,
        })?;
        let sequence = sequence.unwrap_or_default();
        let key = query.word("clientOrderId", A_KEY, |text| ClientOrderId::new(text).ok())?;
        let limit = query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
        let of = OrderCursor::fingerprint(&filter, sequence, key.as_ref());
        let cursor = query.parsed::<OrderCursor>("cursor", "a cursor from an earlier page")?;
        if cursor.is_some_and(|cursor| cursor.of != of) {
            let detail = "The cursor belongs to a list with other parameters. Only `limit` may \
                          change from page to page.";
            return Err(Problem::field("cursor", "invalid_field", detail));
        }
        let after = cursor.map(|cursor| cursor.after);
        Ok(Self { request: PageRequest { filter, sequence, after, limit }, key, of })
    }
}

/// `GET /orders`: new orders do not shift the pages after a cursor.
pub(in crate::http) async fn list(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    let ListedOrders { request, key, of } = ListedOrders::read(&call.head.uri)?;
    let page = match &key {
        Some(key) => keyed(app, call, key, &request).await?,
        None => page(app, call, request, of).await?,
    };
    Ok(json_response(StatusCode::OK, &page))
}

/// The order that a key names, if the request selects it.
async fn keyed(
    app: &App,
    call: &Call,
    key: &ClientOrderId,
    request: &PageRequest,
) -> Result<Page, Problem> {
    let found = timeout(KEY_DEADLINE, app.site.orders.by_key(&call.user, key)).await;
    let found = found.unwrap_or(Err(StoreUnavailable)).map_err(store_unavailable)?;
    let is_after = |order: &Arc<Order>| {
        request.after.is_none_or(|after| request.sequence.is_before(after, order.order_id))
    };
    let found = found.filter(|order| request.filter.wants(order) && is_after(order));
    Ok(Page { orders: found.into_iter().collect(), next_cursor: None })
}

async fn page(
    app: &App,
    call: &Call,
    mut request: PageRequest,
    of: Option<u64>,
) -> Result<Page, Problem> {
    let mut page = Page::default();
    for parts in 1_usize.. {
        let part = app.site.orders.page(&call.user, &request).await.map_err(store_unavailable)?;
        request.limit = request.limit.saturating_sub(part.orders.len());
        request.after = part.next;
        page.orders.extend(part.orders);
        let is_enough = parts >= MAX_PARTS_OF_SOME && !page.orders.is_empty();
        if part.next.is_none() || request.limit == 0 || is_enough {
            break;
        }
        sleep(PAUSE).await;
    }
    page.next_cursor = request.after.map(|after| OrderCursor { after, of });
    Ok(page)
}

fn read_filter(query: &Query) -> Result<OrderFilter, Problem> {
    let statuses = query.list("status").map(statuses).collect::<Result<Vec<_>, _>>()?;
    let statuses = statuses.into_iter().reduce(StatusSet::with).unwrap_or_default();
    let symbols = read_symbols(query)?;
    let (from, to) = read_times(query)?;
    Ok(OrderFilter { statuses, symbols, from, to })
}

/// The symbols of a query, sorted.
pub(super) fn read_symbols(query: &Query) -> Result<Vec<Symbol>, Problem> {
    let refused = |error| Problem::field("symbol", "invalid_field", error);
    let mut symbols = Vec::new();
    for name in query.list("symbol") {
        let symbol = Symbol::in_any_case(name).map_err(refused)?;
        if !symbols.contains(&symbol) {
            symbols.push(symbol);
        }
        if symbols.len() > MAX_SYMBOLS {
            let detail = format!("More than {MAX_SYMBOLS} symbols are given.");
            return Err(Problem::field("symbol", "invalid_field", detail));
        }
    }
    symbols.sort_unstable();
    Ok(symbols)
}

/// The times `from` and `to` of a query: from the first on, up to but without the second.
pub(super) fn read_times(
    query: &Query,
) -> Result<(Option<TimestampMicros>, Option<TimestampMicros>), Problem> {
    let (from, to) = (query.word("from", A_TIME, moment)?, query.word("to", A_TIME, moment)?);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        let given = |name| query.get(name).unwrap_or_default();
        return Err(invalid("to", given("to"), &format!("later than `from` ({})", given("from"))));
    }
    Ok((from, to))
}

fn statuses(word: &str) -> Result<StatusSet, Problem> {
    if word == OPEN {
        return Ok(StatusSet::open());
    }
    let status: Status = word.parse().map_err(|_| {
        let names: Vec<&str> = Status::VARIANTS.iter().map(|status| status.into_str()).collect();
        let allowed = format!("{OPEN} (all that are not final), {}", names.join(", "));
        // The last one after an "or", as in other messages.
        let allowed = allowed.replace(", failed", " or failed");
        invalid("status", word, &allowed)
    })?;
    Ok(StatusSet::from_iter([status]))
}

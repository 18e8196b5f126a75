//! `GET /activities`: what happened to a user's orders and cash, in the sequence of the log.

use http::StatusCode;
use serde::Serialize;
use strum::VariantArray;

use super::accounts::check_kept;
use super::orders::store_unavailable;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::moment::{A_TIME, moment};
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::{Query, invalid};
use crate::index::{Activity, ActivityRequest, ActivityType};
use crate::wal::Lsn;

/// Default number of activities per page.
const DEFAULT_LIMIT: usize = 50;
/// Most activities per page.
const MAX_LIMIT: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    activities: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    /// The record that says so.
    id: String,
    #[serde(flatten)]
    activity: Activity,
}

fn read(query: &Query) -> Result<ActivityRequest, Problem> {
    let allowed = || {
        let words: Vec<&str> = ActivityType::VARIANTS.iter().map(|one| one.into_str()).collect();
        format!("one of {}", words.join(", "))
    };
    let types = query
        .list("types")
        .map(|word| word.parse::<ActivityType>().map_err(|_| invalid("types", word, &allowed())));
    let cursor = query.word("cursor", "a cursor from an earlier page", |text| {
        text.parse().ok().filter(|lsn: &u64| lsn.to_string() == text).map(Lsn)
    })?;
    Ok(ActivityRequest {
        types: types.collect::<Result<_, _>>()?,
        from: query.word("from", A_TIME, moment)?,
        after: cursor,
        limit: query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?,
    })
}

/// `GET /activities`: oldest first. What happens meanwhile does not shift the pages after a cursor.
pub(in crate::http) async fn list(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    let known = ["types", "from", "limit", "cursor"];
    let query = Query::parse_with_lists(&call.head.uri, &known, &["types"])?;
    let request = read(&query)?;
    check_kept(&app.site)?;
    let page = app.site.orders.activities(&call.user, &request).await.map_err(store_unavailable)?;
    let listed = |(Lsn(lsn), activity): (Lsn, Activity)| Listed { id: lsn.to_string(), activity };
    let activities = page.found.into_iter().map(listed).collect();
    let next_cursor = page.next.map(|Lsn(lsn)| lsn.to_string());
    Ok(json_response(StatusCode::OK, &Page { activities, next_cursor }))
}

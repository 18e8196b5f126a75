use super::subscribe::{LastEventId, heartbeat_of, last_event_id_of, no_room, order_wish};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::stream::{Mode, StreamRequest};

/// `GET /orders/stream`: a stream of the user's orders alone.
pub(in crate::http) fn get(app: &App, call: &Call) -> Result<StreamRequest, Problem> {
    let Call { user, head, .. } = call;
    let query = Query::parse(&head.uri, &["lastEventId", "heartbeat", "account"])?;
    // The id of a combined stream resumes its half for orders here.
    let known = last_event_id_of(&head.headers, &query).map(|id| {
        let LastEventId { prices, orders } = LastEventId::parse(&id);
        orders.or(prices).unwrap_or_default()
    });
    Ok(StreamRequest {
        permit: app.site.streams.quotas.reserve(user).map_err(no_room)?,
        symbols: Vec::new(),
        mode: Mode::Latest,
        max_rate: None,
        heartbeat: heartbeat_of(&query)?,
        resume: None,
        orders: Some(order_wish(app, user.clone(), known, &query)?),
    })
}

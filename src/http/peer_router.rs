//! The listener for other nodes: only what they sign, and of that only what users and operators ask for,
//! what nodes ask each other, and lines that the exchange has posted.

use std::rc::Rc;
use std::time::Instant;

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::app::App;
use super::body::{MAX_BODY_BYTES, read_body_up_to};
use super::call::Call;
use super::path::segments;
use super::peers::{Peers, Refused, signature_of};
use super::problem::Problem;
use super::quarantine::Decision;
use super::reply::Reply;
use super::router::{Route, nothing_at};
use super::{mass_cancel, posted_lines, quarantine, user_limit, user_routes};
use crate::exchange::webhook::MAX_WEBHOOK_BODY_BYTES;

/// Answers a request that another node has passed on.
pub(super) async fn route_peer(app: Rc<App>, request: Request<Incoming>) -> Reply {
    let Some(peers) = app.site.peers.clone() else {
        return Reply::Response(refused(Refused::Missing).into_response());
    };
    let answered = answer(&app, &peers, request).await;
    let mut reply = answered.unwrap_or_else(|problem| Reply::Response(problem.into_response()));
    reply.name_node(&peers);
    reply
}

async fn answer(
    app: &Rc<App>,
    peers: &Peers,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let refuse = |error: Refused| {
        peers.note_refused(error);
        refused(error)
    };
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    // Not a byte is read of what cannot be signed.
    signature_of(&head).map_err(refuse)?;
    let takes_lines = head.uri.path() == posted_lines::POSTED_LINES;
    let limit = if takes_lines { MAX_WEBHOOK_BODY_BYTES } else { MAX_BODY_BYTES };
    let (head, body) = read_body_up_to(limit, Request::from_parts(head, body)).await?;
    let user = peers.user_of(&head, &body).map_err(refuse)?;
    if takes_lines {
        return posted_lines::take(app, &body).await.map(Reply::Response);
    }
    let call = Call { user, head, body, arrived, is_passed_on: true };
    let path = call.head.uri.path().to_owned();
    if path == user_limit::OPEN_STREAMS {
        return Ok(Reply::Response(user_limit::open_streams(app, &call.user)));
    }
    let decoded = segments(&path)?;
    let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
    if mass_cancel::is_at(&call.head.method, &path) {
        let answer = mass_cancel::for_peer(&app.site, peers, &call.body).await;
        return answer.map(Reply::Response);
    }
    let answer = match (call.head.method.as_str(), segments.as_slice()) {
        ("GET", ["quarantine"]) => Some(quarantine::list_for_peer(&app.site).await),
        ("POST", decision) => match Decision::of_path(decision) {
            Some(decision) => {
                Some(quarantine::decide_for_peer(&app.site, peers, decision, &call.body).await)
            }
            None => None,
        },
        _ => None,
    };
    if let Some(answer) = answer {
        return answer.map(Reply::Response);
    }
    let route = Route::find(&path, &segments);
    let wish = route.and_then(|route| route.wish(&call.head.method));
    user_routes::answer(app, wish.ok_or_else(|| nothing_at(&path))?, call).await
}

fn refused(error: Refused) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", error).closing()
}

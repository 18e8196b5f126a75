use std::rc::Rc;

use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::app::App;
use super::problem::Problem;
use super::reply::Reply;
use super::routes::{
    order_stream, orders, page, session, subscribe, subscription_change, symbols, webhook,
};

/// Longest path and query together.
const MAX_URI_BYTES: usize = 32 * 1024;

/// Finds and runs the route of a request.
pub(super) async fn route(app: Rc<App>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method().clone();
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > MAX_URI_BYTES) {
        let detail = format!("The path and query are longer than {MAX_URI_BYTES} bytes.");
        let problem = Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail);
        return Reply::Response(problem.into_response());
    }
    // A browser's streams answer their problems themselves: it gives up for good on most others.
    if segments == ["subscribe"] && method == Method::GET {
        return subscribe::get(&app, &request);
    }
    if segments == ["orders", "stream"] && method == Method::GET {
        return order_stream::get(&app, &request);
    }
    let outcome = match (segments.as_slice(), &method) {
        (["session"], &Method::POST) => session::post(&app, request).await,
        (["session"], &Method::DELETE) => session::delete(&app, &request),
        (["session"], _) => not_allowed("POST, DELETE"),
        (["symbols"], &Method::GET) => symbols::list(&app, &request),
        (["symbols"], _) => not_allowed("GET"),
        (["symbol", name], &Method::GET) => symbols::get(&app, &request, name),
        (["symbol", _], _) => not_allowed("GET"),
        (["subscribe"], &Method::POST) => match subscribe::post(&app, request).await {
            Ok(stream) => return Reply::Stream(stream),
            Err(problem) => Err(problem),
        },
        (["subscribe"], _) => not_allowed("GET, POST"),
        (["subscribe", id], &Method::PATCH) => subscription_change::patch(&app, request, id).await,
        (["subscribe", _], _) => not_allowed("PATCH"),
        (["order"], &Method::POST) => orders::post(&app, request).await,
        (["order"], _) => not_allowed("POST"),
        (["order", id], &Method::GET) => orders::get(&app, &request, id).await,
        (["order", id], &Method::DELETE) => orders::delete(&app, &request, id).await,
        (["order", _], _) => not_allowed("GET, DELETE"),
        (["orders"], &Method::GET) => orders::list(&app, &request).await,
        (["orders"] | ["orders", "stream"], _) => not_allowed("GET"),
        (["exchange", "trades"], &Method::POST) => webhook::post(&app, request).await,
        (["exchange", "trades"], _) => not_allowed("POST"),
        (_, &Method::GET) => page::get(&path),
        _ => Err(Problem::not_found(format!("There is no {method} {path}."))),
    };
    Reply::Response(outcome.unwrap_or_else(Problem::into_response))
}

fn not_allowed(allowed: &'static str) -> Result<super::problem::HttpResponse, Problem> {
    let detail = format!("This path allows {allowed}.");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut response = problem.into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    Ok(response)
}

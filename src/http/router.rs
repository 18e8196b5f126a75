//! Maps the requests of clients to their routes.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{ALLOW, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;

use super::app::App;
use super::call::Call;
use super::path::{file_path, segments};
use super::problem::{HttpResponse, Problem, excerpt};
use super::reply::Reply;
use super::routes::{candles, clock, page, session, subscribe, symbols, webhook};
use super::user_routes::{self, Wish};
use crate::web::{self, Asset};

/// Longest path and query together.
const MAX_URI_BYTES: usize = 32 * 1024;

/// The resource that a path names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route<'a> {
    Session,
    Symbols,
    Symbol(&'a str),
    Candles(&'a str),
    Clock,
    Calendar,
    Subscribe,
    OpenStream(&'a str),
    NewOrder,
    Order(&'a str),
    Executions(&'a str),
    Orders,
    Account,
    Positions,
    Position(&'a str),
    Portfolio,
    Activities,
    Preview,
    OrderStream,
    Webhook,
    File(&'static Asset),
}

impl<'a> Route<'a> {
    pub(super) fn find(path: &str, segments: &[&'a str]) -> Option<Self> {
        Some(match segments {
            ["session"] => Self::Session,
            ["symbols"] => Self::Symbols,
            ["symbol", name] => Self::Symbol(name),
            ["symbol", name, "candles"] => Self::Candles(name),
            ["clock"] => Self::Clock,
            ["calendar"] => Self::Calendar,
            ["subscribe"] => Self::Subscribe,
            ["subscribe", id] => Self::OpenStream(id),
            ["order"] => Self::NewOrder,
            ["order", id] => Self::Order(id),
            ["order", id, "executions"] => Self::Executions(id),
            ["orders"] => Self::Orders,
            ["account"] => Self::Account,
            ["positions"] => Self::Positions,
            ["positions", symbol] => Self::Position(symbol),
            ["portfolio"] => Self::Portfolio,
            ["activities"] => Self::Activities,
            ["orders", "preview"] => Self::Preview,
            ["orders", "stream"] => Self::OrderStream,
            ["exchange", "trades"] => Self::Webhook,
            _ => Self::File(web::asset(&file_path(path, segments)?)?),
        })
    }

    /// What a user asks for with this method, where it is about orders or about streams that any node
    /// may have.
    pub(super) fn wish(self, method: &Method) -> Option<Wish<'a>> {
        match (self, method.as_str()) {
            (Self::NewOrder, "POST") => Some(Wish::NewOrder),
            (Self::Order(id), "GET" | "HEAD") => Some(Wish::Order(id)),
            (Self::Order(id), "DELETE") => Some(Wish::Cancel(id)),
            (Self::Executions(id), "GET" | "HEAD") => Some(Wish::Executions(id)),
            (Self::Orders, "GET" | "HEAD") => Some(Wish::Orders),
            (Self::Orders, "DELETE") => Some(Wish::CancelAll),
            (Self::Account, "GET" | "HEAD") => Some(Wish::Account),
            (Self::Positions, "GET" | "HEAD") => Some(Wish::Positions),
            (Self::Position(symbol), "GET" | "HEAD") => Some(Wish::Position(symbol)),
            (Self::Portfolio, "GET" | "HEAD") => Some(Wish::Portfolio),
            (Self::Activities, "GET" | "HEAD") => Some(Wish::Activities),
            (Self::Preview, "POST") => Some(Wish::Preview),
            (Self::OrderStream, "GET" | "HEAD") => Some(Wish::OrderStream),
            (Self::Subscribe, "GET" | "HEAD") => Some(Wish::PriceStream),
            (Self::OpenStream(id), "PATCH") => Some(Wish::ChangeStream(id)),
            _ => None,
        }
    }

    /// The methods of the route, in the form of `Allow`.
    fn allowed(self) -> &'static str {
        match self {
            Self::Session => "POST, DELETE",
            Self::Subscribe => "GET, HEAD, POST",
            Self::OpenStream(_) => "PATCH",
            Self::NewOrder | Self::Preview | Self::Webhook => "POST",
            Self::Order(_) | Self::Orders => "GET, HEAD, DELETE",
            Self::Symbols
            | Self::Symbol(_)
            | Self::Candles(_)
            | Self::Clock
            | Self::Calendar
            | Self::Executions(_)
            | Self::Account
            | Self::Positions
            | Self::Position(_)
            | Self::Portfolio
            | Self::Activities
            | Self::OrderStream
            | Self::File(_) => "GET, HEAD",
        }
    }
}

/// Finds and runs the route of a request. `HEAD` is answered like `GET`; hyper omits the body.
pub(super) async fn route(app: Rc<App>, request: Request<Incoming>) -> Reply {
    let answered = answer(&app, request).await;
    let mut reply = answered.unwrap_or_else(|problem| Reply::Response(problem.into_response()));
    if let Some(peers) = &app.site.peers {
        reply.name_node(peers);
    }
    reply
}

/// A request of HTTP/1.1 has exactly one `Host` (RFC 9112, section 3.2).
pub(super) fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let hosts = request.headers().get_all(HOST).iter().count();
    let detail = match (request.version(), hosts) {
        (_, 1) => return Ok(()),
        (Version::HTTP_09 | Version::HTTP_10, 0) => return Ok(()),
        (_, 0) => "An HTTP/1.1 request must have a `Host` header.",
        (_, _) => "A request may have only one `Host` header.",
    };
    Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_host", detail).closing())
}

async fn answer(app: &Rc<App>, request: Request<Incoming>) -> Result<Reply, Problem> {
    check_host(&request)?;
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > MAX_URI_BYTES) {
        let detail = format!("The path and query exceed {MAX_URI_BYTES} bytes.");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
    }
    let path = request.uri().path().to_owned();
    if path == "*" && request.method() == Method::OPTIONS {
        return Ok(Reply::Response(server_options()));
    }
    let decoded = segments(&path)?;
    let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
    let route = Route::find(&path, &segments);
    let route = route.ok_or_else(|| nothing_at(&path))?;
    let method = request.method().clone();
    if let Some(wish) = route.wish(&method) {
        let call = Call::of_client(app, request).await?;
        return user_routes::answer(app, wish, call).await;
    }
    let response = match (route, method.as_str()) {
        (Route::Webhook, _) if app.site.webhook.is_none() => Err(webhook::no_webhook()),
        (Route::Session, "POST") => session::post(app, request).await,
        (Route::Session, "DELETE") => session::delete(app, &request),
        (Route::Symbols, "GET" | "HEAD") => symbols::list(app, &request),
        (Route::Symbol(name), "GET" | "HEAD") => symbols::get(app, &request, name).await,
        (Route::Candles(name), "GET" | "HEAD") => candles::list(app, &request, name).await,
        (Route::Clock, "GET" | "HEAD") => clock::clock(app, &request),
        (Route::Calendar, "GET" | "HEAD") => clock::calendar(app, &request),
        (Route::Subscribe, "POST") => {
            return subscribe::post(app, request).await.map(Reply::Stream);
        }
        (Route::Webhook, "POST") => webhook::post(app, request).await,
        (Route::File(asset), "GET" | "HEAD") => Ok(page::get(asset)),
        (route, _) => Err(Problem::not_allowed(&method, route.allowed())),
    };
    response.map(Reply::Response)
}

/// A path without a resource.
pub(super) fn nothing_at(path: &str) -> Problem {
    // `CONNECT` names a host and no path.
    if path.is_empty() {
        return Problem::not_found("The request names no path.");
    }
    Problem::not_found(format!("There is nothing at {}.", excerpt(path)))
}

/// `OPTIONS *`: the methods of the whole server (RFC 9110, section 9.3.7).
fn server_options() -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(ALLOW, methods);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_host_except_before_http_1_1() {
        let with = |version, hosts: &[&str]| {
            let mut request = Request::builder().version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            check_host(&request.body(()).unwrap()).is_ok()
        };
        assert!(with(Version::HTTP_11, &["a"]) && with(Version::HTTP_11, &[""]));
        assert!(!with(Version::HTTP_11, &[]) && !with(Version::HTTP_11, &["a", "a"]));
        assert!(with(Version::HTTP_10, &[]) && !with(Version::HTTP_10, &["a", "b"]));
    }
}

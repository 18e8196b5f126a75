use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{HeaderValue, ORIGIN};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::shutdown::Shutdown;

use super::app::Site;
use super::operate;
use super::problem::{HttpResponse, Problem, bytes_response, json_response};
use super::reply::Reply;

/// The operators' listener: is it alive, does it take traffic, what did it count; and the means to
/// stop trading.
#[derive(Clone)]
pub struct Admin {
    /// What is served to clients.
    pub site: Site,
    /// Whether the process is stopping.
    pub shutdown: Shutdown,
}

impl Admin {
    /// Answers a request that came from `peer`.
    pub(super) async fn route(
        &self,
        request: Request<Incoming>,
        peer: Option<SocketAddr>,
    ) -> Reply {
        let path = request.uri().path().to_owned();
        // No page that an operator happens to have open may stop trading in their name.
        if request.method() != Method::GET && request.headers().contains_key(ORIGIN) {
            let detail = "These routes are not for web pages.";
            let problem = Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail);
            return Reply::Response(problem.closing().into_response());
        }
        let response = match (request.method(), path.as_str()) {
            (&Method::GET, "/healthz") => {
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                bytes_response(StatusCode::OK, text, Bytes::from_static(b"alive\n"))
            }
            (&Method::GET, "/readyz") => self.ready(),
            (&Method::GET, "/metrics") => {
                let text = HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                );
                bytes_response(StatusCode::OK, text, Bytes::from(self.site.metrics.print()))
            }
            (&Method::GET, "/kill-switch") => operate::kill_switch(self.site.orders.gateway()),
            (&Method::PUT, "/kill-switch") => operate::halt(&self.site, request, peer)
                .await
                .unwrap_or_else(Problem::into_response),
            (&Method::POST, "/mass-cancel") => operate::mass_cancel(&self.site, request, peer)
                .await
                .unwrap_or_else(Problem::into_response),
            (method, path) => {
                Problem::not_found(format!("There is no {method} {path} here.")).into_response()
            }
        };
        Reply::Response(response)
    }

    fn ready(&self) -> HttpResponse {
        let feed = self.site.market.status.is_up();
        let symbols = !self.site.market.directory.load().is_empty();
        let orders = self.site.orders.gateway().is_accepting();
        let store = self.site.orders.store_is_healthy();
        let readable = self.site.orders.is_readable();
        let running = !self.shutdown.is_requested();
        let ready = feed && symbols && orders && store && readable && running;
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let checks = json!({
            "feed": feed,
            "symbols": symbols,
            "orders": orders,
            "index": store,
            // Not before Postgres has what a start recovered, where it is awaited.
            "readable": readable,
            "running": running,
        });
        // For information only: prices, reads and cancels go on without it.
        let exchange = self.site.orders.gateway().exchange_state().as_str();
        json_response(status, &json!({ "ready": ready, "checks": checks, "exchange": exchange }))
    }
}

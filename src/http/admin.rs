use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::shutdown::Shutdown;

use super::app::Site;
use super::problem::{HttpResponse, Problem, bytes_response, json_response};
use super::reply::Reply;

/// The operators' listener: is it alive, does it take traffic, what did it count.
#[derive(Clone)]
pub struct Admin {
    /// What is served to clients.
    pub site: Site,
    /// Whether the process is stopping.
    pub shutdown: Shutdown,
}

impl Admin {
    pub(super) fn route(&self, request: &Request<Incoming>) -> Reply {
        let response = match (request.method(), request.uri().path()) {
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
            (method, path) => {
                Problem::not_found(format!("There is no {method} {path} here.")).into_response()
            }
        };
        Reply::Response(response)
    }

    fn ready(&self) -> HttpResponse {
        let feed = self.site.market.status.is_up();
        let symbols = !self.site.market.directory.load().is_empty();
        let orders = self.site.orders.is_accepting();
        let store = self.site.orders.store_is_healthy();
        let running = !self.shutdown.is_requested();
        let ready = feed && symbols && orders && store && running;
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let checks = json!({
            "feed": feed,
            "symbols": symbols,
            "orders": orders,
            "index": store,
            "running": running,
        });
        json_response(status, &json!({ "ready": ready, "checks": checks }))
    }
}

//! The operators' listener: health, metrics, kill switch, mass cancel, quarantine, users' cash and the
//! comparisons at the ends of days.

use std::net::SocketAddr;

use crate::metrics::PageFormat;
use crate::shutdown::Shutdown;
use bytes::Bytes;
use http::header::{ACCEPT, HeaderMap, HeaderValue, ORIGIN};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::app::Site;
use super::cash;
use super::day_end;
use super::mass_cancel::mass_cancel;
use super::operate;
use super::path::segments;
use super::peers::PeerPool;
use super::problem::{HttpResponse, Problem, bytes_response};
use super::quarantine::{self, Decision};
use super::query::Query;
use super::ready::ready;
use super::reply::Reply;
use super::router::{check_host, nothing_at};

/// Routes of the operators' listener: liveness, readiness and metrics, and the means to stop
/// trading.
pub struct Admin {
    /// The state shared with the clients' listeners.
    site: Site,
    /// Whether the process is stopping.
    shutdown: Shutdown,
    /// This listener's connections to other nodes.
    pool: PeerPool,
}

impl Admin {
    /// The routes of this thread. `shutdown`: whether the process is stopping.
    pub fn new(site: Site, shutdown: Shutdown) -> Self {
        Self { site, shutdown, pool: PeerPool::default() }
    }

    /// Answers a request from `peer`.
    pub(super) async fn route(
        &self,
        request: Request<Incoming>,
        peer: Option<SocketAddr>,
    ) -> Reply {
        let answer = self.answer(request, peer).await;
        Reply::Response(answer.unwrap_or_else(Problem::into_response))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Option<SocketAddr>,
    ) -> Result<HttpResponse, Problem> {
        check_host(&request)?;
        let method = request.method().clone();
        // A page open in an operator's browser must not be able to stop trading.
        let changes_nothing = matches!(method.as_str(), "GET" | "HEAD");
        if !changes_nothing && request.headers().contains_key(ORIGIN) {
            let detail = "Web pages may not use these routes.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail).closing());
        }
        let path = request.uri().path().to_owned();
        let decoded = segments(&path)?;
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        match (segments.as_slice(), method.as_str()) {
            // Probes may add any query parameters to these two paths.
            (["healthz"], "GET" | "HEAD") => {
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                Ok(bytes_response(StatusCode::OK, text, Bytes::from_static(b"alive\n")))
            }
            (["readyz"], "GET" | "HEAD") => Ok(ready(&self.site, &self.shutdown)),
            (["metrics"], "GET" | "HEAD") => {
                Query::none(request.uri())?;
                Ok(self.metrics(request.headers()))
            }
            (["kill-switch"], "GET" | "HEAD") => {
                Query::none(request.uri())?;
                Ok(operate::kill_switch(self.site.orders.commands()))
            }
            (["kill-switch"], "PUT") => operate::halt(&self.site, request, peer).await,
            (["mass-cancel"], "POST") => mass_cancel((&self.site, &self.pool), request, peer).await,
            (["trial-balance"], "GET" | "HEAD") => {
                Query::none(request.uri())?;
                cash::trial_balance(&self.site).await
            }
            (["accounts", user], "GET" | "HEAD") => {
                Query::none(request.uri())?;
                cash::show(&self.site, user).await
            }
            (["accounts", user, name], _) if cash::kind_of(name).is_some() => {
                let Some(kind) = cash::kind_of(name).filter(|_| method == Method::POST) else {
                    return Err(Problem::not_allowed(&method, "POST"));
                };
                cash::move_cash(&self.site, (user, kind), request, peer).await
            }
            (["quarantine"], "GET" | "HEAD") => {
                Query::none(request.uri())?;
                quarantine::list(&self.site, &self.pool).await
            }
            (["day-ends", date], "GET" | "HEAD") => day_end::show(&self.site, date, request.uri()),
            (["day-ends", date], "POST") => day_end::compare(&self.site, date, request, peer).await,
            (["day-ends", _], _) => Err(Problem::not_allowed(&method, "GET, HEAD, POST")),
            (decision, "POST") if Decision::of_path(decision).is_some() => {
                let Some(decision) = Decision::of_path(decision) else {
                    return Err(nothing_at(&path));
                };
                quarantine::decide((&self.site, &self.pool), decision, request, peer).await
            }
            (decision, _) if Decision::of_path(decision).is_some() => {
                Err(Problem::not_allowed(&method, "POST"))
            }
            (["healthz" | "readyz" | "metrics" | "quarantine" | "trial-balance"], _)
            | (["accounts", _], _) => Err(Problem::not_allowed(&method, "GET, HEAD")),
            (["kill-switch"], _) => Err(Problem::not_allowed(&method, "GET, HEAD, PUT")),
            (["mass-cancel"], _) => Err(Problem::not_allowed(&method, "POST")),
            _ => Err(nothing_at(&path)),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> HttpResponse {
        let format = wanted_format(headers);
        let text = HeaderValue::from_static(format.content_type());
        bytes_response(StatusCode::OK, text, Bytes::from(self.site.metrics.print(format)))
    }
}

/// OpenMetrics, unless the scraper prefers the older format (RFC 9110, section 12.5.1).
fn wanted_format(headers: &HeaderMap) -> PageFormat {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accept = ranges.collect::<Vec<_>>().join(",");
    let quality = |kind: &str| quality_of(&accept, kind);
    if quality("text/plain") > quality("application/openmetrics-text") {
        PageFormat::Prometheus
    } else {
        PageFormat::OpenMetrics
    }
}

/// The quality of a media type: that of the most specific range that matches it.
fn quality_of(accept: &str, kind: &str) -> f32 {
    let (group, _) = kind.split_once('/').unwrap_or((kind, ""));
    let specificity = |range: &str| match range {
        "*/*" => Some(1),
        range if range.strip_suffix("/*") == Some(group) => Some(2),
        range if range == kind => Some(3),
        _ => None,
    };
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let specificity = specificity(&parts.next()?.to_ascii_lowercase())?;
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        Some((specificity, quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0)))
    });
    ranges.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_the_format_they_prefer() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            wanted_format(&headers)
        };
        let (new, old) = (PageFormat::OpenMetrics, PageFormat::Prometheus);
        assert_eq!(wanted_format(&HeaderMap::new()), new);
        assert_eq!(of("*/*"), new);
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(of(prometheus), new);
        assert_eq!(of("text/plain;version=0.0.4"), old);
        assert_eq!(of("text/plain;version=0.0.4;q=1,*/*;q=0.1"), old);
        assert_eq!(of("text/*, application/openmetrics-text;q=0.2"), old);
        assert_eq!(of("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), new);
        assert_eq!(of("nonsense;q=x"), new);
    }
}

//! Entry points of the fuzz targets in `tests/fuzz/` for the parsers of client input, beyond hyper.
//! A violated property panics.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue, Uri};

use super::auth::{Authenticator, Secret};
use super::mass_cancel::MassCancel;
use super::operate::HaltRequest;
use super::path::segments;
use super::problem::Problem;
use super::query::Query;
use super::routes::order_list::ListedOrders;
use super::routes::orders::NewOrder;
use super::routes::subscribe::Subscription;
use super::routes::subscription_change::Change;

/// The known query parameters.
const KNOWN: [&str; 4] = ["status", "symbol", "limit", "cursor"];

/// Parses a body: of `POST /order`, of `POST /subscribe` and its changes, and of the operators'
/// requests.
///
/// # Panics
/// When an error is not a `4xx`.
pub fn client_body(data: &[u8]) {
    check(NewOrder::read(data));
    check(Subscription::read(data));
    check(Change::read(data));
    check(HaltRequest::read(data));
    check(MassCancel::read(data));
}

/// Parses a request target with the parameters of `GET /orders`.
///
/// # Panics
/// When an error is not a `4xx`.
pub fn client_query(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    check(segments(uri.path()));
    check(ListedOrders::read(&uri));
    let Some(query) = check(Query::parse(&uri, &KNOWN)) else { return };
    if let Some(limit) = check(query.number("limit", 1..=500, 50)) {
        assert!((1..=500).contains(&limit));
    }
    check(query.symbol("symbol"));
}

/// Parses an `Authorization` header and, after a line end, a `Cookie` header.
///
/// # Panics
/// When somebody without a token is authenticated.
pub fn client_credentials(data: &[u8]) {
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [AUTHORIZATION, COOKIE] {
        if let Some(Ok(value)) = lines.next().map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    }
    let authenticator = Authenticator::new(&Secret { bytes: vec![7; 32], is_development: false });
    assert!(
        check(authenticator.user_of(&headers)).is_none(),
        "no fuzz input contains a valid signature"
    );
}

fn check<T>(outcome: Result<T, Problem>) -> Option<T> {
    let problem = match outcome {
        Ok(value) => return Some(value),
        Err(problem) => problem,
    };
    let response = problem.into_response();
    assert!(response.status().is_client_error(), "{}", response.status());
    None
}

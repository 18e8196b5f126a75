use bytes::Bytes;
use http::header::{HeaderValue, SET_COOKIE};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::http::app::App;
use crate::http::auth::{SESSION_COOKIE, TOKEN_LIFETIME_S, bearer_token};
use crate::http::body::read_body;
use crate::http::fields::Fields;
use crate::http::problem::{HttpResponse, Problem, bytes_response, json_response};
use crate::http::query::Query;
use crate::types::UserId;

/// `POST /session`: sets the cookie that a browser's `EventSource` needs.
pub(in crate::http) async fn post(
    app: &App,
    request: Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    let authenticator = &app.site.authenticator;
    let (request, body) = read_body(request).await?;
    Query::none(&request.uri)?;
    let user = if bearer_token(&request.headers)?.is_some() {
        let user = authenticator.user_of(&request.headers)?;
        // The token alone identifies the user; the body must not seem to.
        Fields::none(&body)?;
        user
    } else if authenticator.is_development() {
        let login = Fields::parse(&body, &["user"])?;
        let name = login.required("user", "a user name", serde_json::Value::as_str)?;
        UserId::new(name).map_err(|error| Problem::field("user", "invalid_field", error))?
    } else {
        return Err(Problem::unauthorized("Send `Authorization: Bearer <token>`."));
    };
    let token = authenticator
        .issue(&user)
        .map_err(|error| Problem::field("user", "invalid_field", error))?;
    let mut response = json_response(StatusCode::OK, &json!({ "user": user.as_str() }));
    set_cookie(&mut response, &token, TOKEN_LIFETIME_S);
    Ok(response)
}

/// `DELETE /session`: clears the cookie.
pub(in crate::http) fn delete(
    app: &App,
    request: &Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    Query::none(request.uri())?;
    let json = HeaderValue::from_static("application/json");
    let mut response = bytes_response(StatusCode::NO_CONTENT, json, Bytes::new());
    set_cookie(&mut response, "", 0);
    Ok(response)
}

fn set_cookie(response: &mut HttpResponse, token: &str, max_age_s: u64) {
    let cookie =
        format!("{SESSION_COOKIE}={token}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict");
    let Ok(cookie) = HeaderValue::from_str(&cookie) else {
        unreachable!("a token is base64 and dots, which a header may contain")
    };
    response.headers_mut().insert(SET_COOKIE, cookie);
}

//! Browser sessions: log-in by name in development, a cookie, and logout.

use crate::support::{self, Server};
use serde_json::json;
use ureq::http::Request;

#[test]
fn a_session_cookie_stands_in_for_a_token() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let url = |path: &str| format!("{}{path}", server.address);
    let send = |request: Request<String>| agent.run(request).unwrap();

    let wrong = Request::post(url("/session")).body(json!({"user": "a b"}).to_string()).unwrap();
    assert_eq!(send(wrong).status(), 400);
    let login = Request::post(url("/session")).body(json!({"user": "carol"}).to_string()).unwrap();
    let answer = send(login);
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();

    let orders = Request::get(url("/orders")).header("cookie", pair).body(String::new()).unwrap();
    assert_eq!(send(orders).status(), 200);
    let logout =
        Request::delete(url("/session")).header("cookie", pair).body(String::new()).unwrap();
    let answer = send(logout);
    assert_eq!(answer.status(), 204);
    assert!(answer.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[test]
fn with_a_configured_secret_nobody_logs_in_by_name() {
    let data = tempfile::tempdir().unwrap();
    // A token signed with the development key, before there was a secret.
    let server = Server::start(data.path(), &[]);
    let old = support::token(data.path(), "carol");
    assert!(server.program.stop().success());
    let secret = data.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let server = Server::start(data.path(), &["--jwt-secret-file", secret.to_str().unwrap()]);
    let by_name = support::api::Client::new(&server.address, "");
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let login = Request::post(format!("{}/session", server.address))
        .body(json!({"user": "carol"}).to_string())
        .unwrap();
    assert_eq!(agent.run(login).unwrap().status(), 401);
    assert_eq!(by_name.get("/orders").status, 401);
    let by_old_token = support::api::Client::new(&server.address, &old);
    assert_eq!(by_old_token.get("/orders").status, 401);
}

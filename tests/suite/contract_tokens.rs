//! Tokens from other issuers: which claims a JWT needs. `longbow token` creates no key.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::api::Client;
use crate::support::{Server, run};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const KEY: &str = "a key of others, of at least 32 bytes";

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(KEY.as_bytes()).unwrap();
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

#[test]
fn the_times_of_a_token_are_numeric_dates_and_only_its_end_is_needed() {
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("secret");
    fs::write(&secret, format!("{KEY}\n")).unwrap();
    let dir = data.path().join("data");
    let server = Server::start(&dir, &["--jwt-secret-file", secret.to_str().unwrap()]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (whole, now) = (now.as_secs(), now.as_secs_f64());
    let status = |claims: &Value| Client::new(&server.address, &sign(claims)).get("/orders").status;
    for claims in [
        json!({"sub": "alice", "exp": whole + 60}),
        json!({"sub": "alice", "exp": now + 60.5}),
        json!({"sub": "alice", "exp": now + 60.5, "iat": now - 0.5, "nbf": now - 1.25}),
        json!({"sub": "alice", "exp": 1e11, "iat": now, "iss": "us", "jti": "1", "scope": "x"}),
    ] {
        assert_eq!(status(&claims), 200, "{claims}");
    }
    for claims in [
        json!({"sub": "alice"}),
        json!({"exp": now + 60.0}),
        json!({"sub": "alice", "exp": now - 60.5}),
        json!({"sub": "alice", "exp": now + 60.0, "nbf": now + 30.5}),
        json!({"sub": "alice", "exp": "soon"}),
        json!({"sub": "", "exp": now + 60.0}),
        json!({"sub": ["alice"], "exp": now + 60.0}),
    ] {
        assert_eq!(status(&claims), 401, "{claims}");
    }
    assert!(!dir.join("jwt-secret").exists(), "it needs no key of its own");
}

#[test]
fn a_token_is_made_with_a_servers_key_and_never_makes_one() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("never-made");
    let arguments = ["token", "--user", "alice", "--data-dir", dir.to_str().unwrap()];
    let refused = run(&arguments);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{said}");
    for part in ["never-made", "start the server", "--data-dir", "--jwt-secret-file"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!dir.exists(), "nothing was made");
    let server = Server::start(&dir, &[]);
    assert_eq!(server.user(&dir, "alice").get("/orders").status, 200);
}

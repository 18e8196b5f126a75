//! Keys that nodes share, and the listener on which they know each other by them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::support::api::{self, Client};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::{Exchange, Server, ports, run};

/// Makes keys in a directory; their path.
fn keys_in(folder: &Path) -> String {
    let keys = folder.join("keys").to_str().unwrap().to_owned();
    let output = run(&["keys", "init", &keys]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for word in ["token.key", "peers.key", "--keys", keys.as_str()] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    keys
}

fn token(settings: &[&str]) -> String {
    let output = run(&[&["token", "--user", "alice"], settings].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What `curl` says of an answer: its status, and the head and body together.
fn curl(arguments: &[&str]) -> (u16, String) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--max-time", "20"]).args(arguments);
    let output = curl.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn keys_are_made_once_and_a_token_works_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys_in(folder.path());
    let again = run(&["keys", "init", &keys]);
    let error = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && error.contains("token.key exists already"), "{error}");

    let servers =
        ["a", "b"].map(|name| Server::start(&folder.path().join(name), &["--keys", &keys]));
    let token = token(&["--keys", &keys]);
    for server in &servers {
        let alice = Client::new(&server.address, &token);
        assert_eq!(alice.get("/orders").status, 200);
        let (status, _) =
            curl(&["-d", r#"{"user":"bob"}"#, &format!("{}/session", server.address)]);
        assert_eq!(status, 401, "nobody logs in by name alone");
    }
    let bearer = format!("Authorization: Bearer {token}");
    let (_, session) =
        curl(&["-X", "POST", "-H", &bearer, &format!("{}/session", servers[0].address)]);
    let (_, cookie) = session.split_once("longbow_session=").unwrap();
    let cookie = format!("Cookie: longbow_session={}", cookie.split(';').next().unwrap());
    let (status, _) = curl(&["-H", &cookie, &format!("{}/orders", servers[1].address)]);
    assert_eq!(status, 200, "a session of one server is one of the other");
    let (_, answer) = curl(&["-H", &cookie, &format!("{}/orders", servers[1].address)]);
    assert!(!answer.to_lowercase().contains("x-longbow-node"), "it is alone: {answer}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys_in(folder.path());
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let member = [
        "--redis=redis://127.0.0.1:1",
        "--postgres=postgres://x@127.0.0.1:1/x",
        "--commit=postgres",
    ];
    let free = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    for (more, expected) in [
        (vec!["--keys", &keys, "--jwt-secret-file", "x"], "--jwt-secret-file"),
        ([&free[..], &["--keys", "/nowhere"]].concat(), "/nowhere/token.key"),
        ([&free[..], &["--keys", "/nowhere"]].concat(), "longbow keys init DIR"),
        ([&free[..], &["--peer-listen", "127.0.0.1:0"]].concat(), "--commit postgres"),
        ([&member[..], &free, &["--exchange=http://127.0.0.1:1"]].concat(), "longbow keys init"),
        ([&member[..], &free, &["--keys", &keys]].concat(), "--exchange"),
        ([&member[..], &free, &["--keys", &keys, "--listen=0.0.0.0:0"]].concat(), "--peer-listen"),
        (
            [&member[..], &free, &["--keys", &keys, "--peer-listen=0.0.0.0:0"]].concat(),
            "cannot connect to 0.0.0.0",
        ),
    ] {
        let output = run(&[&["serve", "--data-dir", data], more.as_slice()].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{expected} is missing: {error}");
    }
}

/// The header of a request that node 9 passes on to the first process of node 5 for alice.
fn signature(key: &[u8], (method, target): (&str, &str), number: u64) -> String {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let claim = format!("2;9;{micros};{number:016x};616c696365");
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{claim}\n5;1\n{method}\n{target}\n\n").as_bytes());
    mac.update(&Sha256::digest(b""));
    let code: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("X-Longbow-Peer: {claim};{code}")
}

#[test]
fn the_listener_for_other_nodes_takes_only_what_they_sign() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys_in(folder.path());
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let exchange = Exchange::start(&folder.path().join("exchange"), &[]);
    let (database, peer_listen) = (postgres.database(), ports::free_address());
    let settings = [
        "--node-id=5",
        "--keys",
        &keys,
        "--redis",
        &redis.url(),
        "--postgres",
        &database.url,
        "--migrate",
        "--commit=postgres",
        "--exchange",
        &exchange.address,
        "--peer-listen",
        &peer_listen,
    ];
    let server = Server::start(&folder.path().join("data"), &settings);
    api::until("it to have all users", || (server.metric("node_partitions") == 64).then_some(()));
    let peers = format!("http://{peer_listen}");
    let key = std::fs::read(format!("{keys}/peers.key")).unwrap();
    let key = key.trim_ascii_end();

    let token = token(&["--keys", &keys]);
    let bearer = format!("Authorization: Bearer {token}");
    let (status, answer) = curl(&["-H", &bearer, &format!("{}/orders", server.address)]);
    assert_eq!(status, 200);
    assert!(answer.to_lowercase().contains("x-longbow-node: 5\r\n"), "{answer}");
    // A user's token counts for nothing there, whatever the path.
    for path in ["/orders", "/", "/nothing", "/session"] {
        let (status, answer) = curl(&["-H", &bearer, &format!("{peers}{path}")]);
        assert_eq!(status, 401, "{path}: {answer}");
    }
    let signed = signature(key, ("GET", "/orders"), 1);
    let url = format!("{peers}/orders");
    let (status, answer) = curl(&["-H", &signed, &url]);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#"{"orders":[]"#), "{answer}");
    let (status, answer) = curl(&["-H", &signed, &url]);
    assert!(status == 401 && answer.contains("received before"), "{answer}");
    for (header, url) in [
        (signature(b"another key of at least 32 bytes", ("GET", "/orders"), 2), url.clone()),
        (signature(key, ("GET", "/orders"), 3), format!("{url}?limit=1")),
        (signature(key, ("POST", "/orders"), 4), url.clone()),
        (signed.replace(";9;", ";8;"), url.clone()),
        ("X-Longbow-Peer: 1".to_owned(), url),
    ] {
        let (status, answer) = curl(&["-H", &header, &url]);
        assert_eq!(status, 401, "{header}: {answer}");
    }
    // Only what users ask for is passed on.
    let signed = signature(key, ("GET", "/symbols"), 5);
    assert_eq!(curl(&["-H", &signed, &format!("{peers}/symbols")]).0, 404);
    assert_eq!(server.metric("peer_refused_total"), 10);

    // A stream's id has the node.
    let mut stream = Command::new("curl");
    stream.args(["-sN", "--max-time", "2", "-H", &bearer]);
    let symbols = Client::new(&server.address, &token).get("/symbols?limit=1").body;
    let name = symbols["symbols"][0]["symbol"].as_str().unwrap().to_owned();
    let output =
        stream.arg(format!("{}/subscribe?symbols={name}", server.address)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r#""streamId":"0005"#), "{text}");
}

//! Webhooks of the running exchange: what arrives, how it is signed, and when it comes again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::start;
use super::test_server::{LOOPBACK, PATIENCE, options, order, post, submit};
use crate::types::Clock;

/// HMAC by its definition (RFC 2104): an implementation independent of the one under test.
fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    assert!(key.len() <= 64);
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        key.iter().zip(&mut block).for_each(|(key, block)| *block ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts one HTTP request, answers with `status`, and returns its signature and body.
fn take_webhook(listener: &TcpListener, status: &str) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut signature, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-signature" => signature = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    (&stream).write_all(answer.as_bytes()).unwrap();
    (signature, String::from_utf8(body).unwrap())
}

#[test]
fn webhooks_are_signed_and_retried_until_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = TcpListener::bind(LOOPBACK).unwrap();
    socket2::SockRef::from(&receiver).set_read_timeout(Some(PATIENCE)).unwrap(); // of `accept`
    let hook = json!({
        "url": format!("http://{}/exchange/trades", receiver.local_addr().unwrap()),
        "secret": "a secret",
    });
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    assert_eq!(post(&exchange, "/v1/webhooks", &hook).0, 204);
    let placed = submit(&exchange, &[order("a", None, 100)]);
    let (_, refused) = take_webhook(&receiver, "500 Internal Server Error");
    let (signature, body) = take_webhook(&receiver, "204 No Content");
    assert_eq!(refused, body, "the same lines again");
    let (time, value) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let age = (Clock.now().micros() / 1_000_000).abs_diff(time.parse().unwrap());
    assert!(age < 60, "the signature is recent");
    assert_eq!(value, hmac_sha256(b"a secret", format!("{time}.{body}").as_bytes()));
    let batch: crate::exchange::wire::WebhookBatch = serde_json::from_str(&body).unwrap();
    assert_eq!(batch.session, "1");
    let ids: Vec<_> =
        batch.lines.iter().map(|line| line.order_id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, [placed[0]["externalOrderId"].as_str().unwrap()]);
    exchange.stop().unwrap();

    let exchange = start(options(directory.path(), 10.0)).unwrap();
    submit(&exchange, &[order("b", None, 100)]);
    let (_, body) = take_webhook(&receiver, "200 OK");
    assert!(body.starts_with(r#"{"session":"2""#), "a restart keeps the webhook: {body}");
}

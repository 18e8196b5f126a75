//! The metrics page, read by third-party parsers, of a server that has done a bit of everything.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;

use crate::support::clients::{MetricFamily, read_metrics};
use crate::support::events::EventStream;
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{Server, api};
use ureq::http::Request;

/// `Accept` header, resulting format, and `Content-Type`.
const ASKED: [(&str, &str, &str); 4] = [
    ("*/*", "openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    (
        // Prometheus.
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        "openmetrics",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    ),
    ("text/plain;version=0.0.4", "prometheus", "text/plain; version=0.0.4; charset=utf-8"),
    (
        // VictoriaMetrics.
        "text/plain;version=0.0.4;q=1,*/*;q=0.1",
        "prometheus",
        "text/plain; version=0.0.4; charset=utf-8",
    ),
];

#[test]
fn parsers_of_both_formats_find_each_family_once_and_nothing_wrong() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let url = postgres.database().url;
    let server = Server::start(data.path(), &["--postgres", &url, "--migrate"]);
    use_everything(&server, data.path());
    await_caught_up(&server, data.path(), &url);

    let pages = ASKED.map(|(accept, format, content_type)| {
        let request = Request::get(format!("{}/metrics", server.admin)).header("accept", accept);
        let page = api::send(request.body(Vec::new()).unwrap()).unwrap();
        assert_eq!(
            (page.status, &page.headers["content-type"]),
            (200, &content_type.parse().unwrap())
        );
        assert_eq!(page.text.ends_with("\n# EOF\n"), format == "openmetrics", "{accept}");
        let families = read_metrics(&page.text, format);
        check(&families, format);
        families
    });
    let [first, others @ ..] = &pages;
    for other in others {
        assert_eq!(names(first), names(other));
    }
    let sends = &first["longbow_stream_sends"];
    assert_eq!(sends.0, "counter");
    assert!(first["longbow_http_accepted"].3 > 1, "a sample for each listener");
}

/// Orders with every outcome, a stream, a halt, a refusal, and bad requests.
fn use_everything(server: &Server, data: &std::path::Path) {
    let alice = server.user(data, "alice");
    let resting = alice.place_resting("IBM");
    let id = resting["orderId"].as_str().unwrap();
    alice.await_status(id, "submitted");
    assert!(matches!(alice.delete(&format!("/order/{id}")).status, 200 | 202));
    let market = serde_json::json!({"position": "buy", "symbol": "SPY", "numShares": 1});
    assert!(matches!(alice.post("/order", &market).status, 201 | 202));
    assert_eq!(alice.post("/order", &serde_json::json!({})).status, 400);
    let mut stream = EventStream::subscribe(&server.address, &alice.token, &["SPY"]);
    stream.await_event("the beginning of the stream", |event| event.name == "open");
    let halted = Request::put(format!("{}/kill-switch", server.admin));
    let halted =
        halted.body(br#"{"symbols":["AIG"],"by":"test","reason":"test"}"#.to_vec()).unwrap();
    assert_eq!(api::send(halted).unwrap().status, 200);
    let market = serde_json::json!({"position": "buy", "symbol": "AIG", "numShares": 1});
    assert_eq!(alice.post("/order", &market).status, 403);
    drop(stream);
}

fn check(families: &BTreeMap<String, MetricFamily>, format: &str) {
    assert!(families.len() > 80, "{} families", families.len());
    for (name, (kind, unit, help, samples)) in families {
        assert!(name.starts_with("longbow_"), "{name}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name}: {kind}");
        assert!(help.len() > 2 && *samples > 0, "{name}: {help:?}, {samples} samples");
        let has_unit = name.ends_with("_seconds") || name.ends_with("_bytes");
        assert_eq!(!unit.is_empty(), has_unit && format == "openmetrics", "{name}: {unit:?}");
        let is_suffixed = ["_total", "_count", "_sum", "_bucket"].iter().any(|s| name.ends_with(s));
        assert!(!is_suffixed, "{name} ends as a sample does");
    }
}

fn names(families: &BTreeMap<String, MetricFamily>) -> Vec<&String> {
    families.keys().collect()
}

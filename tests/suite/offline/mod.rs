//! Shared by the tests of the offline commands: orders of every kind, and the commands.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use longbow::offline::OfflineOptions;
use longbow::projection::PostgresServers;
use serde_json::{Value, json};
use ureq::http::Request;

use crate::support::api::{Client, send};
use crate::support::{Exchange, Server, run};

/// The output of a command.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: i32,
    pub lines: Vec<String>,
    pub errors: String,
}

/// Runs a command on the records of a data directory.
pub(crate) fn command(name: &str, data: &Path, postgres: Option<&str>) -> Said {
    let mut arguments = vec![name, "--data-dir", data.to_str().unwrap()];
    if let Some(postgres) = postgres {
        arguments.extend(["--postgres", postgres]);
    }
    let output = run(&arguments);
    let lines = String::from_utf8(output.stdout).unwrap();
    Said {
        code: output.status.code().unwrap(),
        lines: lines.lines().map(str::to_owned).collect(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The command succeeds and prints one line.
pub(crate) fn succeed(name: &str, data: &Path, postgres: &str) -> String {
    let said = command(name, data, Some(postgres));
    assert_eq!((said.code, said.lines.len()), (0, 1), "{said:?}");
    said.lines.into_iter().next().unwrap()
}

/// The records agree, with and without Postgres, also when compared a few orders at a time.
pub(crate) fn assert_agree(data: &Path, postgres: &str) {
    let servers: PostgresServers = postgres.parse().unwrap();
    let few = OfflineOptions { max_orders_in_memory: 2, ..OfflineOptions::new(data) };
    let mut lines = Vec::new();
    let count = longbow::offline::verify(&few, Some(&servers), &mut lines).unwrap();
    assert_eq!((count, String::from_utf8(lines).unwrap().as_str()), (0, ""));
    for postgres in [None, Some(postgres)] {
        let said = command("verify", data, postgres);
        assert_eq!(
            (said.code, &said.lines[..], &said.errors[..]),
            (0, &[][..], ""),
            "{postgres:?}"
        );
    }
}

/// `verify` finds exactly these differences, in any order; each contains these parts.
pub(crate) fn assert_differ(data: &Path, postgres: &str, expected: &[&[&str]]) {
    let said = command("verify", data, Some(postgres));
    assert_eq!(said.code, 1, "{said:?}");
    for parts in expected {
        let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
        assert_eq!(said.lines.iter().filter(is_it).count(), 1, "{parts:?}: {said:#?}");
    }
    assert_eq!(said.lines.len(), expected.len(), "{said:#?}");
    let count = match expected.len() {
        1 => "in one place".to_owned(),
        count => format!("in {count} places"),
    };
    assert!(said.errors.contains(&count), "{}", said.errors);
}

pub(crate) fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

/// The body of an order that rests until cancelled, with a `clientOrderId`.
pub(crate) fn keyed(key: &str) -> Value {
    json!({
        "position": "buy", "symbol": "IBM", "numShares": 5, "priceInCents": 1, "clientOrderId": key,
    })
}

/// Sets the exchange's fault for the next order.
pub(crate) fn misbehave(exchange: &Exchange, orders: &Value) {
    let request = Request::put(format!("{}/admin/faults", exchange.address));
    let body = json!({ "orders": orders }).to_string().into_bytes();
    let request = request.header("content-type", "application/json").body(body).unwrap();
    let answer = send(request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

pub(crate) fn market(client: &Client, symbol: &str, shares: u64) -> Value {
    let order = json!({"position": "buy", "symbol": symbol, "numShares": shares});
    let answer = client.post("/order", &order);
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
    client.await_status(id(&answer.body), "filled")
}

/// Orders of these users that rest, were filled, cancelled and rejected.
pub(crate) struct Traffic {
    pub resting: Value,
    pub filled: Value,
    pub cancelled: Value,
    pub rejected: Value,
}

impl Traffic {
    pub(crate) fn of(server: &Server, data: &Path, (exchange, user): (&Exchange, &str)) -> Self {
        let client = server.user(data, user);
        let placed = client.post("/order", &keyed("resting"));
        assert!(matches!(placed.status, 201 | 202), "{}", placed.text);
        client.await_status(id(&placed.body), "submitted");
        let filled = market(&client, "SPY", 300);
        let cancelled = client.place_resting("IBM");
        assert_eq!(client.delete(&format!("/order/{}", id(&cancelled))).status, 200);
        let cancelled = client.await_status(id(&cancelled), "cancelled");
        misbehave(exchange, &json!({"reject": "next:1"}));
        let rejected = client.post("/order", &keyed("rejected"));
        assert_eq!(rejected.status, 422, "{}", rejected.text);
        misbehave(exchange, &json!({}));
        let resting = client.order(id(&placed.body));
        Self { resting, filled, cancelled, rejected: rejected.order().clone() }
    }
}

//! A cluster behind Debian's HAProxy with the configuration for several nodes in `tuning/`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;

use serde_json::json;

use crate::support::api::{self, Client, until};
use crate::support::cluster::Cluster;
use crate::support::proxy::Proxy;

/// The beginning of a stream: as much as comes within this time.
fn stream(client: &Client, path: &str) -> String {
    let bearer = format!("Authorization: Bearer {}", client.token);
    let url = format!("{}{path}", client.address);
    let mut curl = Command::new("curl");
    let output = curl.args(["-sN", "--max-time", "2", "-H", &bearer, &url]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn is_refused_by_the_proxy(client: &Client) -> bool {
    let answer = client.get("/orders?limit=1");
    // Longbow's own are problem documents.
    answer.status == 503 && !answer.text.starts_with('{')
}

#[test]
fn prices_pass_while_postgres_is_away_and_no_node_takes_orders() {
    let mut cluster = Cluster::start(&[]);
    let proxy = Proxy::haproxy_cluster(&cluster.running().collect::<Vec<_>>());
    let alice = Client::new(&proxy.address, &cluster.token("alice"));
    proxy.await_server(&alice.token);
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 100});
    until("an order to be taken", || (alice.post("/order", &order).status == 201).then_some(()));

    cluster.postgres.stop();
    until("no node to be ready", || is_refused_by_the_proxy(&alice).then_some(()));
    for server in cluster.running() {
        let ready = api::get_anonymously(&format!("{}/readyz", server.admin)).unwrap();
        assert_eq!(ready.status, 503, "{}", ready.text);
    }
    let price = |client: &Client| {
        let answer = client.get("/symbol/SPY");
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body.get("timestamp").unwrap().as_u64()
    };
    let before = price(&alice);
    until("a newer price", || (price(&alice) > before).then_some(()));
    let prices = stream(&alice, "/subscribe?symbols=SPY");
    assert!(prices.contains("event: price"), "{prices}");
    for path in ["/orders/stream", "/subscribe?symbols=SPY&orders=1"] {
        let orders = stream(&alice, path);
        assert!(orders.starts_with("event: goodbye\nretry: "), "{path}: {orders}");
    }

    cluster.postgres.start_again();
    until("orders to be taken again", || {
        (alice.post("/order", &order).status == 201).then_some(())
    });
}

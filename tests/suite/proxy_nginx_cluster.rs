//! Three servers behind Debian's nginx with the configuration for several nodes in `tuning/`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::support::clients::{Curl, LineClient};
use crate::support::events::EventStream;
use crate::support::proxy::Proxy;
use crate::support::stream_story::{self as story, World};
use crate::support::{Server, api, token};

/// Enough for some on each node.
const USERS: usize = 24;

/// Servers that know each other's tokens and nothing else of each other, behind nginx.
struct Nodes {
    servers: Vec<Server>,
    proxy: Proxy,
    folder: TempDir,
}

impl Nodes {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = |number: usize| folder.path().join(number.to_string());
        let mut servers = vec![Server::start(&data(0), &[])];
        for number in 1..3 {
            fs::create_dir(data(number)).unwrap();
            fs::copy(data(0).join("jwt-secret"), data(number).join("jwt-secret")).unwrap();
            servers.push(Server::start(&data(number), &[]));
        }
        let proxy = Proxy::nginx_cluster(&servers.iter().collect::<Vec<_>>());
        Self { servers, proxy, folder }
    }

    fn client(&self, number: usize) -> api::Client {
        let token = token(&self.folder.path().join("0"), &format!("user-{number}"));
        api::Client::new(&self.proxy.address, &token)
    }

    /// The number of the server that answered, after others that did not.
    fn node_of(&self, addresses: &str) -> usize {
        let last = addresses.rsplit(", ").next().unwrap();
        let is_it = |server: &Server| server.address.ends_with(last);
        self.servers.iter().position(is_it).unwrap_or_else(|| panic!("{addresses} is no node"))
    }

    fn serving(&self, client: &api::Client) -> usize {
        self.node_of(served_by(&client.get("/orders")))
    }
}

fn served_by(answer: &api::Answer) -> &str {
    assert!(answer.status < 400, "{answer:?}");
    answer.headers["x-served-by"].to_str().unwrap()
}

#[test]
fn a_client_stays_with_its_node_and_another_one_takes_over() {
    let mut nodes = Nodes::start();
    nodes.proxy.await_server(&token(&nodes.folder.path().join("0"), "anybody"));
    let clients: Vec<api::Client> = (0..USERS).map(|number| nodes.client(number)).collect();
    let before: Vec<usize> = clients.iter().map(|client| nodes.serving(client)).collect();
    let used: BTreeSet<usize> = before.iter().copied().collect();
    assert!(used.len() > 1, "all are on one node: {before:?}");
    for (client, node) in clients.iter().zip(&before) {
        assert_eq!(nodes.serving(client), *node);
    }

    let lost = before[0];
    nodes.servers[lost].program.kill_in_place();
    let order = json!({
        "position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 100,
        "clientOrderId": "once",
    });
    // nginx may have begun to send it over a kept connection, and does not repeat it then: we do.
    let answer = api::until("the order to be taken", || {
        Some(clients[0].post("/order", &order)).filter(|answer| answer.status != 502)
    });
    assert_ne!(nodes.node_of(served_by(&answer)), lost);
    // By HTTP/1.0, in which nginx sends no chunks, as the reader knows none.
    let request = format!(
        "GET /subscribe?symbols=SPY HTTP/1.0\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n",
        clients[0].token
    );
    let mut stream = EventStream::send(&nodes.proxy.address, &request);
    stream.await_price("SPY");
    for (client, node) in clients.iter().zip(&before) {
        let now = nodes.serving(client);
        assert!(now == *node || *node == lost, "{node} is there, and yet {now} answers");
        assert_ne!(now, lost);
    }
}

fn start() -> World {
    World::behind(|server| Some(Proxy::nginx_cluster(&[server])))
}

#[test]
fn streams_pass_at_once_and_come_back() {
    let mut world = start();
    let source = |world: &World| LineClient::npm_eventsource(&world.address(), &world.token);
    let mut client = story::sees_each_print(&mut world, source);
    story::hears_of_the_feed(&mut world, &mut client);
    story::resumes(&mut world, &mut client);
}

#[test]
fn an_event_source_comes_back_although_it_has_found_no_node() {
    let mut world = start();
    let source = |world: &World| LineClient::npm_eventsource(&world.address(), &world.token);
    let mut client = story::sees_each_print(&mut world, source);
    story::comes_back_to_another_server(&mut world, &mut client);
}

#[test]
fn goodbye_passes_and_completes_the_transfer() {
    let mut world = start();
    let curl = |world: &World| Curl::get(&world.address(), &world.token, None);
    let mut curl = story::sees_each_print(&mut world, curl);
    story::ends_with_goodbye(&mut world, &mut curl);
    assert!(curl.ends_well());
}

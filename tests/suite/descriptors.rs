//! Clients that use up all connections take none of the files that the server itself needs: it serves
//! those whom it has, reaches the exchange, answers operators, and accepts again once there is room.

use std::net::TcpStream;

use crate::support::events::EventStream;
use crate::support::market::Market;
use crate::support::{Server, api, metric_of};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The fewest that a server starts with.
const FILES: u64 = 1_100;

#[test]
fn the_server_goes_on_while_no_client_can_be_accepted_and_then_everybody_is() {
    // This process holds the other ends of the server's sockets.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();

    let data = tempfile::tempdir().unwrap();
    let mut market = Market::start(&["SPY"]);
    let settings = ["--exchange", &market.address];
    let mut server = Server::start_with_files(FILES, data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let mut stream = EventStream::subscribe(&server.address, &alice.token, &["SPY"]);
    stream.await_event("open", |event| event.name == "open");
    let count = |name| metric_of(&api::Client::new(&server.admin, "").get("/metrics").text, name);
    let refused = || count("http_refused_total");
    assert_eq!(refused(), 0);

    let host = server.address.replace("http://", "");
    let crowd: Vec<TcpStream> =
        (0..FILES).map(|_| TcpStream::connect(&host).expect("the backlog has room")).collect();
    server.program.await_error("client connections are closed at once");
    api::until("connections to be closed", || (refused() > FILES / 4).then_some(()));
    market.print("SPY", 16_740);
    assert_eq!(stream.await_price("SPY").0, 16_740, "an open stream goes on");
    // The connection to the exchange is made again.
    market.begin_session();
    api::until("the feed to be up", || (count("feed_up") == 1).then_some(()));
    market.print("SPY", 16_739);
    while stream.await_price("SPY").0 != 16_739 {}
    assert_eq!(count("http_accept_errors_total"), 0, "there are files left");

    drop(crowd);
    api::until("the server to take requests again", || {
        let newcomer = api::Client::new(&server.address, &alice.token);
        let answer = newcomer.try_send(http::Method::GET, "/orders", b"")?;
        (answer.status == 200).then_some(())
    });
    let mut late = EventStream::subscribe(&server.address, &alice.token, &["SPY"]);
    assert_eq!(late.await_price("SPY").0, 16_739);
    market.print("SPY", 16_741);
    assert_eq!((stream.await_price("SPY").0, late.await_price("SPY").0), (16_741, 16_741));
    server.program.ask_to_stop();
    assert!(server.program.wait().success());
}

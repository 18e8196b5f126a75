//! A stop waits for nobody who does nothing.

mod support;

use std::net::TcpStream;

use support::Server;

#[test]
fn connections_without_a_request_keep_no_server_from_stopping() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    // One that has been used and is kept, and one that never was.
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/orders").status, 200);
    let accepted = server.metric("http_accepted_total");
    let _unused = TcpStream::connect(server.address.replace("http://", "")).unwrap();
    support::api::until("the connection to be accepted", || {
        // Each look is a connection as well, so one more than the looks must come.
        (server.metric("http_accepted_total") > accepted + 1).then_some(())
    });
    server.program.ask_to_stop();
    let status = server.program.wait();
    assert!(status.success(), "{status}");
}

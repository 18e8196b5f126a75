//! Listen addresses and environment variables. A server that cannot start leaves nothing behind.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::support::events::EventStream;
use crate::support::{PATIENCE, Program, Server, api, longbow, run};

#[test]
fn names_are_listened_on_at_each_of_their_addresses() {
    let data = tempfile::tempdir().unwrap();
    let more = ["--listen", "localhost:0", "--admin-listen", "localhost:0"];
    let server = Server::start(data.path(), &more);
    for address in [&server.address, &server.admin] {
        let (_, port) = address.rsplit_once(':').unwrap();
        let all: Vec<SocketAddr> = format!("localhost:{port}").to_socket_addrs().unwrap().collect();
        // A machine without IPv6 may still resolve a name to an IPv6 address.
        let own: Vec<&SocketAddr> =
            all.iter().filter(|at| TcpListener::bind((at.ip(), 0)).is_ok()).collect();
        assert!(!own.is_empty());
        for at in own {
            assert!(TcpStream::connect(at).is_ok(), "nobody listens at {at}");
        }
    }
    let unknown = run(&["serve", "--listen", "longbow.invalid:0"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("--listen longbow.invalid:0 cannot be resolved"), "{said}");
    let exchange = Program::start(&["exchange", "--listen", "localhost:0", "--universe", "0"]);
    let address = exchange.await_line("exchange listening on ");
    assert_eq!(api::get_anonymously(&format!("{address}/v1/symbols")).unwrap().status, 200);
}

#[test]
fn a_server_that_cannot_start_leaves_no_trace() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&data.path().join("first"), &[]);
    let [listen, admin] =
        [&server.address, &server.admin].map(|address| address.trim_start_matches("http://"));
    let second = data.path().join("second");
    let dir = second.to_str().unwrap();
    let free = "127.0.0.1:0";
    for (arguments, said) in [
        (vec!["--listen", listen, "--admin-listen", free], listen),
        (vec!["--listen", free, "--admin-listen", admin], admin),
        (
            vec!["--listen", free, "--admin-listen", free, "--jwt-secret-file", "/no/such"],
            "/no/such",
        ),
        (vec!["--listen", free, "--admin-listen", free, "--commit", "postgres"], "--postgres"),
    ] {
        let output = run(&[&["serve", "--data-dir", dir], &arguments[..]].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(said), "{error}");
        assert!(!second.exists(), "{arguments:?} made {dir}");
    }
    assert_eq!(server.user(&data.path().join("first"), "alice").get("/orders").status, 200);
}

#[test]
fn misspelt_variables_are_refused_as_misspelt_settings_are() {
    for (variable, meant) in
        [("LONGBOW_SHARD", "LONGBOW_SHARDS"), ("LONGBOW_DATADIR", "LONGBOW_DATA_DIR")]
    {
        for subcommand in [&["serve"][..], &["token", "--user", "a"], &["exchange"]] {
            let output = longbow().args(subcommand).env(variable, "1").output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains(variable) && error.contains(meant), "{error}");
        }
    }
    let help = longbow().args(["serve", "--help"]).env("LONGBOW_SHARD", "1").output().unwrap();
    assert!(help.status.success());
}

#[test]
fn an_idle_connection_is_kept_as_long_as_the_setting_says() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--keep-alive-seconds", "1"]);
    let host = server.address.trim_start_matches("http://");
    let mut silent = TcpStream::connect(host).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    assert!(began.elapsed() >= Duration::from_millis(900), "not before its time");
    // Line ends are not a request and do not keep a connection open.
    let mut used = EventStream::send(&server.address, "GET / HTTP/1.1\r\nHost: test\r\n\r\n\r\n");
    used.skip_body();
    used.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    used.read_head();
    assert_eq!(used.head[0], "HTTP/1.1 200 OK", "it was kept for the second request");

    let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
    let kept = help.split("--keep-alive-seconds").nth(1).unwrap();
    assert!(kept.split("--").next().unwrap().contains("[default: 75]"), "{kept}");
}

//! The reader of the log is gone, does not read, or has no space: trading continues, and lost lines are
//! counted.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::api::{self, Client};
use crate::support::ports::free_address;
use crate::support::{Program, Server, longbow, metric_of, token};
use rustix::process::Signal;
use serde_json::json;
use ureq::http::Method;

const LOST: &str = "log_lines_lost_total";

/// A server whose standard error is redirected by the shell.
fn start(data: &Path, redirection: &str) -> Server {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]);
    let server = longbow();
    for (name, _) in server.get_envs() {
        shell.env_remove(name);
    }
    shell.arg(server.get_program());
    Server::start_by(shell, data, &[])
}

fn assert_trades(alice: &Client) {
    let order = alice.place_resting("IBM");
    let answer = alice.delete(&format!("/order/{}", order["orderId"].as_str().unwrap()));
    assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
}

/// Makes the server log until lines are lost, and checks that it still serves.
fn lose_lines(program: &Program, admin: &str, alice: &Client) {
    api::until("lost lines", || {
        program.signal(Signal::HUP);
        let page = api::get_anonymously(&format!("{admin}/metrics"))?.text;
        (metric_of(&page, LOST) > 0).then_some(())
    });
    assert_trades(alice);
}

#[test]
fn the_log_is_on_a_full_disk() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), "2>/dev/full");
    let alice = server.user(data.path(), "alice");
    lose_lines(&server.program, &server.admin, &alice);
    assert!(server.program.stop().success());
}

/// A server on free ports, with this output.
fn start_unheard(data: &Path, out: Stdio, errors: Stdio) -> (Program, [String; 2]) {
    let [listen, admin] = [free_address(), free_address()];
    let mut command = longbow();
    command.args(["serve", "--listen", &listen, "--admin-listen", &admin, "--universe", "5"]);
    command.args(["--order-reply-timeout-ms", "20000", "--data-dir"]).arg(data);
    command.stdout(out).stderr(errors);
    let program = Program::spawn_unheard(command);
    let addresses = [listen, admin].map(|address| format!("http://{address}"));
    api::until("the server to be ready", || {
        let ready = api::get_anonymously(&format!("{}/readyz", addresses[1]))?;
        (ready.status == 200).then_some(())
    });
    (program, addresses)
}

#[test]
fn standard_output_is_on_a_full_disk() {
    let data = tempfile::tempdir().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (program, [address, admin]) = start_unheard(data.path(), full.into(), Stdio::null());
    let page = api::get_anonymously(&format!("{admin}/metrics")).unwrap().text;
    assert!(metric_of(&page, LOST) >= 2, "both addresses");
    assert_trades(&Client::new(&address, &token(data.path(), "alice")));
    assert!(program.stop().success());
}

#[test]
fn the_reader_of_the_log_dies() {
    let data = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (program, [address, admin]) = start_unheard(data.path(), Stdio::null(), writer.into());
    drop(reader);
    lose_lines(&program, &admin, &Client::new(&address, &token(data.path(), "alice")));
    assert!(program.stop().success());
}

#[test]
fn nobody_reads_the_log() {
    let data = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (program, [address, admin]) = start_unheard(data.path(), Stdio::null(), writer.into());
    let alice = Client::new(&address, &token(data.path(), "alice"));
    // Each halt logs a line with every name.
    let names: Vec<String> = (0..900).map(|number| format!("{number:060}")).collect();
    let operator = Client::new(&admin, "");
    api::until("lost lines", || {
        let halted = operator.send(Method::PUT, "/kill-switch", json_of(&names).as_bytes());
        assert_eq!(halted.status, 200, "{}", halted.text);
        (metric_of(&operator.get("/metrics").text, LOST) > 0).then_some(())
    });
    assert_trades(&alice);
    assert!(program.stop().success(), "it ends without a reader too");
    drop(reader);
}

fn json_of(users: &[String]) -> String {
    json!({ "users": users }).to_string()
}

#[test]
fn a_terminal_that_goes_away_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    server.program.signal(Signal::HUP);
    server.program.await_error("SIGHUP is ignored");
    assert_trades(&server.user(data.path(), "alice"));
    assert!(server.program.stop().success());
}

//! Third-party readers of event streams behind one small interface.

pub(crate) mod browser;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Program;

/// An event as a client delivers it to its application.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub name: String,
    pub data: Value,
    /// The newest id that the client knows; empty for none.
    pub id: String,
}

impl Seen {
    /// From the name, data and id that a client reports.
    pub(crate) fn new(name: &str, data: &str, id: &str) -> Self {
        let json = || serde_json::from_str(data).unwrap_or_else(|error| panic!("{data}: {error}"));
        let data = if data.is_empty() { Value::Null } else { json() };
        Self { name: name.to_owned(), data, id: id.to_owned() }
    }

    /// Symbol and cents of a price.
    pub(crate) fn price(&self) -> (&str, i64) {
        assert_eq!(self.name, "price", "{self:?}");
        let symbol = self.data["symbol"].as_str().expect("a symbol");
        (symbol, self.data["priceInCents"].as_i64().expect("whole cents"))
    }

    /// The feed sequence of the client's newest id; `None` without an id.
    pub(crate) fn sequence(&self) -> Option<u64> {
        sequence_of(&self.id)
    }
}

/// The feed sequence of an id.
pub(crate) fn sequence_of(id: &str) -> Option<u64> {
    id.rsplit_once('-').map(|(_, sequence)| sequence.parse().expect("a sequence"))
}

/// A client subscribed to one address, which reconnects by its own rules.
pub(crate) trait SseClient {
    /// Waits for the next event.
    fn next(&mut self) -> Seen;

    /// The shortest delay of its reconnect when told to wait for `told`.
    fn least_absence(&self, told: Duration) -> Duration {
        told
    }
}

/// The directory of the clients from `scripts/install-test-tools`.
fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools");
    assert!(tools.is_dir(), "run scripts/install-test-tools first");
    tools
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/clients").join(name)
}

/// A family of metrics as the PyPI package `prometheus_client` reads it: type, unit, help, and number
/// of samples.
pub(crate) type MetricFamily = (String, String, String, usize);

/// Parses a metrics page with that package's parser for `openmetrics` or `prometheus`; it must find no
/// errors.
pub(crate) fn read_metrics(page: &str, format: &str) -> BTreeMap<String, MetricFamily> {
    let mut command = Command::new(tools().join("venv/bin/python"));
    command.arg(script("read_metrics.py")).arg(format);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut parser = command.spawn().expect("Python starts");
    let mut input = parser.stdin.take().expect("its input is piped");
    input.write_all(page.as_bytes()).expect("it reads the page");
    drop(input);
    let output = parser.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{page}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// A client that is a separate program and prints one event per line:
/// `{"event": "...", "data": "...", "id": "..."}`.
pub(crate) struct LineClient(Program);

impl LineClient {
    /// The npm package `eventsource` on Node.js.
    pub(crate) fn npm_eventsource(address: &str, token: &str) -> Self {
        let tools = tools();
        let mut command = Command::new(tools.join("node_modules/.bin/node"));
        command.arg(script("npm_eventsource.mjs")).arg(tools).args([address, token]);
        Self(Program::spawn(command))
    }

    /// The PyPI package `httpx-sse`.
    pub(crate) fn httpx_sse(address: &str, token: &str) -> Self {
        let mut command = Command::new(tools().join("venv/bin/python"));
        command.arg("-u").arg(script("httpx_sse_client.py")).args([address, token]);
        Self(Program::spawn(command))
    }
}

impl LineClient {
    /// The npm package `@microsoft/fetch-event-source` on Node.js.
    pub(crate) fn fetch_event_source(address: &str, token: &str) -> Self {
        let tools = tools();
        let mut command = Command::new(tools.join("node_modules/.bin/node"));
        command.arg(script("fetch_event_source.mjs")).arg(tools).args([address, token]);
        Self(Program::spawn(command))
    }

    /// The PyPI package `sseclient`.
    pub(crate) fn sseclient(address: &str, token: &str) -> Self {
        let mut command = Command::new(tools().join("venv/bin/python"));
        command.arg("-u").arg(script("sseclient_client.py")).args([address, token]);
        Self(Program::spawn(command))
    }

    /// The PyPI package `sseclient-py`.
    pub(crate) fn sseclient_py(address: &str, token: &str) -> Self {
        let tools = tools();
        let mut command = Command::new(tools.join("venv/bin/python"));
        command.env("PYTHONPATH", tools.join("sseclient-py"));
        command.arg("-u").arg(script("sseclient_py_client.py")).args([address, token]);
        Self(Program::spawn(command))
    }
}

impl SseClient for LineClient {
    fn next(&mut self) -> Seen {
        let line = self.0.next_line().expect("the client goes on");
        let event: Value = serde_json::from_str(&line).expect("the client prints JSON");
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        Seen::new(text("event"), text("data"), text("id"))
    }
}

/// curl: one connection, no resumption.
pub(crate) struct Curl {
    program: Program,
    /// The newest id that it has shown.
    pub id: String,
}

impl Curl {
    pub(crate) fn get(address: &str, token: &str, last_event_id: Option<&str>) -> Self {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--no-buffer", "--fail", "--noproxy", "*"]);
        command.arg("--header").arg(format!("Authorization: Bearer {token}"));
        if let Some(id) = last_event_id {
            command.arg("--header").arg(format!("Last-Event-ID: {id}"));
        }
        command.arg(address);
        let program = Program::spawn(command);
        let id = last_event_id.unwrap_or_default().to_owned();
        Self { program, id }
    }

    /// Kills it in the middle of its transfer.
    pub(crate) fn kill(self) {
        self.program.kill();
    }

    /// Waits for its end; returns whether the transfer was complete.
    pub(crate) fn ends_well(mut self) -> bool {
        self.program.wait().success()
    }
}

impl SseClient for Curl {
    fn next(&mut self) -> Seen {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.program.next_line().expect("curl goes on");
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", value)) => data.push_str(value),
                Some(("id", value)) => value.clone_into(&mut self.id),
                _ if line.is_empty() && !data.is_empty() => {
                    return Seen::new(&name, &data, &self.id);
                }
                _ => {}
            }
        }
    }
}

//! A real Redis of the test's own, and its command-line client, which we did not write.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use serde_json::Value;
use tempfile::TempDir;

use super::ports::free_port;
use super::{PATIENCE, api, lines_of};

/// A Redis that keeps nothing, stopped when it goes out of scope.
pub(crate) struct Redis {
    port: u16,
    running: Option<Child>,
    folder: TempDir,
}

/// A client that has subscribed.
pub(crate) struct Subscriber {
    client: Child,
    lines: Receiver<String>,
}

impl Redis {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Self { port: free_port(), running: None, folder };
        redis.start_again();
        redis
    }

    /// Starts it on its port, empty, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        command.current_dir(self.folder.path()).stdout(Stdio::null());
        self.running = Some(command.spawn().expect("redis-server starts"));
        api::until("Redis to answer", || (self.ask(&["PING"]) == "PONG").then_some(()));
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill().expect("it is there");
        running.wait().expect("it is a child");
    }

    /// Its address for the program.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--raw"]);
        command
    }

    /// What it answers to a command.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let output = self.client().args(command).output().expect("redis-cli runs");
        String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
    }

    /// A key's value, read as JSON.
    pub(crate) fn key(&self, name: &str) -> Value {
        serde_json::from_str(&self.ask(&["GET", name])).unwrap_or(Value::Null)
    }

    /// Subscribes to channels.
    pub(crate) fn subscribe(&self, channels: &[&str]) -> Subscriber {
        let mut command = self.client();
        command.arg("SUBSCRIBE").args(channels).stdout(Stdio::piped());
        let mut client = command.spawn().expect("redis-cli runs");
        let lines = lines_of(client.stdout.take().expect("its output is piped"), false);
        let subscriber = Subscriber { client, lines };
        // Each is confirmed by three lines: the word, the channel, and the number of channels.
        for _ in channels {
            assert_eq!(subscriber.line(), "subscribe");
            subscriber.line();
            subscriber.line();
        }
        subscriber
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
    }
}

impl Subscriber {
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of redis-cli")
    }

    /// The next message: its channel, and its JSON.
    pub(crate) fn next(&self) -> (String, Value) {
        assert_eq!(self.line(), "message");
        let (channel, text) = (self.line(), self.line());
        (channel, serde_json::from_str(&text).expect("JSON"))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.client.kill().expect("it is there");
        self.client.wait().expect("it is a child");
    }
}

//! A server that is part of this tool and runs in a separate process, so that its CPU time and
//! memory can be measured. It ends when its standard input does, so nothing is left behind if the
//! tool is killed.
//!
//! It prints `listening on http://ADDRESS` and then answers each input line with one line of JSON.

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

use crate::{
    error::{Context, Error, Result},
    phase::Interrupt,
    spawn::Program,
};

/// How long a peer may take to answer a line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Beginning of the line with the address.
const LISTENING: &str = "listening on ";

/// A running peer. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Peer {
    input: ChildStdin,
    answers: mpsc::Receiver<String>,
    program: Program,
    /// Where clients connect.
    pub address: SocketAddr,
}

impl Peer {
    /// Starts `loadtest peer ARGUMENTS` and waits for its address.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the end of its log, [`Error::Io`] when it cannot be started.
    pub(crate) fn start(
        name: &'static str,
        arguments: &[String],
        directory: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(own);
        command.args(["peer", name]).args(arguments).stdin(Stdio::piped());
        let (mut program, answers) = Program::spawn_with_input(command, name, directory)?;
        let addresses = program.wait_for_lines(&answers, &[LISTENING], interrupt)?;
        let unusable = || Error::Answer {
            what: format!("the address of {name}"),
            answer: format!("{addresses:?}"),
        };
        let address = addresses.first().and_then(|url| url.strip_prefix("http://"));
        let address = address.and_then(|a| a.parse().ok()).ok_or_else(unusable)?;
        let input = program.take_input().ok_or_else(unusable)?;
        Ok(Self { input, answers, program, address })
    }

    /// Its process id.
    #[must_use]
    pub(crate) fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// Sends one line and returns the answer.
    ///
    /// # Errors
    /// [`Error::Answer`] with the end of the log if there is no answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<Value> {
        let silent = |program: &Program| Error::Answer {
            what: "a peer did not answer".to_owned(),
            answer: program.log_end(),
        };
        writeln!(self.input, "{line}").map_err(|_| silent(&self.program))?;
        let answer = self.answers.recv_timeout(ANSWER_TIMEOUT);
        let answer = answer.map_err(|_| silent(&self.program))?;
        serde_json::from_str(&answer).map_err(|_| silent(&self.program))
    }
}

/// The peer's side: prints the address, then passes each input line to `answer` and prints the
/// result. Returns at the end of the input.
///
/// # Errors
/// What `answer` returns.
pub(crate) fn serve_input(
    address: SocketAddr,
    mut answer: impl FnMut(&str) -> Result<Value>,
) -> Result<()> {
    let mut output = std::io::stdout();
    // If the reader is gone, the input is closed as well.
    let _ = writeln!(output, "{LISTENING}http://{address}").and_then(|()| output.flush());
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading the input")?;
        let value = answer(line.trim())?;
        let _ = writeln!(output, "{value}").and_then(|()| output.flush());
    }
    Ok(())
}

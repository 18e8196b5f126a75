//! A server that this tool brings along and runs in a process of its own, so that its CPU time and
//! its memory are its own. It ends with its standard input: nothing is left behind when the tool
//! itself is killed.
//!
//! It prints `listening on http://ADDRESS` and then answers every line of its input with one line
//! of JSON.

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

/// A peer that runs. Dropping it stops it.
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

    /// Says one line and gives the answer.
    ///
    /// # Errors
    /// [`Error::Answer`] with the end of the log when there is none.
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

/// The peer's own side: prints the address, then gives each line of the input to `answer` and
/// prints what that returns. Returns at the end of the input.
///
/// # Errors
/// What `answer` returns.
pub(crate) fn serve_input(
    address: SocketAddr,
    mut answer: impl FnMut(&str) -> Result<Value>,
) -> Result<()> {
    let mut output = std::io::stdout();
    // A reader that has gone closes the input as well.
    let _ = writeln!(output, "{LISTENING}http://{address}").and_then(|()| output.flush());
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading the input")?;
        let value = answer(line.trim())?;
        let _ = writeln!(output, "{value}").and_then(|()| output.flush());
    }
    Ok(())
}

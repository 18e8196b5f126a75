//! The bare loop in a separate process: the descriptors of one process do not suffice for both ends
//! of 10,000 connections.

use std::{path::Path, sync::Arc, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    bare::{Bare, BareOptions, BareReport},
    clock::{Moment, seconds_between},
    error::{Error, Result},
    peer::{Peer, serve_input},
    phase::{Control, Interrupt, Phase},
};

/// How long closing a window may take: much longer than one sweep over all sockets.
const COUNT_SECONDS: f64 = 8.0;
/// Sleep between two checks of whether it is closed.
const PAUSE: Duration = Duration::from_millis(1);

/// Flags of the process, as [`BareProcess`] gives them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BareArgs {
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    symbol: String,
    #[arg(long)]
    core: usize,
    #[arg(long)]
    notsent_low_water_bytes: u32,
    #[arg(long)]
    send_buffer_bytes: usize,
}

/// A bare loop in another process. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct BareProcess(Peer);

impl BareProcess {
    /// Starts the process.
    ///
    /// # Errors
    /// As [`Peer::start`].
    pub(crate) fn start(
        options: &BareOptions,
        directory: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let flag = |name: &str, value: &dyn ToString| format!("--{name}={}", value.to_string());
        let arguments = [
            flag("connections", &options.connections),
            flag("symbol", &options.symbol),
            flag("core", &options.core),
            flag("notsent-low-water-bytes", &options.notsent_low_water_bytes),
            flag("send-buffer-bytes", &options.send_buffer_bytes),
        ];
        Ok(Self(Peer::start("bare", &arguments, directory, interrupt)?))
    }

    /// Where clients connect.
    #[must_use]
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.0.address
    }

    /// Starts the window.
    ///
    /// # Errors
    /// As [`Peer::ask`].
    pub(crate) fn start_window(&mut self) -> Result<()> {
        self.0.ask("start").map(drop)
    }

    /// Ends the window. Nothing more is sent; the connections stay open.
    ///
    /// # Errors
    /// As [`Peer::ask`].
    pub(crate) fn end_window(&mut self) -> Result<()> {
        self.0.ask("end").map(drop)
    }

    /// Closes all connections and returns the counts of the window.
    ///
    /// # Errors
    /// As [`Peer::ask`].
    pub(crate) fn stop(mut self) -> Result<BareReport> {
        let answer = self.0.ask("stop")?;
        let whole = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(BareReport {
            seconds: answer.get("seconds").and_then(Value::as_f64).unwrap_or(f64::NAN),
            sends: whole("sends"),
            would_block: whole("wouldBlock"),
            cpu_nanos: whole("cpuNanos"),
            frame_bytes: usize::try_from(whole("frameBytes")).unwrap_or(0),
            closed: whole("closed"),
        })
    }
}

/// What the process runs.
///
/// # Errors
/// Whatever stopped the loop.
pub(crate) fn run(arguments: &BareArgs) -> Result<()> {
    let _ = crate::cpu::raise_descriptor_limit();
    let control = Control::new();
    let options = BareOptions {
        connections: arguments.connections,
        symbol: arguments.symbol.clone(),
        core: arguments.core,
        notsent_low_water_bytes: arguments.notsent_low_water_bytes,
        send_buffer_bytes: arguments.send_buffer_bytes,
    };
    let bare = Bare::start(options, Arc::clone(&control))?;
    let address = bare.address;
    let mut bare = Some(bare);
    serve_input(address, |line| {
        match line {
            "start" => control.set(Phase::Measure),
            "end" => {
                control.set(Phase::Counted);
                let asked = Moment::now();
                while !control.has_counted()
                    && seconds_between(asked, Moment::now()) < COUNT_SECONDS
                {
                    thread::sleep(PAUSE);
                }
            }
            _ => control.set(Phase::Stop),
        }
        if control.phase() != Phase::Stop {
            return Ok(json!({}));
        }
        let report = bare.take().ok_or(Error::Thread("bare"))?.join()?;
        Ok(json!({
            "seconds": report.seconds,
            "sends": report.sends,
            "wouldBlock": report.would_block,
            "cpuNanos": report.cpu_nanos,
            "frameBytes": report.frame_bytes,
            "closed": report.closed,
        }))
    })
}

//! `loadtest prices memory`: memory of an idle stream, in the server and in the kernel.

use serde_json::{Value, json};

use super::{
    LoadOptions, Summary,
    capacity::Shape,
    contender::{Kind, Mode},
    memory_use::{KernelMemory, ProcessMemory},
    session::Session,
};
use crate::{error::Result, phase::Interrupt};

/// Both ends of every connection are on this machine and take the same kernel memory.
const ENDS: f64 = 2.0;
/// A slab cache counts for the streams if it grew by at least this many bytes per stream.
const LEAST_SLAB_BYTES: u64 = 16;

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct MemoryArgs {
    /// Number of streams
    #[arg(long, default_value_t = 19_000, value_name = "COUNT")]
    clients: usize,
    /// Symbols of the exchange
    #[arg(long, default_value_t = 1_000, value_name = "COUNT")]
    symbols: usize,
    /// Symbols of each stream
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    symbols_per_client: usize,
    /// The servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "longbow")]
    servers: Vec<Kind>,
    /// Time between the last connect and the reading, in seconds
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    settle: f64,
}

/// One reading, in bytes per stream.
#[derive(Debug, Clone)]
struct Reading {
    user: f64,
    slabs: f64,
    queues: f64,
    by_slab: Vec<(String, f64)>,
}

/// Runs the scenario and prints its report.
///
/// # Errors
/// Whatever stops a session early.
pub(super) fn run(
    arguments: &MemoryArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    println!(
        "{} idle streams with {} symbols each, nearly no prints. User memory: growth of the \
         resident memory of a fresh server. Kernel memory: growth of the slab caches that sockets \
         take from and of TCP's queues on this machine, which holds both ends; the server's side is half of it\n",
        arguments.clients, arguments.symbols_per_client
    );
    println!(
        "{:>5} {:<13} {:>9} {:>13} {:>13} {:>14} {:>9}",
        "round", "server", "user B", "slabs B, both", "queues, both", "kernel, server", "together"
    );
    let mut all = Vec::new();
    for round in 1..=options.rounds {
        for kind in &arguments.servers {
            let reading = measure(*kind, arguments, options, interrupt)?;
            println!(
                "{round:>5} {:<13} {:>9.0} {:>13.0} {:>13.0} {:>14.0} {:>9.0}",
                kind.into_str(),
                reading.user,
                reading.slabs,
                reading.queues,
                reading.kernel_of_server(),
                reading.user + reading.kernel_of_server()
            );
            all.push((*kind, reading));
        }
    }
    println!();
    let servers = arguments.servers.iter().map(|kind| summary(*kind, &all, arguments.clients));
    Ok(json!({
        "scenario": "memory",
        "streams": arguments.clients,
        "symbolsPerStream": arguments.symbols_per_client,
        "servers": servers.collect::<Vec<_>>(),
    }))
}

impl Reading {
    fn kernel_of_server(&self) -> f64 {
        (self.slabs + self.queues) / ENDS
    }
}

fn measure(
    kind: Kind,
    arguments: &MemoryArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Reading> {
    let shape = Shape {
        clients: arguments.clients,
        symbols: arguments.symbols,
        symbols_per_client: arguments.symbols_per_client,
    };
    let mut session = Session::start(kind, options, arguments.symbols, interrupt)?;
    interrupt.sleep(arguments.settle)?;
    let read = |session: &Session<'_>| -> Result<_> {
        Ok((ProcessMemory::read(session.contender.pid())?, KernelMemory::read()?))
    };
    let before = read(&session)?;
    session.connect(options, shape.clients(Mode::Latest))?;
    interrupt.sleep(arguments.settle)?;
    let after = read(&session)?;
    let each = |now: u64, then: u64| (now as f64 - then as f64) / arguments.clients as f64;
    let least = LEAST_SLAB_BYTES * arguments.clients as u64;
    let grown = after.1.grown_slabs(&before.1, least);
    Ok(Reading {
        user: each(after.0.total(), before.0.total()),
        slabs: each(after.1.socket_slab_growth(&before.1), 0),
        queues: each(after.1.queues, before.1.queues),
        by_slab: grown.into_iter().map(|(name, bytes)| (name, each(bytes, 0))).collect(),
    })
}

fn summary(kind: Kind, all: &[(Kind, Reading)], clients: usize) -> Value {
    let own: Vec<&Reading> = all.iter().filter(|(of, _)| *of == kind).map(|(_, r)| r).collect();
    let of = |figure: fn(&Reading) -> f64| Summary::of(own.iter().map(|reading| figure(reading)));
    let (user, kernel) = (of(|reading| reading.user), of(Reading::kernel_of_server));
    let slabs = own.last().map(|reading| reading.by_slab.clone()).unwrap_or_default();
    let shown: Vec<String> =
        slabs.iter().map(|(name, bytes)| format!("{name} {bytes:.0}")).collect();
    println!(
        "{}: {} bytes of user memory a stream at {clients} streams, {} in the kernel for the \
         server's side; slab caches that grew, bytes a connection for both ends: {}",
        kind.into_str(),
        user.text(0),
        kernel.text(0),
        if shown.is_empty() { "only root may read them".to_owned() } else { shown.join(", ") }
    );
    json!({
        "server": kind.into_str(),
        "userBytes": user.to_json(),
        "kernelBytesOfServerSide": kernel.to_json(),
        "rounds": own.iter().map(|reading| json!({
            "userBytes": reading.user,
            "slabBytesOfBothEnds": reading.slabs,
            "queueBytesOfBothEnds": reading.queues,
            "bySlab": reading.by_slab,
        })).collect::<Vec<_>>(),
    })
}

//! Load tests of Longbow: a storm of price streams beside a bare `send()` loop, and a storm of
//! orders. See `loadtest --help`.

use std::{error::Error as _, process::ExitCode};

use clap::{Parser, Subcommand};

mod bare;
mod client;
mod clock;
mod cpu;
mod error;
mod frames;
mod http;
mod metrics;
mod order_client;
mod orders;
mod phase;
mod report;
mod spawn;
mod stream;
mod target;

/// Load tests of Longbow. Every figure is printed with the machine, its load and the time that the
/// hypervisor took away.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    test: Test,
}

#[derive(Debug, Subcommand)]
enum Test {
    /// Price streams: CPU time per send against a bare send() loop, and the age of prices
    Stream(stream::StreamArgs),
    /// Limit orders that stay open: orders a second and latency, in a closed or an open loop
    Orders(orders::OrdersArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = || -> error::Result<()> {
        let interrupt = phase::Interrupt::install()?;
        match arguments.test {
            Test::Stream(arguments) => stream::run(&arguments, &interrupt),
            Test::Orders(arguments) => orders::run(&arguments, &interrupt),
        }
    };
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprint!("loadtest: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}

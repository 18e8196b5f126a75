//! Load tests of Longbow: price streams beside a bare `send()` loop, orders, orders with Postgres, a
//! crash loop, and a linearizability check. See `loadtest --help`.

use std::{error::Error as _, process::ExitCode};

use clap::{Parser, Subcommand};

mod api;
mod bare;
mod bare_process;
mod baseline;
mod client;
mod clock;
mod cluster;
mod cpu;
mod crash_loop;
mod disk_sync;
mod error;
mod frames;
mod histogram;
mod history;
mod http;
mod linear;
mod linearize;
mod metrics;
mod order_client;
mod order_window;
mod orders;
mod peer;
mod phase;
mod postgres;
mod prices;
mod process_tree;
mod reconcile;
mod record;
mod report;
mod rounds;
mod shares;
mod spawn;
mod stream;
mod target;
mod workload;

/// Load tests of Longbow. Every figure is printed with the machine, its load and the time stolen by
/// the hypervisor.
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
    /// Limit orders that stay open: orders per second and latency, in a closed or an open loop
    Orders(orders::OrdersArgs),
    /// Kills the server again and again under load, beside a misbehaving exchange: what clients were
    /// told must stay true, and both records must agree in the end
    CrashLoop(crash_loop::CrashLoopArgs),
    /// Many concurrent clients on few orders: is everything they saw linearizable?
    Linearize(linearize::LinearizeArgs),
    /// Price streams beside other servers: capacity, age, memory, stalled clients, reconnects
    Prices(prices::PricesArgs),
    /// Orders with Postgres, beside the baseline on Postgres: throughput, lag, and
    /// the projection alone
    Postgres(postgres::PostgresArgs),
    /// Processes that other tests start
    #[command(subcommand, hide = true)]
    Peer(PeerTest),
}

#[derive(Debug, Subcommand)]
enum PeerTest {
    /// The bare send() loop
    Bare(bare_process::BareArgs),
    /// axum + tokio broadcast
    Axum(prices::axum_peer::AxumArgs),
    /// The answering side of a ping-pong
    Echo(prices::unloaded::EchoArgs),
    /// Orders in the baseline: axum over Postgres
    BaselineOrders(baseline::BaselineArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = || -> error::Result<()> {
        // A peer ends with its input, or immediately on a signal.
        if let Test::Peer(peer) = &arguments.test {
            return match peer {
                PeerTest::Bare(arguments) => bare_process::run(arguments),
                PeerTest::Axum(arguments) => prices::axum_peer::run(arguments),
                PeerTest::Echo(arguments) => prices::unloaded::run_echo(arguments),
                PeerTest::BaselineOrders(arguments) => baseline::run(arguments),
            };
        }
        let interrupt = phase::Interrupt::install()?;
        match arguments.test {
            Test::Stream(arguments) => stream::run(&arguments, &interrupt),
            Test::Orders(arguments) => orders::run(&arguments, &interrupt),
            Test::CrashLoop(arguments) => crash_loop::run(&arguments, &interrupt),
            Test::Linearize(arguments) => linearize::run(&arguments, &interrupt),
            Test::Prices(arguments) => prices::run(&arguments, &interrupt),
            Test::Postgres(arguments) => postgres::run(&arguments, &interrupt),
            Test::Peer(_) => Ok(()),
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

//! The command line: reads the settings, checks them, runs one subcommand.

use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use longbow::books::{self, BooksOptions};
use longbow::config::{
    Cli, Command, ConfigError, CopyArgs, MigrateArgs, TokenArgs, VerifyArgs, WalCommand,
    WalVerifyArgs, parse_command_line,
};
use longbow::http::{Authenticator, Secret};
use longbow::projection::{self, PostgresServers};
use longbow::topology;
use longbow::wal;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let cli = match parse_command_line(std::env::args_os().collect()) {
        Ok(cli) => cli,
        // Also `--help`, which is no failure: clap knows where it goes.
        Err(ConfigError::CommandLine(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", topology::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(arguments) => {
            start_logging()?;
            topology::serve(&arguments)?;
        }
        Command::Exchange(arguments) => {
            start_logging()?;
            topology::run_exchange(&arguments)?;
        }
        Command::Token(arguments) => println!("{}", token(&arguments)?),
        Command::Migrate(arguments) => migrate(&arguments)?,
        Command::Verify(arguments) => verify_books(&arguments)?,
        Command::Restore(arguments) => restore(&arguments)?,
        Command::Backfill(arguments) => backfill(&arguments)?,
        Command::Wal(WalCommand::Verify(arguments)) => verify_log(&arguments)?,
        Command::Wal(WalCommand::Inspect(arguments)) => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            topology::inspect_log(&arguments, &mut out)?;
        }
    }
    Ok(())
}

fn token(arguments: &TokenArgs) -> Result<String, Failure> {
    let secret = match &arguments.jwt_secret_file {
        Some(path) => Secret::read(path)?,
        None => Secret::of_data_directory(&arguments.data_dir)?,
    };
    Ok(Authenticator::new(&secret).issue(&arguments.user)?)
}

fn migrate(arguments: &MigrateArgs) -> Result<(), Failure> {
    let servers = servers(&arguments.postgres)?;
    for (server, before, after) in projection::migrate(&servers)? {
        println!("{server}: schema version {after}, before {before}");
    }
    Ok(())
}

fn servers(text: &str) -> Result<PostgresServers, Failure> {
    Ok(text.parse().map_err(|error| format!("--postgres: {error}"))?)
}

fn verify_books(arguments: &VerifyArgs) -> Result<(), Failure> {
    let servers = arguments.postgres.as_deref().map(servers).transpose()?;
    let options = BooksOptions::new(&arguments.data_dir);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let verified = books::verify(&options, servers.as_ref(), &mut out);
    // What was found before a failure counts too.
    out.flush()?;
    match verified? {
        0 => Ok(()),
        1 => Err("the books differ in one place".into()),
        count => Err(format!("the books differ in {count} places").into()),
    }
}

fn restore(arguments: &CopyArgs) -> Result<(), Failure> {
    let restored = books::restore(&arguments.data_dir, &servers(&arguments.postgres)?)?;
    println!(
        "restored {} orders, {} of them open, into {} as log {}",
        restored.orders,
        restored.open,
        arguments.data_dir.display(),
        restored.log_id
    );
    Ok(())
}

fn backfill(arguments: &CopyArgs) -> Result<(), Failure> {
    let options = BooksOptions::new(&arguments.data_dir);
    let copied = books::backfill(&options, &servers(&arguments.postgres)?)?;
    println!(
        "copied {} orders; Postgres follows the log from behind record {}",
        copied.orders, copied.position
    );
    Ok(())
}

fn verify_log(arguments: &WalVerifyArgs) -> Result<(), Failure> {
    let found = wal::verify(&topology::wal_directory(&arguments.data_dir))?;
    println!("{found}");
    match found.verdict {
        Ok(_) => Ok(()),
        Err(_) => Err("the log is not fit to start from".into()),
    }
}

/// The store below the index tells of each of its files.
const DEFAULT_LOG_FILTER: &str = "info,fjall=warn,lsm_tree=warn";

/// Logs go to standard error; `RUST_LOG` chooses what.
fn start_logging() -> Result<(), Failure> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { DEFAULT_LOG_FILTER } else { &wanted };
    let filter = tracing_subscriber::EnvFilter::try_new(wanted)
        .map_err(|error| format!("RUST_LOG is not a log filter: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

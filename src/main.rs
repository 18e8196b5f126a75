//! The command line: parses and validates the settings, then runs one subcommand.

use std::io::Write;
use std::process::ExitCode;

use longbow::cluster::{self, Drained, ListedNode};
use longbow::config::{
    Cli, Command, ConfigError, CopyArgs, KeysCommand, MigrateArgs, NodesAction, NodesArgs,
    RestoreArgs, TokenArgs, VerifyArgs, WalCommand, WalVerifyArgs, parse_command_line,
};
use longbow::http::{Authenticator, KeysDirectory, Secret};
use longbow::offline::{self, OfflineOptions};
use longbow::projection::{self, Migrated};
use longbow::topology::{self, Console, Log, ServeError, complain, servers};
use longbow::wal;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Exit status if a setting is wrong: that of clap as well.
const WRONG_SETTINGS: u8 = 2;
/// Exit status after the reader of the output has gone: that of a program ended by SIGPIPE.
const STOPPED_READING: u8 = 128 + 13;

fn main() -> ExitCode {
    let cli = match parse_command_line(std::env::args_os().collect()) {
        Ok(cli) => cli,
        // This includes `--help`, which is not a failure: clap picks stream and status.
        Err(ConfigError::CommandLine(error)) => error.exit(),
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    let mut out = Console::new();
    let outcome = run(cli, &mut out);
    // Print what was found before a failure.
    let flushed = out.flush();
    if out.reader_has_gone() {
        return ExitCode::from(STOPPED_READING);
    }
    match outcome.and(flushed.map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&topology::with_causes(&*error));
            if topology::is_wrong_setting(&*error) {
                return ExitCode::from(WRONG_SETTINGS);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, out: &mut Console) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(arguments) => topology::serve(&arguments, &Log::start()?)?,
        Command::Exchange(arguments) => topology::run_exchange(&arguments, &Log::start()?)?,
        Command::Token(arguments) => writeln!(out, "{}", token(&arguments)?)?,
        Command::Keys(KeysCommand::Init(arguments)) => {
            let keys = KeysDirectory::make(&arguments.directory)?;
            writeln!(out, "{}", keys.made())?;
        }
        Command::Migrate(arguments) => migrate(&arguments, out)?,
        Command::Nodes(arguments) => nodes(&arguments, out)?,
        Command::Verify(arguments) => verify_records(&arguments, out)?,
        Command::Restore(arguments) => restore(&arguments, out)?,
        Command::Backfill(arguments) => backfill(&arguments, out)?,
        Command::Quarantine(command) => writeln!(out, "{:#}", topology::quarantine(&command)?)?,
        Command::CloseOrder(arguments) => {
            writeln!(out, "{:#}", topology::close_order(&arguments)?)?;
        }
        Command::Reconcile(arguments) => {
            let report = topology::reconcile(&arguments)?;
            write!(out, "{}", report.shown)?;
            if !report.agrees {
                return Err(Failure::from("the day's executions differ from the exchange's"));
            }
        }
        Command::Account(command) => writeln!(out, "{:#}", topology::account(&command)?)?,
        Command::Wal(WalCommand::Verify(arguments)) => verify_log(&arguments, out)?,
        Command::Wal(WalCommand::Inspect(arguments)) => {
            offline::inspect_log(&arguments.options(), out)?
        }
    }
    Ok(())
}

fn token(arguments: &TokenArgs) -> Result<String, Failure> {
    let secret = match (&arguments.keys, &arguments.jwt_secret_file) {
        (Some(keys), _) => KeysDirectory::at(keys).token_secret().map_err(ServeError::Secret)?,
        (None, Some(path)) => Secret::read(path).map_err(ServeError::Secret)?,
        (None, None) => Secret::made_in(&arguments.data_dir)?,
    };
    Ok(Authenticator::new(&secret).issue(&arguments.user)?)
}

fn migrate(arguments: &MigrateArgs, out: &mut Console) -> Result<(), Failure> {
    let servers = servers(&arguments.postgres, &arguments.schema)?;
    for migrated in projection::migrate(&servers)? {
        let Migrated { server, before, after, not_granted } = migrated;
        writeln!(out, "{server}: schema version {after}, before {before}")?;
        for lacking in not_granted {
            writeln!(out, "{server}: {lacking}")?;
        }
    }
    Ok(())
}

fn nodes(arguments: &NodesArgs, out: &mut Console) -> Result<(), Failure> {
    let servers = servers(arguments.postgres.as_deref().unwrap_or_default(), &arguments.schema)?;
    match arguments.action {
        None => list_nodes(&cluster::nodes(servers.of_nodes())?, out),
        Some(NodesAction::Drain { node_id }) => {
            match cluster::drain(servers.of_nodes(), node_id)? {
                Drained::Told => {
                    writeln!(out, "node {node_id} hands over its users and the feed")?;
                    Ok(())
                }
                Drained::Unknown => {
                    Err(format!("no member of a cluster runs as node {node_id}").into())
                }
                Drained::Last => Err(format!(
                    "no node but {node_id} takes users: start another one first, or restart one that drains"
                )
                .into()),
            }
        }
    }
}

fn list_nodes(nodes: &[ListedNode], out: &mut Console) -> Result<(), Failure> {
    writeln!(
        out,
        "{:>4}  {:<8}  {:>6}  {:>5}  {:<4}  {:>8}  {:<21}  {:<20}  {:<8}  host",
        "node", "state", "epoch", "users", "feed", "lease", "peers", "since", "version"
    )?;
    for node in nodes {
        let ListedNode { node_id, epoch, started_at, version, host, is_running, shares } = node;
        let is_draining = shares.as_ref().is_some_and(|shares| shares.is_draining);
        let state = match (is_running, is_draining) {
            (false, _) => "stopped",
            (true, true) => "draining",
            (true, false) => "running",
        };
        // A node that shares nothing has all users and its own feed.
        let (users, feed, lease, peers) = match shares {
            Some(shares) => (
                format!("{}/64", shares.partitions),
                if shares.reads_feed { "yes" } else { "no" },
                format!("{} ms", shares.lease_left_ms),
                shares.peer_address.as_deref().unwrap_or("-"),
            ),
            None => ("-".to_owned(), "-", "-".to_owned(), "-"),
        };
        writeln!(
            out,
            "{node_id:>4}  {state:<8}  {epoch:>6}  {users:>5}  {feed:<4}  {lease:>8}  {peers:<21}  \
             {started_at:<20}  {version:<8}  {host}"
        )?;
    }
    Ok(())
}

fn verify_records(arguments: &VerifyArgs, out: &mut Console) -> Result<(), Failure> {
    let servers = arguments.postgres.as_deref().map(|text| servers(text, &arguments.schema));
    let servers = servers.transpose()?;
    let must_be_stopped = arguments.repair;
    let options = OfflineOptions { must_be_stopped, ..OfflineOptions::new(&arguments.data_dir) };
    let found = offline::differences(&options, servers.as_ref(), out)?;
    let Some(servers) = servers.filter(|_| arguments.repair && found.count > 0) else {
        return differ(found.count);
    };
    let repaired = offline::repair(&options, &servers, &found)?;
    writeln!(out, "repaired {repaired} orders; remaining differences:")?;
    differ(offline::verify(&options, Some(&servers), out)?)
}

fn differ(count: u64) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        1 => Err("the records differ in one place".into()),
        count => Err(format!("the records differ in {count} places").into()),
    }
}

fn restore(arguments: &RestoreArgs, out: &mut Console) -> Result<(), Failure> {
    let RestoreArgs { copy: CopyArgs { data_dir, postgres, schema }, force } = arguments;
    let restored = offline::restore(data_dir, &servers(postgres, schema)?, *force)?;
    writeln!(
        out,
        "restored {} orders, {} of them open, into {} as log {}",
        restored.orders,
        restored.open,
        data_dir.path().display(),
        restored.log_id
    )?;
    for lacking in restored.lacking {
        writeln!(out, "{lacking}")?;
    }
    Ok(())
}

fn backfill(arguments: &CopyArgs, out: &mut Console) -> Result<(), Failure> {
    let options = OfflineOptions::new(&arguments.data_dir);
    let servers = servers(&arguments.postgres, &arguments.schema)?;
    let copied = offline::backfill(&options, &servers)?;
    writeln!(
        out,
        "copied {} orders; Postgres follows the log after record {}",
        copied.orders, copied.position
    )?;
    if copied.without_history > 0 {
        writeln!(
            out,
            "order_events lacks changes of {} orders from before this copy, which the log no longer \
             contains",
            copied.without_history
        )?;
    }
    differ(offline::verify(&options, Some(&servers), out)?)
}

fn verify_log(arguments: &WalVerifyArgs, out: &mut Console) -> Result<(), Failure> {
    let data_dir = &arguments.data_dir;
    let stored = offline::stored_position(data_dir);
    let found = wal::verify(&data_dir.wal(), stored.as_ref().ok().copied().flatten())?;
    writeln!(out, "{found}")?;
    match (found.verdict, stored) {
        (Ok(_), Ok(_)) => Ok(()),
        (Ok(_), Err(error)) => {
            writeln!(out, "the index cannot follow it: {error}")?;
            Err("the server cannot start from this log".into())
        }
        (Err(_), _) => Err("the server cannot start from this log".into()),
    }
}

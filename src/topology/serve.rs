//! `longbow serve`: checks the settings, recovers the orders, runs until a stop.

use std::fs;
use std::sync::Arc;

use crate::config::{ExchangeChoice, ServeArgs};
use crate::data_dir::BegunAnew;
use crate::engine::AccountMode;
use crate::exchange::ExchangeAddress;
use crate::http::{Authenticator, KeysDirectory, PeersSecret, Secret, SecretError};
use crate::index::{Index, IndexOptions};
use crate::offline;
use crate::oms;
use crate::shutdown::{Shutdown, StopReason};
use crate::sim_exchange::{self, SimHandle};
use crate::wal::{self, WalOptions};

use super::ServeError;
use super::link;
use super::logging::Log;
use super::node;
use super::plan::plan;
use super::postgres;
use super::running::{Running, Start};
use super::signals::stop_on_signals;
use super::webhook;

/// Serves until a signal asks for a stop.
///
/// # Errors
/// Something is not usable at the start, or a thread ended.
pub fn serve(arguments: &ServeArgs, logging: &Log) -> Result<(), ServeError> {
    // All that can be wrong with the settings first: a server that does not start leaves no trace.
    let plan = plan(arguments)?;
    if !arguments.is_member() && arguments.data_dir.member().exists() {
        let path = arguments.data_dir.path().to_path_buf();
        return Err(ServeError::DirectoryOfMember { path });
    }
    if arguments.account_rules().mode == AccountMode::Cash && arguments.is_member() {
        return Err(ServeError::CashInCluster);
    }
    let secret = configured_secret(arguments).map_err(ServeError::Secret)?;
    let peers_secret = peers_secret(arguments)?;
    let webhook = webhook::prepare(&arguments.link)?;
    let postgres = postgres::prepare(&arguments.postgres, &arguments.data_dir)?;
    let servers = postgres.as_ref().map_or(0, |servers| servers.iter().len());
    if arguments.is_member() && arguments.exchange == ExchangeChoice::Simulated {
        return Err(ServeError::NodeWithOwnExchange);
    }
    if arguments.is_member() && servers > 1 {
        return Err(ServeError::SeveralServers { servers });
    }
    offline::check_restored(&arguments.data_dir)?;
    let data_dir = arguments.data_dir.path();
    fs::create_dir_all(data_dir)
        .map_err(|source| ServeError::DataDirectory { path: data_dir.to_path_buf(), source })?;
    let secret = match secret {
        Some(secret) => secret,
        None => Secret::of_data_directory(&arguments.data_dir).map_err(ServeError::OwnSecret)?,
    };
    let shutdown = Shutdown::new();
    let hand_over = Shutdown::new();
    let is_member = arguments.is_member();
    let signals = stop_on_signals(&shutdown, is_member.then(|| hand_over.clone()))?;
    let begun_anew = is_member.then(|| BegunAnew::begin(&arguments.data_dir)).transpose()?;
    // The log first: its lock is what a second process in the same directory meets.
    let log = WalOptions {
        segment_bytes: arguments.wal_segment_bytes(),
        keep_bytes: arguments.wal_keep_bytes(),
        reserve_bytes: arguments.disk_reserve_bytes(),
        ..WalOptions::new(arguments.data_dir.wal())
    };
    let index = Index::open(IndexOptions {
        cache_bytes: arguments.index_cache_bytes(),
        changes_age_micros: arguments.order_changes_age_micros(),
        ..IndexOptions::new(arguments.data_dir.index(), wal::log_start(&log)?)
    })?;
    let home = node::find_home(&arguments.data_dir)?;
    let recovered = oms::recover(&log, &index, link::engine_options(arguments))?;
    let (exchange, simulator) = find_exchange(arguments, &shutdown)?;
    let running = Running::start(Start {
        arguments,
        plan: &plan,
        authenticator: Arc::new(Authenticator::new(&secret)),
        peers_secret,
        home,
        log,
        index,
        recovered,
        exchange,
        webhook,
        postgres,
        shutdown: &shutdown,
        hand_over,
        logging,
    })?;
    running.announce(arguments.data_dir.path(), logging);
    let reason = shutdown.wait();
    running.join();
    drop(begun_anew);
    if let Some(simulator) = simulator {
        simulator.stop()?;
    }
    signals.join();
    match reason {
        StopReason::Requested => Ok(()),
        StopReason::ThreadEnded { thread, error } => Err(ServeError::ThreadEnded { thread, error }),
    }
}

/// The key of tokens that the settings name.
fn configured_secret(arguments: &ServeArgs) -> Result<Option<Secret>, SecretError> {
    match (&arguments.keys, &arguments.jwt_secret_file) {
        (Some(keys), _) => KeysDirectory::at(keys).token_secret().map(Some),
        (None, Some(path)) => Secret::read(path).map(Some),
        (None, None) => Ok(None),
    }
}

/// The secret that a node shares with others.
fn peers_secret(arguments: &ServeArgs) -> Result<Option<PeersSecret>, ServeError> {
    match &arguments.keys {
        _ if !arguments.is_member() => Ok(None),
        Some(keys) => KeysDirectory::at(keys).peers_secret().map(Some).map_err(ServeError::Secret),
        None => Err(ServeError::NodeWithoutKeys),
    }
}

fn find_exchange(
    arguments: &ServeArgs,
    shutdown: &Shutdown,
) -> Result<(ExchangeAddress, Option<SimHandle>), ServeError> {
    match &arguments.exchange {
        ExchangeChoice::At(address) => Ok((address.clone(), None)),
        ExchangeChoice::Simulated => {
            let data_dir = Some(arguments.data_dir.exchange());
            let options = arguments.simulator.options(link::simulator_address(), data_dir);
            let simulator = sim_exchange::start_with(options, ended_unexpectedly(shutdown))?;
            Ok((simulator.address().into(), Some(simulator)))
        }
    }
}

/// The simulator's last word: without it there are no prices, so the process stops.
pub(super) fn ended_unexpectedly(shutdown: &Shutdown) -> impl FnOnce() + Send + 'static {
    let shutdown = shutdown.clone();
    move || {
        shutdown.request(StopReason::ThreadEnded {
            thread: sim_exchange::THREAD_NAME.to_owned(),
            error: "it ended unexpectedly".to_owned(),
        });
    }
}

//! The way to the exchange: settings that are checked against the machine and against each other.

use std::net::{IpAddr, SocketAddr};

use crate::config::{ExchangeChoice, ServeArgs};
use crate::engine::EngineOptions;
use crate::exchange::wire::WebhookRequest;
use crate::exchange::{ExchangeAddress, SessionOptions};
use crate::oms::OmsOptions;
use crate::runtime::bind_source;

use super::ServeError;

/// Looks whether the exchange can be reached as it is set, before anything is made or started.
///
/// # Errors
/// The exchange's name is unknown, connections cannot be made from the addresses given, or something
/// is set that only the simulated exchange heeds.
pub(super) fn check(arguments: &ServeArgs) -> Result<(), ServeError> {
    let sources = &arguments.link.exchange_source_ip;
    match &arguments.exchange {
        ExchangeChoice::Simulated => check_sources(sources, &[simulator_address()]),
        ExchangeChoice::At(exchange) => {
            let ignored = [
                ("--fault", arguments.simulator.fault.is_some()),
                ("--tape", arguments.simulator.tape.is_some()),
            ];
            if let Some((setting, _)) = ignored.into_iter().find(|(_, is_set)| *is_set) {
                return Err(ServeError::NotSimulated { setting, exchange: exchange.clone() });
            }
            let addresses = exchange
                .resolve_all()
                .map_err(|source| ServeError::Exchange { exchange: exchange.clone(), source })?;
            check_sources(sources, &addresses)
        }
    }
}

/// Where the simulated exchange listens: on a port that is free.
pub(super) fn simulator_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// How long the exchange may take to accept an order of a member of a cluster: less than the member's
/// lease, so that one that was frozen for longer submits nothing.
const MEMBER_SUBMIT_WINDOW_MICROS: u64 = 1_500_000;

/// How long a member keeps a line about an unknown order, which is nearly always another node's: longer
/// than the exchange may take to accept an order.
const MEMBER_UNMATCHED_REPORT_AGE_MICROS: u64 = 5_000_000;

/// Timings of the engines.
pub(super) fn engine_options(arguments: &ServeArgs) -> EngineOptions {
    let accounts = arguments.account_rules();
    let options = EngineOptions { accounts, ..arguments.link.engine_options() };
    if !arguments.is_member() {
        return options;
    }
    let submit_window_micros = MEMBER_SUBMIT_WINDOW_MICROS;
    let unmatched_report_age_micros = MEMBER_UNMATCHED_REPORT_AGE_MICROS;
    EngineOptions {
        shares_users: true,
        submit_window_micros,
        unmatched_report_age_micros,
        ..options
    }
}

/// How the orders thread reaches the exchange, and everything else that is set about it.
pub(super) fn execution_options(
    arguments: &ServeArgs,
    exchange: &ExchangeAddress,
    webhook: Option<WebhookRequest>,
) -> OmsOptions {
    let link = &arguments.link;
    let mut session = SessionOptions::new(exchange.clone());
    session.request_timeout = link.exchange_timeout();
    let mut options = OmsOptions::new(session);
    options.engine = engine_options(arguments);
    options.is_member = arguments.is_member();
    options.reply_timeout = arguments.order_reply_timeout();
    options.keep_ended = arguments.keep_ended();
    options.submit_connections = usize::try_from(link.exchange_connections).unwrap_or(usize::MAX);
    options.sources.clone_from(&link.exchange_source_ip);
    options.cleanup_interval = link.cleanup_interval();
    options.exchange_clock_warning = link.exchange_clock_warning();
    options.webhook = webhook;
    options
}

fn check_sources(sources: &[IpAddr], exchange: &[SocketAddr]) -> Result<(), ServeError> {
    for &address in sources {
        bind_source(address).map_err(|source| ServeError::SourceAddress { address, source })?;
        let is_other = |exchange: &SocketAddr| address.is_ipv4() != exchange.is_ipv4();
        if let Some(&exchange) = exchange.first().filter(|_| exchange.iter().all(is_other)) {
            return Err(ServeError::SourceFamily { address, exchange: exchange.ip() });
        }
    }
    Ok(())
}

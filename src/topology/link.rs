//! The way to the exchange: settings that are checked against the machine and against each other.

use std::net::{IpAddr, SocketAddr};

use crate::config::ServeArgs;
use crate::exchange::wire::WebhookRequest;
use crate::exchange::{ExchangeAddress, SessionOptions};
use crate::execution::ExecutionOptions;
use crate::net::bind_source;

use super::ServeError;

/// How the orders thread reaches the exchange, and everything else that is set about it.
///
/// # Errors
/// The exchange's name is unknown, or connections cannot be made from the addresses given.
pub(super) fn execution_options(
    arguments: &ServeArgs,
    exchange: &ExchangeAddress,
    webhook: Option<WebhookRequest>,
) -> Result<ExecutionOptions, ServeError> {
    let link = &arguments.link;
    let addresses = exchange
        .resolve_all()
        .map_err(|source| ServeError::Exchange { exchange: exchange.clone(), source })?;
    check_sources(&link.exchange_source_ip, &addresses)?;
    let mut session = SessionOptions::new(exchange.clone());
    session.request_timeout = link.exchange_timeout();
    let mut options = ExecutionOptions::new(session);
    options.engine = link.engine_options();
    options.reply_timeout = arguments.order_reply_timeout();
    options.keep_ended = arguments.keep_ended();
    options.submit_connections = usize::try_from(link.exchange_connections).unwrap_or(usize::MAX);
    options.sources.clone_from(&link.exchange_source_ip);
    options.cleanup_interval = link.cleanup_interval();
    options.exchange_clock_warning = link.exchange_clock_warning();
    options.webhook = webhook;
    Ok(options)
}

fn check_sources(sources: &[IpAddr], exchange: &[SocketAddr]) -> Result<(), ServeError> {
    for &address in sources {
        bind_source(address).map_err(|source| ServeError::SourceAddress { address, source })?;
        let is_other = |exchange: &SocketAddr| address.is_ipv4() != exchange.is_ipv4();
        if let Some(&exchange) = exchange.first().filter(|_| exchange.iter().all(is_other)) {
            return Err(ServeError::SourceFamily { address, exchange });
        }
    }
    Ok(())
}

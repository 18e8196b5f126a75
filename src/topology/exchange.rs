use crate::config::ExchangeArgs;
use crate::shutdown::Shutdown;
use crate::sim_exchange;

use super::ServeError;
use super::logging::Log;
use super::serve::ended_unexpectedly;
use super::signals::stop_on_signals;

/// Runs the simulated exchange alone until a signal asks for a stop.
///
/// # Errors
/// A setting is not usable, or the simulator failed.
pub fn run_exchange(arguments: &ExchangeArgs, log: &Log) -> Result<(), ServeError> {
    let shutdown = Shutdown::new();
    let signals = stop_on_signals(&shutdown, None)?;
    let listen = &arguments.listen;
    let unknown =
        |source| ServeError::UnknownName { setting: "--listen", address: listen.clone(), source };
    let [address, ..] = *listen.resolve().map_err(unknown)? else {
        return Err(unknown(std::io::ErrorKind::NotFound.into()));
    };
    let options = arguments.simulator.options(address, arguments.data_dir.clone());
    let simulator = sim_exchange::start_with(options, ended_unexpectedly(&shutdown))?;
    log.announce(format_args!("exchange listening on http://{}", simulator.address()));
    shutdown.wait();
    simulator.stop()?;
    signals.join();
    Ok(())
}

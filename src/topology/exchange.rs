use crate::config::ExchangeArgs;
use crate::exchange::sim;
use crate::shutdown::Shutdown;

use super::ServeError;
use super::logging::Log;
use super::serve::ended_unasked;
use super::signals::stop_on_signals;

/// Runs the simulated exchange alone until a signal asks for a stop.
///
/// # Errors
/// A setting is not usable, or the simulator failed.
pub fn run_exchange(arguments: &ExchangeArgs, log: &Log) -> Result<(), ServeError> {
    let shutdown = Shutdown::new();
    let signals = stop_on_signals(&shutdown)?;
    let options = arguments.simulator.options(arguments.listen, arguments.data_dir.clone());
    let simulator = sim::start_with(options, ended_unasked(&shutdown))?;
    log.announce(format_args!("exchange listening on http://{}", simulator.address()));
    shutdown.wait();
    simulator.stop()?;
    signals.join();
    Ok(())
}

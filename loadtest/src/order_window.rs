//! One measured window of orders: connect, warm up, measure, wait for the last answers.

use crate::{
    error::Result,
    order_client::{OrderClient, OrderOptions, OrderReport},
    phase::{Control, Interrupt, Phase, StopOnDrop},
};

/// How long connecting may take, in seconds.
const CONNECT_SECONDS: f64 = 20.0;
/// How long the answers to the last orders may take, in seconds.
const DRAIN_SECONDS: f64 = 15.0;

/// Sends orders for `warm_up` seconds and then for the `seconds` of the window. Returns what the
/// client saw, and the results of `read` at the beginning and the end of the window.
///
/// # Errors
/// What stops the client, and what `read` returns.
pub(crate) fn run<R>(
    options: OrderOptions,
    (warm_up, seconds): (f64, f64),
    interrupt: &Interrupt,
    mut read: impl FnMut() -> Result<R>,
) -> Result<(OrderReport, R, R)> {
    let control = Control::new();
    let _stop = StopOnDrop(control.clone());
    let client = OrderClient::start(options, control.clone())?;
    let up = || Ok(client.has_ended() || control.ready() > 0);
    interrupt.wait_until(CONNECT_SECONDS, up)?;
    interrupt.sleep(warm_up)?;
    let before = read()?;
    control.set(Phase::Measure);
    let ended = interrupt.wait_until(seconds, || Ok(client.has_ended()))?;
    let after = read();
    control.set(Phase::Counted);
    if !ended {
        interrupt.wait_until(DRAIN_SECONDS, || Ok(client.has_ended() || control.has_counted()))?;
    }
    control.set(Phase::Stop);
    // The client's error says more than a failed reading after it.
    let seen = client.join()?;
    Ok((seen, before, after?))
}

/// Sends the number of orders in the options, as fast as they are answered.
///
/// # Errors
/// What stops the client.
pub(crate) fn send_all(
    options: OrderOptions,
    most_seconds: f64,
    interrupt: &Interrupt,
) -> Result<OrderReport> {
    let control = Control::new();
    let _stop = StopOnDrop(control.clone());
    control.set(Phase::Measure);
    let client = OrderClient::start(options, control.clone())?;
    let done = || Ok(client.has_ended() || control.has_counted());
    interrupt.wait_until(most_seconds, done)?;
    control.set(Phase::Stop);
    client.join()
}

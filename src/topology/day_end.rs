//! The thread that compares a day's executions with the exchange's list.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::config::ServeArgs;
use crate::day_end::{DayEndMetrics, DayEndOptions, DayEndThread, DayEnds, OurRecords};
use crate::exchange::{DayExecutions, ExchangeAddress};
use crate::index::Index;
use crate::market::SharedDirectory;
use crate::metrics::Metrics;
use crate::oms::OrderCommands;
use crate::shutdown::Shutdown;

use super::ServeError;
use super::threads::Threads;

/// How long a part of the list may take.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the orders thread is left alone when it is busy with other requests or with lookups.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Starts the thread.
///
/// # Errors
/// There is no room for another thread.
pub(super) fn start(
    arguments: &ServeArgs,
    (exchange, index): (ExchangeAddress, Index),
    (commands, directory): (OrderCommands, Arc<SharedDirectory>),
    metrics: &Metrics,
    (threads, stop, shutdown): (&mut Threads, &Shutdown, &Shutdown),
) -> Result<DayEnds, ServeError> {
    let source = arguments.link.exchange_source_ip.last().copied();
    let list = DayExecutions::new(exchange, source, PART_TIMEOUT, stop.clone());
    let list = Box::new(move |date, cursor: Option<&str>| list.part(date, cursor));
    let (taker, stopped) = (commands.clone(), stop.clone());
    let take = Box::new(move |findings: Vec<_>| {
        loop {
            let taken = match taker.take_findings(findings.clone()) {
                Ok(taken) => match taken.recv() {
                    Ok(taken) => taken,
                    Err(_gone) => return false,
                },
                Err(_overloaded) => false,
            };
            if taken || stopped.is_requested() {
                return taken;
            }
            thread::sleep(BUSY_PAUSE);
        }
    });
    let day_metrics = DayEndMetrics::default();
    metrics.register(|registry| day_metrics.register(registry));
    let options = DayEndOptions {
        metrics: day_metrics,
        delay: Duration::from_secs(arguments.day_end_delay_minutes * 60),
        now: Box::new(move || commands.exchange_clock().time(commands.clock().moment())),
        sessions: Box::new(move || {
            directory.load().sessions().iter().map(|(session, _)| *session).collect()
        }),
    };
    let records = (list as _, OurRecords(index), take as _);
    let directory = arguments.data_dir.day_ends();
    let (day_end, ends) = DayEndThread::new(directory, records, options, stop.clone());
    let run = move || {
        day_end.run();
        Ok::<(), String>(())
    };
    threads.spawn("day-end", shutdown, run).map_err(ServeError::Thread)?;
    Ok(ends)
}

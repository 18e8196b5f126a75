//! The threads that make candles and read them. Prices and orders do without.

use std::sync::Arc;

use crate::config::ServeArgs;
use crate::exchange::feed::FeedOptions;
use crate::exchange::{CandleHistory, KnownCandles};
use crate::index::{
    AskExchange, CandleHistorian, CandleMaker, CandleMetrics, CandleOptions, CandleReader,
    CandleReads, CandleStore,
};
use crate::market::SharedDirectory;
use crate::market::candles::{CANDLE_EVENT_WORDS, FeedMark};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::sync::{RingWriter, ring};

use super::ServeError;
use super::threads::Threads;

/// Slots of the ring of events: 650 ms of 100,000 prints a second; it takes 4 MiB.
const RING_SLOTS: usize = 65_536;

/// Where the feed tells prints, and how far they are known.
pub(super) struct CandleFeed {
    pub(super) mark: FeedMark,
    pub(super) ring: RingWriter<CANDLE_EVENT_WORDS>,
}

/// Starts the threads.
///
/// # Errors
/// There is no room for another thread.
pub(super) fn start(
    arguments: &ServeArgs,
    (directory, exchange): (Arc<SharedDirectory>, &FeedOptions),
    metrics: &Metrics,
    (makers, readers, stop): (&mut Threads, &mut Threads, &Shutdown),
    shutdown: &Shutdown,
) -> Result<(CandleFeed, CandleReads), ServeError> {
    let store = CandleStore::new(arguments.data_dir.candles());
    // The maker tries again, and says so.
    let mark = store.open().unwrap_or_default();
    let (writer, events) = ring(RING_SLOTS);
    let candle_metrics = CandleMetrics::default();
    metrics.register(|registry| candle_metrics.register(registry));
    let options = CandleOptions { keep_days: arguments.keep_candles_days };
    let FeedOptions { exchange, source, request_timeout, .. } = exchange;
    let history = CandleHistory::new(exchange.clone(), *source, *request_timeout, stop.clone());
    let ask: AskExchange = Box::new(move |symbol, minutes| {
        let known = history.minutes(symbol, minutes)?;
        Ok(known.map(|KnownCandles { since, candles }| (since, candles)))
    });
    let (historian, history) = CandleHistorian::new(ask, Arc::clone(&directory));
    makers
        .spawn("candle-history", shutdown, move || {
            historian.run();
            Ok::<(), String>(())
        })
        .map_err(ServeError::Thread)?;
    let settings = (options, candle_metrics);
    let maker = CandleMaker::new(store.clone(), events, directory, settings, history);
    let stop = stop.clone();
    let make = move || {
        maker.run(&stop);
        Ok::<(), String>(())
    };
    makers.spawn("candles", shutdown, make).map_err(ServeError::Thread)?;
    let (reads, reader): (CandleReads, CandleReader) = CandleReads::new(store);
    let read = move || {
        reader.run();
        Ok::<(), String>(())
    };
    readers.spawn("candle-read", shutdown, read).map_err(ServeError::Thread)?;
    Ok((CandleFeed { mark, ring: writer }, reads))
}

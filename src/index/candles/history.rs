//! The thread `candle-history`: reads from the exchange what is missing.

use std::io;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::market::SharedDirectory;
use crate::market::candles::{Candle, MINUTE_MICROS, Minute, Stretch};
use crate::types::{Symbol, TimestampMicros};

/// Symbols whose candles wait to be taken.
const QUEUE_CAPACITY: usize = 16;

/// What the exchange answers about the minutes of a symbol: since when it knows all, if not of all that was
/// asked, and the candles. `None`: it offers none.
pub type HistoryAnswer = Option<(Option<TimestampMicros>, Vec<(Minute, Candle)>)>;

/// Asks the exchange about a symbol's minutes, from the first, up to but without the second.
pub type AskExchange = Box<dyn Fn(Symbol, (Minute, Minute)) -> io::Result<HistoryAnswer> + Send>;

/// What has come of a stretch.
#[derive(Debug)]
pub(super) enum Filled {
    /// The candles of a symbol from the first minute on, up to but without the second.
    Symbol { symbol: Symbol, minutes: (Minute, Minute), candles: Vec<(Minute, Candle)> },
    /// All symbols of the stretch were told: all of it, or since a time.
    Whole { stretch: Stretch, since: Option<TimestampMicros> },
    /// Not now.
    Failed,
    /// The exchange has no candles, or knows nothing of the stretch.
    NotKnown(Stretch),
}

/// The maker's end.
pub struct CandleHistorySender {
    pub(super) wanted: Sender<Stretch>,
    pub(super) filled: Receiver<Filled>,
}

/// The thread. Run [`run`](Self::run) on it.
pub struct CandleHistorian {
    ask: AskExchange,
    directory: Arc<SharedDirectory>,
    wanted: Receiver<Stretch>,
    filled: Sender<Filled>,
}

impl CandleHistorian {
    /// A thread that asks about stretches, and the end of who wants them.
    pub fn new(ask: AskExchange, directory: Arc<SharedDirectory>) -> (Self, CandleHistorySender) {
        let (wants, wanted) = bounded(1);
        let (fills, filled) = bounded(QUEUE_CAPACITY);
        let sender = CandleHistorySender { wanted: wants, filled };
        (Self { ask, directory, wanted, filled: fills }, sender)
    }

    /// Asks until the maker has ended.
    pub fn run(self) {
        while let Ok(stretch) = self.wanted.recv() {
            let outcome = match self.ask_all(stretch) {
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::warn!(%error, "the exchange does not tell missing candles; asking again later");
                    Filled::Failed
                }
            };
            if self.filled.send(outcome).is_err() {
                return;
            }
        }
    }

    fn ask_all(&self, stretch: Stretch) -> io::Result<Filled> {
        let minutes =
            (Minute::of(stretch.from), Minute(Minute::of(stretch.to).0.saturating_add(1)));
        let directory = self.directory.load();
        let symbols: Vec<Symbol> = match stretch.symbol {
            Some(symbol) => vec![symbol],
            None => directory.listed().map(|(_, listing)| listing.symbol).collect(),
        };
        // The latest of all symbols.
        let mut since: Option<TimestampMicros> = None;
        for symbol in symbols {
            let Some((known, candles)) = (self.ask)(symbol, minutes)? else {
                return Ok(Filled::NotKnown(stretch));
            };
            if known.is_some_and(|known| known > stretch.to) {
                return Ok(Filled::NotKnown(stretch));
            }
            since = since.max(known);
            // What began before is as it was.
            let first =
                known.map(|known| Minute::of(known.saturating_add_micros(MINUTE_MICROS - 1)));
            let from = minutes.0.max(first.unwrap_or_default());
            let filled = Filled::Symbol { symbol, minutes: (from, minutes.1), candles };
            if self.filled.send(filled).is_err() {
                return Ok(Filled::Failed);
            }
        }
        Ok(Filled::Whole { stretch, since })
    }
}

//! Candles on disk: a fjall database of their own, made from the feed by the thread `candles` and read by the
//! thread `candle-read`. See `docs/design/candles.md`.

mod database;
mod encoding;
mod history;
mod maker;
mod metrics;
mod reader;
mod store;

pub use history::{AskExchange, CandleHistorian, CandleHistorySender, HistoryAnswer};
pub use maker::{CandleMaker, CandleOptions};
pub use metrics::CandleMetrics;
pub use reader::{CandleReader, CandleReads};
pub use store::{CandlePage, CandleQuery, CandleStore};

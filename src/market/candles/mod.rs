//! Candles: made of the feed's prints, minute by minute, and derived for longer intervals. Pure. See
//! `docs/design/candles.md`.

mod book;
mod candle;
mod derived;
mod event;
mod remembered;
mod stretches;

pub use book::{BookState, CandleBook, CandleKey, ChangedCandles, Lookups};
pub use candle::{Candle, DAY_MINUTES, Interval, MINUTE_MICROS, Minute};
pub use derived::{CandleOrder, Derived};
pub use event::{CANDLE_EVENT_WORDS, CandleEvent, CandleEventKind, CandleTrade, FeedMark};
pub use stretches::{MAX_STRETCHES, Stretch, Stretches};

//! The client side of the exchange: wire format, order sessions, webhook signatures and the feed
//! reader. [`crate::sim_exchange`] is a server that plays the exchange.

mod address;
mod blocking_http;
mod candle_history;
mod clock;
mod day_executions;
mod dial;
pub mod feed;
mod feed_line;
mod feed_role;
mod feed_types;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod reading;
mod session;
mod symbol_list;
mod unreadable;
pub mod webhook;
pub mod wire;

pub use address::ExchangeAddress;
pub use candle_history::{CandleHistory, KnownCandles};
pub use clock::ExchangeClock;
pub use day_executions::{DayExecutions, DayPart, read_day_part};
pub use dial::Dialer;
pub use feed_line::{FeedMessage, SkipCause, read_line};
pub use feed_role::FeedRole;
pub use feed_types::{OrderFeedMessage, PublishedLine, UnreadableLine};
pub use reading::{PostedLines, ResultElement, Results, Said, read_results, read_webhook};
pub use session::{ExchangeSession, SessionError, SessionOptions};
pub use unreadable::{
    MAX_UNREADABLE_TEXT_BYTES, NamedOrder, UnreadableCause, UnreadableElement, UnreadableSource,
};

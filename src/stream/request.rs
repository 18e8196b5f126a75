//! What the HTTP server asks a shard for: a stream, and changes of one.

use std::io;

use crate::types::{Symbol, SymbolIndex, UserId};

use super::frame::{Heartbeat, ResumePoint};
use super::limits::MAX_SYMBOLS_PER_STREAM;
use super::order_events::OrdersFrom;
use super::quotas::StreamPermit;

/// Which prices a stream is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// The newest, as soon as the client can take it.
    #[default]
    Latest,
    /// Every print, or the news of a gap.
    Every,
}

/// A validated request for a stream.
#[derive(Debug)]
pub struct StreamRequest {
    /// Whose it is, and room for it.
    pub permit: StreamPermit,
    /// What to watch: known, distinct, at most [`super::MAX_SYMBOLS_PER_STREAM`].
    pub symbols: Vec<(Symbol, SymbolIndex)>,
    /// Which of their prices.
    pub mode: Mode,
    /// Most sends of prices a second; `None` leaves the pace to the server.
    pub max_rate: Option<u32>,
    /// What breaks its silence.
    pub heartbeat: Heartbeat,
    /// Up to where the client has received prices.
    pub resume: Option<ResumePoint>,
    /// Its user's orders, if it wants them too. A stream without symbols has nothing else.
    pub orders: Option<OrderWish>,
}

/// A request for the orders of a stream's user.
#[derive(Debug)]
pub struct OrderWish {
    /// The user.
    pub user: UserId,
    /// Where they begin.
    pub from: OrdersFrom,
    /// Whether `account` and `position` events are wanted too.
    pub with_account: bool,
}

/// Why a connection did not become a stream. Its socket is closed.
#[derive(Debug, thiserror::Error)]
pub enum NotAdopted {
    /// All keys are in use.
    #[error("this shard has no free slot for a stream")]
    Full,
    /// The socket died, or the system refused it.
    #[error("the socket cannot become a stream")]
    Socket(#[from] io::Error),
}

/// A validated change of a stream's symbols, each of which is named once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Symbols to add, each sent its newest price. Those that the stream has already stay as they
    /// are.
    pub add: Vec<SymbolIndex>,
    /// Symbols to remove. Those that it does not have are passed over.
    pub remove: Vec<SymbolIndex>,
}

/// Why a stream was not changed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// There is no such stream, or it belongs to another user.
    #[error("there is no such stream")]
    Unknown,
    /// It would have too many symbols.
    #[error(
        "the stream would have {symbols} symbols; at most {MAX_SYMBOLS_PER_STREAM} are allowed"
    )]
    TooMany {
        /// How many it would have.
        symbols: usize,
    },
}

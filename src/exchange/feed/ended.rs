//! Why a connection to the feed ended.

use std::io;
use std::time::Duration;

use super::MAX_SESSIONS_PER_CONNECTION;
use crate::market::MAX_SEQUENCE;

/// Why a connection ended. The thread connects again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("{0}")]
    Unexpected(String),
    #[error("{0} lines in a row have sequences from {MAX_SEQUENCE} on, which no feed reaches")]
    Beyond(u32),
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error(
        "it began more than {MAX_SESSIONS_PER_CONNECTION} sessions or numberings on one connection"
    )]
    TooManySessions,
    #[error("the orders queue was full; reading again from {0}")]
    Reread(u64),
    #[error("the exchange no longer keeps the requested position")]
    PositionGone,
    #[error("another process reads the feed now")]
    NotLeading,
    #[error("a stop was requested")]
    Stop,
}

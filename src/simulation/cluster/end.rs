//! The ends of processes.

/// Why a process ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Another epoch owns what it serves.
    Fenced,
    /// Another epoch owns what it writes.
    Superseded,
    /// Postgres does not know it any more.
    Forgotten,
    /// It has handed everything over.
    Stopped,
}

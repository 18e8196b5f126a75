//! Lock-free hand-offs between threads. Elsewhere are single atomics: counters, flags, positions.
//!
//! | type | from -> to | when it is full |
//! |---|---|---|
//! | [`ring`](fn@ring) | one writer -> many readers, each of which sees every message | the oldest message is overwritten, a lapped reader learns it |
//! | [`SeqLock`] | one writer -> many readers, who want the newest value only | the value is replaced |
//! | [`mailbox`] | many threads -> one task, each message once | the sender gets its message back |
//! | [`Wakeup`] | any thread -> one task, "look again" | wake-ups merge |
//!
//! All of it is built from plain atomics without `unsafe`. The atomics come from
//! `atomic.rs`, which swaps them for those of loom, so that the same code is checked under
//! every interleaving (the workspace member `loom-models`).

mod atomic;
mod mailbox;
#[cfg(loom)]
mod modelled;
mod ring;
mod seqlock;
mod wakeup;

pub use mailbox::{Receiver, Refused, Sender, mailbox};
pub use ring::{Lagged, RingReader, RingWriter, ring};
pub use seqlock::SeqLock;
pub use wakeup::Wakeup;

/// How often a test repeats what it hopes to see go wrong: miri, which runs some thousand times
/// slower, finds its errors in the first repetitions or not at all.
#[cfg(all(test, not(loom)))]
const fn rounds(natively: u64) -> u64 {
    if cfg!(miri) { natively / 300 } else { natively }
}

//! Hand-offs between threads: the only home of lock-free code. Elsewhere are single atomics, each of
//! which stands for itself (counters, flags, positions), and plain locks with a condition variable
//! where nothing is hot.
//!
//! | type | from -> to | when it is full |
//! |---|---|---|
//! | [`ring`](fn@ring) | one writer -> many readers, each of which sees every message | the oldest message is overwritten, a lapped reader learns it |
//! | [`SeqLock`] | one writer -> many readers, who want the newest value only | the value is replaced |
//! | [`mailbox`] | many threads -> one task, each message once | the sender gets its message back |
//! | [`Wakeup`] | any thread -> one task, "look again" | wake-ups merge |
//! | [`Watermark`], [`LowWatermark`] | any thread -> tasks and threads that wait for a position | the position is replaced; a task too many is refused |
//! | [`InterestSet`] | one thread -> whoever might wake it | |
//!
//! All of it is built from plain atomics without `unsafe`. The atomics come from
//! `atomic.rs`, which swaps them for those of loom, so that the same code is checked under
//! every interleaving (the workspace member `loom-models`).

mod atomic;
mod interest;
mod low_watermark;
mod mailbox;
#[cfg(loom)]
mod modelled;
mod ring;
mod seqlock;
mod wakeup;
mod watermark;

pub use atomic::store_load_fence;
pub use interest::InterestSet;
pub use low_watermark::LowWatermark;
pub use mailbox::{Receiver, Refused, Sender, mailbox};
pub use ring::{Lagged, RingReader, RingWriter, ring};
pub use seqlock::SeqLock;
pub use wakeup::Wakeup;
pub use watermark::{Beyond, WaitError, Watermark};

/// How often a test repeats what it hopes to see go wrong: miri, which runs some thousand times
/// slower, finds its errors in the first repetitions or not at all.
#[cfg(all(test, not(loom)))]
const fn rounds(natively: u64) -> u64 {
    if cfg!(miri) { natively / 300 } else { natively }
}

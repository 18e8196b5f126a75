//! The atomics of this folder: those of the standard library, or those of loom when the
//! models are checked. Nothing else in this folder may name `std::sync` directly.
//!
//! Under loom, two building blocks of other crates that loom cannot see into are replaced
//! by stand-ins of the same contract (`modelled.rs`).

#[cfg(not(loom))]
pub(super) use atomic_waker::AtomicWaker;
#[cfg(not(loom))]
pub(super) use crossbeam::queue::ArrayQueue;
#[cfg(not(loom))]
pub(super) use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::yield_now,
};

#[cfg(loom)]
pub(super) use super::modelled::{ArrayQueue, AtomicWaker};
#[cfg(loom)]
pub(super) use loom::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::yield_now,
};

/// Stands between a store and a load of something else, on each of two threads which store what the
/// other one loads: at least one of them then sees the other's store.
#[inline]
pub fn store_load_fence() {
    fence(Ordering::SeqCst);
}

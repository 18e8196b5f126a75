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
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};

#[cfg(loom)]
pub(super) use super::modelled::{ArrayQueue, AtomicWaker};
#[cfg(loom)]
pub(super) use loom::{
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};

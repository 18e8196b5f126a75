use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::log_id::LogId;
use super::room::Reserve;
use super::shared::Shared;
use super::storage::Storage;

/// The open log, as its followers see it.
pub(super) struct Log<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) log_id: LogId,
    pub(super) keep_bytes: u64,
    pub(super) reserve: Reserve,
    pub(super) claims: Mutex<Claims>,
}

/// Which records followers still need.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Name of each follower, and the last record that it no longer needs.
    pub(super) taken: Vec<(&'static str, Arc<AtomicU64>)>,
    pub(super) cut_failed: bool,
    /// The segment of the store's last noted position.
    pub(super) noted_segment: Option<u64>,
}

impl<S: Storage> Log<S> {
    pub(super) fn new(
        storage: Arc<S>,
        shared: Arc<Shared>,
        log_id: LogId,
        (keep_bytes, reserve): (u64, Reserve),
    ) -> Self {
        Self { storage, shared, log_id, keep_bytes, reserve, claims: Mutex::default() }
    }
}

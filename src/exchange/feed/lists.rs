//! Reads the list of symbols on a thread of its own, so that a slow answer delays no price.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::blocking_http::{GetOptions, get};
use super::super::dial::Dialer;
use super::super::symbol_list::{SymbolList, read_symbols};

/// Longest answer to `GET /v1/symbols`: 16,384 symbols of under 400 bytes, and as much again for
/// unknown fields.
const MAX_SYMBOLS_BYTES: usize = 16 * 1024 * 1024;
/// Interval at which a waiting thread checks for a stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Hand-off between the feed thread and the list reader. Clones share it.
#[derive(Clone, Default)]
pub(super) struct SymbolLists(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether there is an answer, so that the feed thread pays one load per batch of lines.
    has_answer: AtomicBool,
}

#[derive(Default)]
struct State {
    is_wanted: bool,
    answer: Option<io::Result<SymbolList>>,
}

impl SymbolLists {
    /// Requests a list. Several requests before the next read are served by one.
    pub(super) fn request(&self) {
        self.lock().is_wanted = true;
        self.0.changed.notify_all();
    }

    /// The list, if it has arrived.
    pub(super) fn take(&self) -> Option<io::Result<SymbolList>> {
        if !self.0.has_answer.load(Ordering::Acquire) {
            return None;
        }
        self.0.has_answer.store(false, Ordering::Release);
        self.lock().answer.take()
    }

    /// Waits for the requested list.
    pub(super) fn wait(
        &self,
        timeout: Duration,
        is_stopped: &dyn Fn() -> bool,
    ) -> Option<io::Result<SymbolList>> {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        while state.answer.is_none() && !is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.changed.wait_timeout(state, left.min(LOOK_INTERVAL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that reads the exchange's list of symbols at the feed thread's request.
pub struct ListReader {
    pub(super) lists: SymbolLists,
    pub(super) dialer: Dialer,
    pub(super) options: GetOptions,
}

impl ListReader {
    /// Reads lists until the process stops.
    pub fn run(self) {
        while self.wait_for_request() {
            let answer = self.read();
            self.lists.lock().answer = Some(answer);
            self.lists.0.has_answer.store(true, Ordering::Release);
            self.lists.0.changed.notify_all();
        }
    }

    /// Waits for a request; `false` once the process stops.
    fn wait_for_request(&self) -> bool {
        let mut state = self.lists.lock();
        loop {
            if self.options.shutdown.is_requested() {
                return false;
            }
            if std::mem::take(&mut state.is_wanted) {
                // A list read before this request is outdated.
                state.answer = None;
                self.lists.0.has_answer.store(false, Ordering::Release);
                return true;
            }
            let waited = self.lists.0.changed.wait_timeout(state, LOOK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read(&self) -> io::Result<SymbolList> {
        let response = get(&self.dialer, "/v1/symbols", &self.options)?;
        if response.status != 200 {
            return Err(io::Error::other(format!("answered {}", response.status)));
        }
        read_symbols(&response.read_to_end(MAX_SYMBOLS_BYTES)?)
    }
}

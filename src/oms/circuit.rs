//! The circuit breaker: while the exchange does not answer, new orders are refused at once instead
//! of waiting for deadlines that they would miss.
//!
//! It never affects recorded orders: they are sent for as long as their deadlines allow, and the
//! first one answered closes the circuit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::types::MonotonicMicros;

/// Submit requests in a row without an answer after which the exchange counts as away. One may be a
/// broken connection; two may be the same break on both connections.
const FAILURES_TO_OPEN: u32 = 3;
/// How often an unreachable exchange is probed, and how long the outcome of a single admitted order
/// is awaited before the next is admitted.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Probes that were sent and brought no usable answer, after which a single order finds out. An
/// exchange may take orders and have no answer for an order that does not exist.
pub(super) const UNCLEAR_PROBES: u32 = 5;

/// Whether the exchange is reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ExchangeReachability {
    /// It answers.
    Reachable,
    /// It may be back; single orders find out whether it takes orders.
    Probing,
    /// It does not answer, or has not answered yet.
    Away,
}

/// The state, visible to other threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedState(Arc<AtomicU8>);

impl SharedState {
    pub(super) fn get(&self) -> ExchangeReachability {
        match self.0.load(Ordering::Relaxed) {
            0 => ExchangeReachability::Reachable,
            1 => ExchangeReachability::Probing,
            _ => ExchangeReachability::Away,
        }
    }

    fn set(&self, state: ExchangeReachability) {
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

/// The circuit breaker of new orders.
#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    shared: SharedState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No answer yet. The first orders find out whether the exchange takes any.
    Untried {
        failures: u32,
    },
    Closed {
        failures: u32,
    },
    Open,
    /// With the time at which the last order was admitted.
    HalfOpen {
        admitted_at: Option<MonotonicMicros>,
    },
}

impl Circuit {
    pub(super) fn new(shared: SharedState) -> Self {
        let mut circuit = Self { state: State::Untried { failures: 0 }, shared };
        circuit.enter(circuit.state);
        circuit
    }

    pub(crate) fn state(&self) -> ExchangeReachability {
        match self.state {
            State::Closed { .. } => ExchangeReachability::Reachable,
            State::HalfOpen { .. } => ExchangeReachability::Probing,
            State::Open | State::Untried { .. } => ExchangeReachability::Away,
        }
    }

    /// Whether a new order is admitted at `now`. A half-open circuit admits one at a time.
    pub(super) fn admits(&mut self, now: MonotonicMicros) -> bool {
        match self.state {
            State::Closed { .. } | State::Untried { .. } => true,
            State::Open => false,
            State::HalfOpen { admitted_at } => {
                let is_time = admitted_at.is_none_or(|at| now >= at.saturating_add(PROBE_INTERVAL));
                assert!(
                    admitted_at.is_none_or(|at| at <= now),
                    "orders are admitted in order of time"
                );
                if is_time {
                    self.enter(State::HalfOpen { admitted_at: Some(now) });
                }
                is_time
            }
        }
    }

    /// A submit request was answered. Returns `true` if this closed the circuit.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = matches!(self.state, State::Open | State::HalfOpen { .. });
        self.enter(State::Closed { failures: 0 });
        assert_eq!(self.state(), ExchangeReachability::Reachable, "who answers is reachable");
        was_open
    }

    /// The exchange throttles orders, so it is reachable.
    pub(super) fn throttled(&mut self) {
        match self.state {
            State::Closed { .. } | State::Untried { .. } => {
                self.enter(State::Closed { failures: 0 });
            }
            State::Open => self.probe_answered(),
            State::HalfOpen { .. } => {}
        }
        assert_ne!(self.state, State::Open, "an exchange that throttles orders is not away");
    }

    /// A submit request was not sent, or has no readable answer. Returns `true` if this opened the
    /// circuit.
    pub(super) fn failed(&mut self) -> bool {
        let opens = match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                self.enter(State::Closed { failures: failures + 1 });
                false
            }
            State::Untried { failures } if failures + 1 < FAILURES_TO_OPEN => {
                self.enter(State::Untried { failures: failures + 1 });
                false
            }
            State::Closed { .. } | State::Untried { .. } | State::HalfOpen { .. } => {
                self.enter(State::Open);
                true
            }
            State::Open => false,
        };
        assert_ne!(
            self.state(),
            ExchangeReachability::Probing,
            "a single order that has failed has found out that the exchange is away"
        );
        opens
    }

    /// The exchange answered a query. If it was away, single orders find out whether it takes
    /// orders too.
    pub(crate) fn probe_answered(&mut self) {
        match self.state {
            State::Untried { .. } => self.enter(State::Closed { failures: 0 }),
            State::Open => self.enter(State::HalfOpen { admitted_at: None }),
            State::Closed { .. } | State::HalfOpen { .. } => {}
        }
        assert_ne!(self.state, State::Open, "an exchange that answers is not away");
    }

    /// Probes reached the exchange and brought no usable answer, which says neither that it takes
    /// orders nor that it does not. If it was away, a single order finds out.
    pub(super) fn probes_unclear(&mut self) {
        if self.state == State::Open {
            self.enter(State::HalfOpen { admitted_at: None });
        }
        assert_ne!(self.state, State::Open, "a single order finds out");
    }

    fn enter(&mut self, state: State) {
        if let State::Closed { failures } | State::Untried { failures } = state {
            assert!(failures < FAILURES_TO_OPEN, "so many failures open the circuit");
        }
        self.state = state;
        self.shared.set(self.state());
        assert_eq!(self.shared.get(), self.state(), "other threads see the state of the circuit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Circuit {
        let mut circuit = Circuit::new(SharedState::default());
        let opened: Vec<bool> = (0..FAILURES_TO_OPEN + 1).map(|_| circuit.failed()).collect();
        assert_eq!(opened, [false, false, true, false]);
        circuit
    }

    #[test]
    fn it_opens_only_after_consecutive_failures() {
        let now = MonotonicMicros::new(7);
        let shared = SharedState::default();
        let mut circuit = Circuit::new(shared.clone());
        for _ in 0..10 {
            assert!(!circuit.failed() && !circuit.failed());
            assert!(circuit.admits(now));
            assert!(!circuit.succeeded(), "it was closed");
        }
        assert_eq!(shared.get(), ExchangeReachability::Reachable);
        assert!(!circuit.failed() && !circuit.failed() && circuit.failed());
        assert!(!circuit.admits(now) && !circuit.admits(now.saturating_add(100 * PROBE_INTERVAL)));
        assert_eq!(shared.get(), ExchangeReachability::Away);
    }

    #[test]
    fn an_exchange_that_never_answered_is_away_and_is_tried() {
        let shared = SharedState::default();
        let mut circuit = Circuit::new(shared.clone());
        assert!(circuit.admits(MonotonicMicros::new(7)) && !circuit.failed());
        assert_eq!(shared.get(), ExchangeReachability::Away);
        circuit.probe_answered();
        assert_eq!(shared.get(), ExchangeReachability::Reachable);
        let mut circuit = Circuit::new(shared.clone());
        assert!(!circuit.succeeded(), "it was not open");
        assert_eq!(shared.get(), ExchangeReachability::Reachable);
    }

    #[test]
    fn a_half_open_circuit_admits_single_orders() {
        let now = MonotonicMicros::new(7);
        let mut circuit = open();
        circuit.probe_answered();
        assert_eq!(circuit.state(), ExchangeReachability::Probing);
        assert!(circuit.admits(now) && !circuit.admits(now));
        assert!(
            circuit.admits(now.saturating_add(PROBE_INTERVAL)),
            "an admitted order without an outcome blocks no other for long"
        );
        assert!(circuit.failed(), "open again");
        assert!(!circuit.admits(now.saturating_add(2 * PROBE_INTERVAL)));
        circuit.probe_answered();
        assert!(circuit.admits(now) && circuit.succeeded());
        assert!(circuit.admits(now) && circuit.admits(now));
        circuit.probe_answered();
        assert_eq!(
            circuit.state(),
            ExchangeReachability::Reachable,
            "an old answer changes nothing"
        );
    }

    #[test]
    fn a_throttling_exchange_is_not_away() {
        let now = MonotonicMicros::new(7);
        let mut circuit = Circuit::new(SharedState::default());
        for _ in 0..10 {
            assert!(!circuit.failed() && !circuit.failed());
            circuit.throttled();
            assert!(circuit.admits(now) && circuit.admits(now));
        }
        let mut circuit = open();
        circuit.throttled();
        assert_eq!(circuit.state(), ExchangeReachability::Probing);
        assert!(circuit.admits(now) && !circuit.admits(now));
        circuit.throttled();
        assert_eq!(circuit.state(), ExchangeReachability::Probing);
    }

    #[test]
    fn unclear_probes_let_a_single_order_find_out() {
        let now = MonotonicMicros::new(7);
        let mut circuit = open();
        circuit.probes_unclear();
        assert_eq!(circuit.state(), ExchangeReachability::Probing);
        assert!(circuit.admits(now) && !circuit.admits(now));
        assert!(circuit.failed() && !circuit.admits(now), "it takes none");
        circuit.probes_unclear();
        assert!(circuit.admits(now) && circuit.succeeded() && circuit.admits(now));
        let mut circuit = Circuit::new(SharedState::default());
        circuit.probes_unclear();
        assert_eq!(circuit.state(), ExchangeReachability::Away, "it has never answered");
    }

    #[test]
    fn an_order_recorded_earlier_closes_it_too() {
        let mut circuit = open();
        assert!(circuit.succeeded());
        assert!(circuit.admits(MonotonicMicros::new(7)));
    }
}

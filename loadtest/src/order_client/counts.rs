//! Counts of the order client in a window.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::order_loop::ACCEPTED;
use crate::{
    clock::{Moment, thread_cpu_nanos},
    error::{Context, Result},
};

/// Largest latency in the histogram, in microseconds.
const MAX_LATENCY_MICROS: u64 = 600_000_000;
/// An order sent this late was delayed by the client itself, or because every connection had an order
/// in flight.
const LATE_NANOS: u64 = 1_000_000;

/// Counts between the start and the end of the window.
pub(super) struct Counts {
    pub(super) answered: u64,
    pub(super) accepted: u64,
    pub(super) answers: BTreeMap<u16, u64>,
    pub(super) latencies: Histogram<u64>,
    pub(super) most_waiting: usize,
    pub(super) sent_late: u64,
    pub(super) most_late_nanos: u64,
    pub(super) started: Moment,
    pub(super) cpu_nanos_at_start: u64,
    /// Set at the end of the window: the time, and the thread's CPU time since the start.
    pub(super) ended: Option<(Moment, u64)>,
}

impl Counts {
    pub(super) fn start() -> Result<Self> {
        Ok(Self {
            answered: 0,
            accepted: 0,
            answers: BTreeMap::new(),
            latencies: Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, 3)
                .map_err(std::io::Error::other)
                .context("making the latency histogram")?,
            most_waiting: 0,
            sent_late: 0,
            most_late_nanos: 0,
            started: Moment::now(),
            cpu_nanos_at_start: thread_cpu_nanos(),
            ended: None,
        })
    }

    pub(super) fn end(&mut self) {
        let cpu_nanos = thread_cpu_nanos() - self.cpu_nanos_at_start;
        self.ended = Some((Moment::now(), cpu_nanos));
    }

    fn is_of_window(&self, due: Moment) -> bool {
        due >= self.started && self.ended.is_none_or(|(end, _)| due < end)
    }

    /// Counts an order sent now that was due at `due`.
    pub(super) fn send(&mut self, due: Moment) {
        let late_nanos = Moment::now().nanos_since(due);
        if late_nanos >= LATE_NANOS && self.is_of_window(due) {
            self.sent_late += 1;
            self.most_late_nanos = self.most_late_nanos.max(late_nanos);
        }
    }

    /// Counts an answer to an order that was due at `due`.
    pub(super) fn answer(&mut self, status: u16, due: Moment) {
        let now = Moment::now();
        let end = self.ended.map(|(end, _)| end);
        self.answered += u64::from(end.is_none());
        self.accepted += u64::from(end.is_none() && status == ACCEPTED);
        if self.is_of_window(due) {
            self.latencies.saturating_record((now.nanos_since(due) / 1_000).max(1));
            *self.answers.entry(status).or_default() += 1;
        }
    }
}

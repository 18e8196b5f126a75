//! Counts of the stream client in a window.

use hdrhistogram::Histogram;

use crate::{
    clock::{Moment, thread_cpu_nanos},
    error::{Context, Result},
};

/// Largest age in the histogram, in microseconds.
const MAX_AGE_MICROS: u64 = 600_000_000;

/// Counts between the start and the end of the window.
pub(super) struct Counts {
    pub(super) prices: u64,
    pub(super) other_blocks: u64,
    pub(super) gaps: u64,
    pub(super) reads: u64,
    pub(super) bytes: u64,
    pub(super) ordered: bool,
    pub(super) out_of_order: u64,
    pub(super) ages: Histogram<u64>,
    pub(super) started: Moment,
    pub(super) cpu_nanos_at_start: u64,
}

impl Counts {
    pub(super) fn start(ordered: bool) -> Result<Self> {
        let ages = Histogram::new_with_bounds(1, MAX_AGE_MICROS, 3)
            .map_err(std::io::Error::other)
            .context("making the age histogram")?;
        Ok(Self {
            prices: 0,
            other_blocks: 0,
            gaps: 0,
            reads: 0,
            bytes: 0,
            ordered,
            out_of_order: 0,
            ages,
            started: Moment::now(),
            cpu_nanos_at_start: thread_cpu_nanos(),
        })
    }
}

//! The trace of a seed.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::types::OrderId;

/// Gets each line of a trace as it is written.
pub type TraceListener<'a> = &'a mut dyn FnMut(&str);

/// A line per event, always hashed, so that two runs of a seed can be compared.
pub(super) struct Trace<'a> {
    listener: Option<TraceListener<'a>>,
    hash: u64,
    line: String,
    /// Short names of orders, in the order of their creation.
    names: BTreeMap<OrderId, usize>,
    /// How often things happened in this seed.
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> Trace<'a> {
    pub(super) fn new(listener: Option<TraceListener<'a>>) -> Self {
        Self {
            listener,
            hash: 0,
            line: String::new(),
            names: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Writes a line.
    pub(super) fn say(&mut self, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a String cannot fail.
        let _written = self.line.write_fmt(what);
        self.hash = xxh3_64_with_seed(self.line.as_bytes(), self.hash);
        if let Some(listener) = &mut self.listener {
            listener(&self.line);
        }
    }

    /// Counts something that a useful simulation must bring about.
    pub(super) fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    pub(super) fn count_many(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    /// The short name of an order.
    pub(super) fn name(&mut self, order_id: OrderId) -> OrderName {
        let next = self.names.len() + 1;
        OrderName(*self.names.entry(order_id).or_insert(next))
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_counts(self) -> BTreeMap<&'static str, u64> {
        self.counts
    }
}

/// The short name of an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderName(usize);

impl fmt::Display for OrderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.0)
    }
}

/// Writes a line to the trace, like `format!`.
macro_rules! say {
    ($trace:expr, $($what:tt)*) => {
        $trace.say(format_args!($($what)*))
    };
}
pub(super) use say;

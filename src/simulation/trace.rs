use std::collections::BTreeMap;
use std::fmt::{self, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::types::OrderId;

/// Is told each line of a trace as it happens.
pub type TraceListener<'a> = &'a mut dyn FnMut(&str);

/// What happened, one line a step. Hashed always, so that two runs of a seed can be compared.
pub(super) struct Trace<'a> {
    listener: Option<TraceListener<'a>>,
    hash: u64,
    line: String,
    /// Short names of orders, by the order of their creation.
    names: BTreeMap<OrderId, usize>,
    /// How often something happened in this seed, by what it was.
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

    /// Notes what happens.
    pub(super) fn say(&mut self, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing into a String does not fail.
        let _written = self.line.write_fmt(what);
        self.hash = xxh3_64_with_seed(self.line.as_bytes(), self.hash);
        if let Some(listener) = &mut self.listener {
            listener(&self.line);
        }
    }

    /// Counts that something happened which a simulation worth its name has to bring about.
    pub(super) fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    pub(super) fn count_many(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    /// A short name of an order.
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

/// An order as the trace calls it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderName(usize);

impl fmt::Display for OrderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.0)
    }
}

/// Notes what happens, in the manner of `format!`.
macro_rules! say {
    ($trace:expr, $($what:tt)*) => {
        $trace.say(format_args!($($what)*))
    };
}
pub(super) use say;

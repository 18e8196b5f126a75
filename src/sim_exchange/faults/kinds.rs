//! Every kind of fault, by what it befalls. The tables are generic: the settings hold a chance for
//! each kind, the running exchange a die, and its report a count.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name<T> {
            $($(#[$field_meta])* pub $field: T,)*
        }

        impl<T> $name<T> {
            /// What `join` makes of each kind's two values; it is told the kind's name.
            fn zip<V, U>(
                &self,
                other: &$name<V>,
                join: &mut impl FnMut(&'static str, &T, &V) -> U,
            ) -> $name<U> {
                $name { $($field: join(stringify!($field), &self.$field, &other.$field),)* }
            }
        }
    };
}

kinds! {
    /// What can befall a request. Drawn in this order for each request, and at most one of them
    /// (beside the delay) happens to it.
    RequestFaults {
        /// The answer waits (see [`FaultManner`](super::FaultManner) for how long), after the work.
        delay,
        /// The connection is closed and nothing is done.
        cut_before,
        /// A 500 is answered and nothing is done.
        error_before,
        /// A 429 is answered and nothing is done.
        throttle,
        /// A 429 with `Retry-After: 1` is answered and nothing is done.
        throttle_named,
        /// The work is done and the connection is closed without an answer.
        drop_reply,
        /// The work is done and the connection is closed in the middle of the answer.
        cut_in_answer,
        /// The work is done and a 500 is answered.
        error_after,
        /// The work is done and a 200 answered whose body is no JSON.
        garbage,
        /// The work is done and a 200 answered whose JSON has another shape.
        wrong_shape,
        /// The work is done and some of the results (at least one) are not in the answer.
        leave_out,
        /// The work is done and the results are answered in another order.
        shuffle,
        /// The work is done and one of the results (or an execution in it) cannot be read.
        spoil,
        /// The work is done and one of the results comes a second time and says the opposite.
        contradict,
        /// Of queries: the list of executions in one of the records is cut short, and the record does
        /// not say how complete it is. What it counts may be the sum of what is left or not.
        cut_list,
        /// The work is done and the answer has over 16 MiB.
        huge,
    }
}

kinds! {
    /// What can befall an order. Drawn once for each new order, cancel or fill.
    OrderFaults {
        /// A new order is refused.
        reject,
        /// The cancel of an open order is refused.
        refuse_cancel,
        /// A new order is filled, wholly or in part, and its fill is on the feed before the answer
        /// to its submit leaves.
        fill_first,
        /// The exchange cancels the order, unasked, some time after it was accepted.
        cancel_unasked,
        /// The order expires, unasked, some time after it was accepted.
        expire_unasked,
        /// An execution is declared void some time after it was made. The order is open again.
        bust,
    }
}

kinds! {
    /// What can befall a line of the feed. Drawn for each line on its way to each reader; the
    /// webhooks are not touched.
    FeedFaults {
        /// The line is sent twice.
        repeat,
        /// What the line says is published a second time under a sequence of its own.
        repeat_renumbered,
        /// The line comes after some later ones.
        reorder,
        /// The line is not sent: the reader sees its sequence jump.
        skip,
        /// Nothing is sent for a while, no heartbeats either.
        stall,
        /// The connection is closed.
        cut,
        /// A blank line comes before it.
        blank,
        /// A line that is none comes before it, without a sequence: bytes, a cut line, a long one.
        garbage,
        /// The line has a price of zero, half a share, an odd symbol or type, or no timestamp.
        odd,
        /// Drawn for each list of symbols: some of its entries cannot be read, and one symbol has no
        /// previous close.
        odd_listings,
    }
}

/// Something for each kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultTable<T> {
    /// `POST /v1/orders`.
    pub submits: RequestFaults<T>,
    /// `POST /v1/cancels`.
    pub cancels: RequestFaults<T>,
    /// `POST /v1/orders/query`.
    pub queries: RequestFaults<T>,
    /// Orders, by whatever way.
    pub orders: OrderFaults<T>,
    /// `GET /v1/feed`.
    pub feed: FeedFaults<T>,
}

impl<T> FaultTable<T> {
    /// What `join` makes of each kind's two values; it is told the names of its group and of the
    /// kind.
    pub(super) fn zip<V, U>(
        &self,
        other: &FaultTable<V>,
        mut join: impl FnMut(&'static str, &'static str, &T, &V) -> U,
    ) -> FaultTable<U> {
        let join = &mut join;
        macro_rules! zipped {
            ($group:ident) => {
                self.$group.zip(&other.$group, &mut |kind, mine, theirs| {
                    join(stringify!($group), kind, mine, theirs)
                })
            };
        }
        FaultTable {
            submits: zipped!(submits),
            cancels: zipped!(cancels),
            queries: zipped!(queries),
            orders: zipped!(orders),
            feed: zipped!(feed),
        }
    }

    /// What `change` makes of each value.
    pub(super) fn map<U>(&self, change: impl Fn(&T) -> U) -> FaultTable<U> {
        self.zip(self, |_, _, value, _| change(value))
    }
}

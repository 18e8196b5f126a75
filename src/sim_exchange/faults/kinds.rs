//! Every kind of fault, grouped by what it affects. The tables are generic: the settings hold a
//! chance for each kind, the running exchange a die, and its report a count.

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
            /// Joins each kind's two values; `join` also gets the kind's name.
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
    /// Faults of a request. Drawn in this order for each request; at most one of them, beside the
    /// delay, happens.
    RequestFaults {
        /// The answer is delayed after the work; see [`FaultManner`](super::FaultManner) for how
        /// long.
        delay,
        /// The connection is closed and no work is done.
        cut_before,
        /// The answer is a 500 and no work is done.
        error_before,
        /// The answer is a 429 and no work is done.
        throttle,
        /// The answer is a 429 with `Retry-After: 1` and no work is done.
        throttle_named,
        /// The work is done and the connection is closed without an answer.
        drop_reply,
        /// The work is done and the connection is closed in the middle of the answer.
        cut_in_answer,
        /// The work is done and the answer is a 500.
        error_after,
        /// The work is done and the answer is a 200 whose body is not JSON.
        garbage,
        /// The work is done and the answer is a 200 whose JSON has another shape.
        wrong_shape,
        /// The work is done and at least one of the results is missing.
        leave_out,
        /// The work is done and the results are in another order.
        shuffle,
        /// The work is done and one of the results, or an execution in it, is unreadable.
        spoil,
        /// The work is done and one of the results occurs a second time and says the opposite.
        contradict,
        /// For queries: the list of executions of one record is cut short, and the record does not
        /// say how complete it is. Its `filledShares` may match the shorter list or not.
        cut_list,
        /// The work is done and the answer is larger than 16 MiB.
        huge,
    }
}

kinds! {
    /// Faults of an order. Drawn once for each new order, cancel or fill.
    OrderFaults {
        /// A new order is refused.
        reject,
        /// The cancel of an open order is refused.
        refuse_cancel,
        /// A new order is filled, wholly or in part, and its fill is on the feed before its submit
        /// is answered.
        fill_first,
        /// The exchange cancels the order unasked, some time after accepting it.
        cancel_unasked,
        /// The order expires unasked, some time after it was accepted.
        expire_unasked,
        /// An execution is busted some time later. The order is open again.
        bust,
    }
}

kinds! {
    /// Faults of the feed. Drawn for each line and each reader; webhooks are not affected.
    FeedFaults {
        /// The line is sent twice.
        repeat,
        /// The event is published a second time under a sequence of its own.
        repeat_renumbered,
        /// The line arrives after some later ones.
        reorder,
        /// The line is not sent: the reader sees a gap.
        skip,
        /// Nothing is sent for a while, not even heartbeats.
        stall,
        /// The connection is closed.
        cut,
        /// A blank line comes before it.
        blank,
        /// An invalid line without a sequence comes before it: junk bytes, a cut line or a long
        /// one.
        garbage,
        /// The line has a price of zero, half a share, an invalid symbol or type, or no timestamp.
        odd,
        /// Drawn for each list of symbols: some entries are unreadable, and one symbol has no
        /// previous close.
        odd_listings,
    }
}

/// One value for each kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultTable<T> {
    /// `POST /v1/orders`.
    pub submits: RequestFaults<T>,
    /// `POST /v1/cancels`.
    pub cancels: RequestFaults<T>,
    /// `POST /v1/orders/query`.
    pub queries: RequestFaults<T>,
    /// Orders, however they are reached.
    pub orders: OrderFaults<T>,
    /// `GET /v1/feed`.
    pub feed: FeedFaults<T>,
}

impl<T> FaultTable<T> {
    /// Joins each kind's two values; `join` also gets the names of the group and of the kind.
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

    /// Maps every value.
    pub(super) fn map<U>(&self, change: impl Fn(&T) -> U) -> FaultTable<U> {
        self.zip(self, |_, _, value, _| change(value))
    }
}

//! Translation between the exchange's JSON and the engine's inputs. What cannot be understood
//! becomes an unknown outcome, never a guess.

mod cancel;
mod matched;
mod query;
mod report;
mod submit;
mod values;

use compact_str::{CompactString, ToCompactString};

pub(super) use cancel::cancel_outcomes;
pub(super) use query::query_answers;
pub(super) use report::report;
pub(super) use submit::{submit_order, submit_outcomes};
pub(super) use values::case_text_of;

use crate::types::OrderId;

/// Our order id as the exchange knows it.
pub(super) fn client_order_id(order_id: OrderId) -> CompactString {
    order_id.to_compact_string()
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;

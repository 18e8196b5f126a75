//! Compares two versions of an order, field by field.

use std::fmt::{Debug, Display};

use crate::order::{Execution, ExecutionPart, OpenCase, OrderParts};
use crate::types::{PriceCents, TimestampMicros};

/// The name of a field and its values in both records.
pub(super) type FieldDifference = (String, String, String);

/// The fields in which two orders differ.
pub(super) fn different_fields(one: &OrderParts, other: &OrderParts) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    if one == other {
        return found;
    }
    // Destructured completely, so that a new field does not compile until it is compared.
    let OrderParts {
        order_id,
        user,
        client_order_id,
        external_order_id,
        symbol,
        side,
        time_in_force,
        limit_price,
        num_shares,
        filled_shares,
        filled_value_cents,
        reason,
        created_at,
        updated_at,
        version,
        submit_before,
        cancel_requested,
        ending,
        user_cancelled,
        taken_back,
        reservation,
        executions,
        cases,
    } = one;
    let mut compare = |name: &str, one: String, other: String| {
        if one != other {
            found.push((name.to_owned(), one, other));
        }
    };
    let moment = |at: &TimestampMicros| at.micros().to_string();
    let cents = |price: &Option<PriceCents>| optional(price.map(|price| price.cents()));
    compare("order_id", order_id.to_string(), other.order_id.to_string());
    compare("user_id", user.to_string(), other.user.to_string());
    compare(
        "client_order_id",
        optional(client_order_id.as_ref()),
        optional(other.client_order_id.as_ref()),
    );
    compare(
        "external_order_id",
        optional(external_order_id.as_ref()),
        optional(other.external_order_id.as_ref()),
    );
    compare("symbol", symbol.to_string(), other.symbol.to_string());
    compare("position", word(side), word(&other.side));
    compare("time_in_force", word(time_in_force), word(&other.time_in_force));
    compare("limit_price_cents", cents(limit_price), cents(&other.limit_price));
    compare("num_shares", num_shares.to_string(), other.num_shares.to_string());
    compare("filled_shares", filled_shares.to_string(), other.filled_shares.to_string());
    let value = other.filled_value_cents.to_string();
    compare("filled_value_cents", filled_value_cents.to_string(), value);
    compare("reason", quoted(reason.as_deref()), quoted(other.reason.as_deref()));
    compare("created_at", moment(created_at), moment(&other.created_at));
    compare("updated_at", moment(updated_at), moment(&other.updated_at));
    compare("version", version.to_string(), other.version.to_string());
    compare("submit_before", moment(submit_before), moment(&other.submit_before));
    compare("cancel_requested", word(cancel_requested), word(&other.cancel_requested));
    compare("ending", optional_word(ending), optional_word(&other.ending));
    compare("user_cancelled", word(user_cancelled), word(&other.user_cancelled));
    compare("taken_back", word(taken_back), word(&other.taken_back));
    compare("reservation", word(reservation), word(&other.reservation));
    let numbers = |cases: &[OpenCase]| {
        let numbers: Vec<String> = cases.iter().map(|open| open.number.to_string()).collect();
        numbers.join(", ")
    };
    compare("open_cases", numbers(cases), numbers(&other.cases));
    compare_executions(executions, &other.executions, &mut found);
    found
}

fn none() -> String {
    "none".to_owned()
}

fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(none, |value| value.to_string())
}

/// A value of an enum or a flag.
fn word(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn optional_word(value: &Option<impl Debug>) -> String {
    value.as_ref().map_or_else(none, word)
}

/// Text that users may have chosen, on one line.
fn quoted(text: Option<&str>) -> String {
    text.map_or_else(none, |text| format!("{text:?}"))
}

/// The execution of the same id in a list that is sorted by id.
fn find<'a>(all: &'a [ExecutionPart], wanted: &ExecutionPart) -> Option<&'a ExecutionPart> {
    let at = all.binary_search_by(|part| part.id.cmp(&wanted.id)).ok()?;
    all.get(at)
}

/// Both lists are sorted by id.
fn compare_executions(
    one: &[ExecutionPart],
    other: &[ExecutionPart],
    found: &mut Vec<FieldDifference>,
) {
    let words = |part: Option<&ExecutionPart>| match part.map(|part| part.execution) {
        Some(
            Execution::Counted { num_shares, price } | Execution::Booked { num_shares, price },
        ) => {
            format!("{num_shares} shares at {} cents", price.cents())
        }
        Some(Execution::Busted) => "void".to_owned(),
        Some(Execution::TakenBack) => "taken back".to_owned(),
        None => none(),
    };
    for part in one {
        let there = find(other, part);
        if there.map(|there| there.execution) != Some(part.execution) {
            let id = format!("execution {}", part.id);
            found.push((id, words(Some(part)), words(there)));
        } else if let Some(there) = there
            && there.profit_cents != part.profit_cents
        {
            let id = format!("profit of execution {}", part.id);
            found.push((id, optional(part.profit_cents), optional(there.profit_cents)));
        }
    }
    for part in other.iter().filter(|part| find(one, part).is_none()) {
        found.push((format!("execution {}", part.id), words(None), words(Some(part))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::test_node::{accepted, created, filled, order};
    use crate::types::{Symbol, TimestampMicros};

    #[test]
    fn equal_orders_have_no_differences_and_each_changed_field_has_one() {
        let one = OrderParts::of_tracked(&order(1, &[accepted(1), filled(1, "e1", 3)]));
        assert!(different_fields(&one, &one.clone()).is_empty());
        let mut other = one.clone();
        other.symbol = Symbol::new("SPY").unwrap();
        other.updated_at = TimestampMicros::new(7);
        other.executions[0].profit_cents = Some(-7);
        let found = different_fields(&one, &other);
        assert!(found.contains(&("profit of execution e1".into(), "0".into(), "-7".into())));
        other.executions.clear();
        let found = different_fields(&one, &other);
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["symbol", "updated_at", "execution e1"]);
        assert_eq!(found[2].2, "none");
        let back = different_fields(&other, &one);
        assert_eq!(back[2].1, "none", "{back:?}");
        let new = OrderParts::of_tracked(&order(1, &[]));
        assert!(different_fields(&new, &one).len() > 3, "{:?}", created(1));
    }
}

//! Where two versions of an order differ, field by field.

use std::fmt::Debug;

use crate::order::{ExecutionPart, OrderParts};

/// Name of a field and its value in both books.
pub(super) type FieldDifference = (String, String, String);

/// Compares the fields of two orders that should be the same.
pub(super) fn different_fields(one: &OrderParts, other: &OrderParts) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    if one == other {
        return found;
    }
    // Each field is named: a new one does not compile before it is compared.
    let OrderParts {
        order_id,
        user,
        client_order_id,
        external_order_id,
        symbol,
        position,
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
        executions,
    } = one;
    let mut compare = |name: &str, one: &dyn Debug, other: &dyn Debug| {
        let (one, other) = (format!("{one:?}"), format!("{other:?}"));
        if one != other {
            found.push((name.to_owned(), one, other));
        }
    };
    compare("order_id", order_id, &other.order_id);
    compare("user_id", user, &other.user);
    compare("client_order_id", &client_order_id, &other.client_order_id);
    compare("external_order_id", &external_order_id, &other.external_order_id);
    compare("symbol", symbol, &other.symbol);
    compare("position", position, &other.position);
    compare("time_in_force", time_in_force, &other.time_in_force);
    compare("limit_price_cents", limit_price, &other.limit_price);
    compare("num_shares", num_shares, &other.num_shares);
    compare("filled_shares", filled_shares, &other.filled_shares);
    compare("filled_value_cents", filled_value_cents, &other.filled_value_cents);
    compare("reason", reason, &other.reason);
    compare("created_at", created_at, &other.created_at);
    compare("updated_at", updated_at, &other.updated_at);
    compare("version", version, &other.version);
    compare("submit_before", submit_before, &other.submit_before);
    compare("cancel_requested", cancel_requested, &other.cancel_requested);
    compare("ending", ending, &other.ending);
    compare("user_cancelled", user_cancelled, &other.user_cancelled);
    compare("taken_back", taken_back, &other.taken_back);
    compare_executions(executions, &other.executions, &mut found);
    found
}

/// Both are sorted by their ids.
fn compare_executions(
    one: &[ExecutionPart],
    other: &[ExecutionPart],
    found: &mut Vec<FieldDifference>,
) {
    let find = |all: &[ExecutionPart], wanted: &ExecutionPart| {
        let at = all.binary_search_by(|part| part.id.cmp(&wanted.id)).ok();
        at.and_then(|at| all.get(at)).map(|part| part.execution)
    };
    let words = |execution| match execution {
        Some(execution) => format!("{execution:?}"),
        None => "none".to_owned(),
    };
    for part in one {
        let (here, there) = (Some(part.execution), find(other, part));
        if here != there {
            found.push((format!("execution {}", part.id), words(here), words(there)));
        }
    }
    for part in other.iter().filter(|part| find(one, part).is_none()) {
        let there = words(Some(part.execution));
        found.push((format!("execution {}", part.id), words(None), there));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::test_books::{accepted, created, filled, order};
    use crate::types::{Symbol, TimestampMicros};

    #[test]
    fn the_same_has_no_differences_and_each_other_field_one() {
        let one = OrderParts::of_tracked(&order(1, &[accepted(1), filled(1, "e1", 3)]));
        assert!(different_fields(&one, &one.clone()).is_empty());
        let mut other = one.clone();
        other.symbol = Symbol::new("SPY").unwrap();
        other.updated_at = TimestampMicros::new(7);
        other.executions.clear();
        let found = different_fields(&one, &other);
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["symbol", "updated_at", "execution e1"]);
        assert_eq!(found[2].2, "none");
        let back = different_fields(&other, &one);
        assert_eq!(back[2].1, "none", "{back:?}");
        let born = OrderParts::of_tracked(&order(1, &[]));
        assert!(different_fields(&born, &one).len() > 3, "{:?}", created(1));
    }
}

//! Compares orders replayed from the log with the same orders in the index.

use super::OfflineError;
use super::fields::different_fields;
use super::replay::Replay;
use super::report::DifferenceReport;
use crate::index::Index;
use crate::order::{OrderParts, TrackedOrder};
use crate::types::OrderId;

const LOG: &str = "the log";
const INDEX: &str = "the index";

/// Compares all replayed orders; those that are equal become those of the index. The log has been read up to the position of the index.
pub(super) fn compare(
    replay: &mut Replay<'_>,
    index: &Index,
    report: &mut DifferenceReport<'_>,
) -> Result<(), OfflineError> {
    let mut ids: Vec<OrderId> = replay.orders.keys().copied().collect();
    ids.sort_unstable();
    for order_id in ids {
        let Some(known) = replay.orders.get(&order_id) else { continue };
        if let Some(found) = compare_order(&known.order, index, report)? {
            replay.settle(found);
        }
    }
    Ok(())
}

/// The parts of an order, but what its executions did to its account: that depends on all orders of
/// the user, of which the log has only some.
fn without_profits(order: &TrackedOrder) -> OrderParts {
    let mut parts = OrderParts::of_tracked(order);
    for execution in &mut parts.executions {
        execution.profit_cents = None;
    }
    parts
}

fn compare_order(
    expected: &TrackedOrder,
    index: &Index,
    report: &mut DifferenceReport<'_>,
) -> Result<Option<TrackedOrder>, OfflineError> {
    let order = expected.order();
    let name = (order.order_id, order.user.as_str());
    let Some(found) = index.by_order_id(order.order_id)? else {
        report.field(name, "order", (LOG, "it"), (INDEX, "none"))?;
        return Ok(None);
    };
    let fields = different_fields(&without_profits(expected), &without_profits(&found));
    report.fields(name, (LOG, INDEX), &fields)?;

    // Every lookup must find it.
    if !order.is_open() && !index.is_listed(&order.user, order.order_id)? {
        report.field(name, "page of ended orders", (LOG, "it"), (INDEX, "none"))?;
    }
    if let Some(key) = &order.client_order_id {
        let named = index.by_key(&order.user, key)?;
        if named != Some(order.order_id) {
            let named = named.map_or("no order".to_owned(), |id| format!("order {id}"));
            let field = format!("client_order_id {key}");
            report.field(name, &field, (LOG, "this order"), (INDEX, &named))?;
        }
    }
    if let Some(id) = &order.external_order_id {
        // The first order with an id keeps it.
        let named = index.by_external_id(id)?;
        let is_right = |named: &TrackedOrder| named.order().external_order_id.as_ref() == Some(id);
        if !named.as_ref().is_some_and(is_right) {
            let named = named
                .map_or("no order".to_owned(), |named| format!("order {}", named.order().order_id));
            let field = format!("external_order_id {id}");
            report.field(name, &field, (LOG, "this order"), (INDEX, &named))?;
        }
    }
    Ok(fields.is_empty().then_some(found))
}

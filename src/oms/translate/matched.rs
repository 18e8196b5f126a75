//! Sorts the results of an answer by the orders asked about.

use std::collections::HashMap;
use std::hash::Hash;

use compact_str::CompactString;

use crate::exchange::wire::{CancelResult, QueryResult, SubmitOrder, SubmitResult};
use crate::exchange::{NamedOrder, Said, UnreadableCause, UnreadableElement, UnreadableSource};
use crate::types::ExternalOrderId;

/// Sorts results by the things asked for; usually there is one result each, in the same order.
/// Calls `contradicted` for each thing with contradicting results.
pub(super) fn sort_out<K, A, R>(
    asked: &[A],
    results: Vec<R>,
    mut contradicted: impl FnMut(&K),
) -> Vec<Said<R>>
where
    K: Eq + Hash + Clone,
    A: About<K>,
    R: About<K> + PartialEq,
{
    let is_plain = results.len() == asked.len()
        && asked.iter().zip(&results).all(|(asked, result)| asked.id() == result.id());
    if is_plain {
        return results.into_iter().map(Said::This).collect();
    }
    let mut by_id: HashMap<K, Said<R>> = HashMap::with_capacity(results.len());
    for result in results {
        let id = result.id().clone();
        // Nothing before the first result.
        let said = by_id.remove(&id).unwrap_or(Said::Nothing).and(result);
        by_id.insert(id, said);
    }
    let said = asked.iter().map(|asked| {
        let id = asked.id();
        // The answer leaves it out.
        let said = by_id.remove(id).unwrap_or(Said::Nothing);
        if said == Said::Contradiction {
            contradicted(id);
        }
        said
    });
    said.collect()
}

/// Something that refers to an order.
pub(super) trait About<K> {
    /// The order's id.
    fn id(&self) -> &K;
}

impl<K> About<K> for K {
    fn id(&self) -> &K {
        self
    }
}

impl About<CompactString> for SubmitOrder {
    fn id(&self) -> &CompactString {
        &self.client_order_id
    }
}

impl About<CompactString> for SubmitResult {
    fn id(&self) -> &CompactString {
        &self.client_order_id
    }
}

impl About<ExternalOrderId> for CancelResult {
    fn id(&self) -> &ExternalOrderId {
        &self.external_order_id
    }
}

impl About<CompactString> for QueryResult {
    fn id(&self) -> &CompactString {
        &self.client_order_id
    }
}

pub(super) fn ours(id: &CompactString) -> Option<NamedOrder> {
    id.parse().ok().map(NamedOrder::Ours)
}

pub(super) fn contradiction(source: UnreadableSource, order: NamedOrder) -> UnreadableElement {
    let problem = "the answer contradicts itself about this item";
    let found = UnreadableElement::new(source, UnreadableCause::Contradiction, problem, b"");
    UnreadableElement { order: Some(order), ..found }
}

pub(super) fn is_named(unreadable: &[UnreadableElement], order: Option<NamedOrder>) -> bool {
    order.is_some() && unreadable.iter().any(|found| found.order == order)
}

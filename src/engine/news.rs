//! What an engine's decisions mean for the rest of the node.

use crate::order::{Change, Event};
use crate::types::{ExternalOrderId, OrderId};

/// A change of an order that matters beyond its engine.
pub(super) enum News {
    Accepted(ExternalOrderId, OrderId),
    MayHaveEnded(OrderId),
}

pub(super) fn news_for_node(event: &Event) -> Option<News> {
    let Event::Changed(changed) = event else { return None };
    match &changed.change {
        Change::Accepted { external_order_id } => {
            Some(News::Accepted(external_order_id.clone(), changed.order_id))
        }
        change => change.may_end().then_some(News::MayHaveEnded(changed.order_id)),
    }
}

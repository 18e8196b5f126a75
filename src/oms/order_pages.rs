//! Pages of a user's orders, from memory and the store: see [`reads`](super::reads).

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use super::order_store::{StoreUnavailable, StoredList};
use super::reads::OrderReads;
use super::views::UserView;
use crate::order::{Order, PageRequest, Sequence};
use crate::types::{OrderId, UserId};

/// Orders in memory that are looked at for one part of a page: less than a millisecond's work. A user may
/// have hundreds of thousands there.
const MAX_SCANNED: usize = 4_000;

/// Some of a user's orders, in the sequence of the request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrderPage {
    /// The selected orders.
    pub orders: Vec<Arc<Order>>,
    /// Where to continue; `None` after the last order.
    pub next: Option<OrderId>,
}

impl OrderReads {
    /// The next orders that the request selects. There may be few or none of them although there are more:
    /// what one call looks at is bounded.
    pub(super) async fn page(
        &self,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<OrderPage, StoreUnavailable> {
        self.check_readable()?;
        // Memory has nothing of most users.
        let view = self.views().user(user).unwrap_or_default();
        let StoredList { orders: stored, next: edge } = if request.filter.is_of_open_orders() {
            // All of them are in memory.
            StoredList::default()
        } else {
            // One more than fits tells whether there is another page.
            let wanted = PageRequest { limit: request.limit.saturating_add(1), ..request.clone() };
            self.once_shown(self.store().ended(user, &wanted).await?).await?
        };
        assert!(
            edge.is_none_or(|edge| {
                request.after.is_none_or(|after| request.sequence.is_before(after, edge))
            }),
            "a list goes forward"
        );
        // A late fill or a bust may have reopened an order meanwhile, which removes it from the ended
        // orders of the store. It was back in memory before the store followed.
        let later_view = self.views().user(user).unwrap_or_default();
        let mut page = OrderPage::default();
        let mut after = request.after;
        for (scanned, order) in merged([&view, &later_view], &stored, (request, edge)).enumerate() {
            assert!(page.orders.len() <= request.limit, "a page has at most its limit");
            if page.orders.len() == request.limit || scanned == MAX_SCANNED {
                page.next = after;
                return Ok(page);
            }
            after = Some(order.order_id);
            if request.filter.wants(order) {
                assert_eq!(order.user, *user, "a page has the orders of its user");
                page.orders.push(Arc::clone(order));
            }
        }
        // After this order the store has more.
        page.next = edge;
        Ok(page)
    }
}

/// Merges the orders in memory, before and after the store was read, with those of the store, which has
/// looked no further than at `edge`: each once in its newest version, in the sequence of the request.
fn merged<'a>(
    views: [&'a UserView; 2],
    stored: &'a [Arc<Order>],
    (request, edge): (&PageRequest, Option<OrderId>),
) -> impl Iterator<Item = &'a Arc<Order>> {
    let sequence = request.sequence;
    let range = range(request, edge);
    let [earlier, later] = views.map(|view| in_memory(view, range, sequence));
    newest(newest(earlier, later, sequence), stored.iter(), sequence)
}

/// From the first id, up to but without the second.
type Range = (Option<OrderId>, Option<OrderId>);

fn range(request: &PageRequest, edge: Option<OrderId>) -> Range {
    let (from, to) = request.ids();
    let Some(edge) = edge else { return (from, to) };
    match request.sequence {
        Sequence::NewestFirst => (Some(from.map_or(edge, |from| from.max(edge))), to),
        Sequence::OldestFirst => {
            let end = OrderId::from_u128(edge.as_u128().saturating_add(1));
            (from, Some(to.map_or(end, |to| to.min(end))))
        }
    }
}

fn in_memory(
    view: &UserView,
    (from, to): Range,
    sequence: Sequence,
) -> Box<dyn Iterator<Item = &Arc<Order>> + '_> {
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Box::new(std::iter::empty());
    }
    let bounds = (from.map_or(Unbounded, Included), to.map_or(Unbounded, Excluded));
    let orders = view.orders.range(bounds).map(|(_, order)| order);
    match sequence {
        Sequence::NewestFirst => Box::new(orders.rev()),
        Sequence::OldestFirst => Box::new(orders),
    }
}

/// Merges two lists of orders of the same sequence: each order once, in its newest version.
fn newest<'a>(
    left: impl Iterator<Item = &'a Arc<Order>>,
    right: impl Iterator<Item = &'a Arc<Order>>,
    sequence: Sequence,
) -> impl Iterator<Item = &'a Arc<Order>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        // One of them has ended.
        let (Some(next_left), Some(next_right)) = (left.peek(), right.peek()) else {
            return left.next().or_else(|| right.next());
        };
        if sequence.is_before(next_left.order_id, next_right.order_id) {
            return left.next();
        }
        if sequence.is_before(next_right.order_id, next_left.order_id) {
            return right.next();
        }
        let (in_left, in_right) = (left.next()?, right.next()?);
        assert_eq!(in_left.user, in_right.user, "an order has one owner");
        Some(if in_left.version >= in_right.version { in_left } else { in_right })
    })
}

#[cfg(test)]
#[path = "order_pages_tests.rs"]
mod tests;

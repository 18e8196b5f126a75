//! What can be looked up in the index: the state of the node, and orders by id, key, exchange id and
//! user.

use super::IndexError;
use super::changes::{self, StoredChanges};
use super::index_handle::Index;
use super::keys;
use super::node::{self, NodeState};
use super::store::{ScanOrder, Space, View};
use crate::engine::MAX_UNMATCHED_REPORTS;
use crate::order::{TrackedOrder, decode_stored};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, TimestampMicros, UserId, UserPartition,
};
use crate::wal::Lsn;

impl Index {
    /// The latest time recorded in the log up to [`position`](Self::position), or the time of the feed
    /// position in an index written by an older version.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn last_recorded_at(&self) -> Result<TimestampMicros, IndexError> {
        let view = self.view()?;
        let meta = node::meta(&*view)?.map_or_else(TimestampMicros::default, |meta| meta.last_at);
        let feed =
            node::feed_position(&*view)?.map_or_else(TimestampMicros::default, |feed| feed.at);
        Ok(meta.max(feed))
    }

    /// What the node resumes from, besides its orders.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn node_state(&self) -> Result<NodeState, IndexError> {
        let view = self.view()?;
        let unmatched = node::unmatched(&*view)?;
        // At most as many as the engine takes, the newest ones.
        let too_many = unmatched.len().saturating_sub(MAX_UNMATCHED_REPORTS);
        let ended = node::ended(&*view)?.into_iter();
        let ended =
            ended.flat_map(|batch| batch.order_ids.into_iter().map(move |id| (batch.at, id)));
        Ok(NodeState {
            feed_position: node::feed_position(&*view)?,
            unmatched: unmatched.into_iter().skip(too_many).map(|(_, report)| report).collect(),
            ended: ended.collect(),
            attended: node::attended(&*view)?,
        })
    }

    /// Visits the open orders of a partition, oldest first.
    ///
    /// # Errors
    /// What cannot be read. Discard the orders visited before the error.
    pub fn load_open(
        &self,
        partition: UserPartition,
        visit: &mut dyn FnMut(TrackedOrder),
    ) -> Result<(), IndexError> {
        let (from, to) = keys::partition_range(partition);
        self.view()?.scan(Space::Open, (&from, &to), ScanOrder::Ascending, &mut |_, value| {
            visit(decode_stored(value)?);
            Ok(true)
        })
    }

    /// A user's order, open or ended. `None` for another user's order, too.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<TrackedOrder>, IndexError> {
        let stored = stored_order(&*self.view()?, order_id)?;
        let own = stored.filter(|(tracked, _)| tracked.order().user == *user);
        Ok(own.map(|(tracked, _)| tracked))
    }

    /// An order by its id, open or ended.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn by_order_id(&self, order_id: OrderId) -> Result<Option<TrackedOrder>, IndexError> {
        let stored = stored_order(&*self.view()?, order_id)?;
        Ok(stored.map(|(tracked, _)| tracked))
    }

    /// The order with a user's client order id.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn by_key(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<Option<OrderId>, IndexError> {
        let found = self.store()?.get(Space::Keys, &keys::client_key(user, key))?;
        found.map(|bytes| keys::order_id(&bytes)).transpose()
    }

    /// The order with an external id.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn by_external_id(&self, id: &ExternalOrderId) -> Result<Option<TrackedOrder>, IndexError> {
        let view = self.view()?;
        let Some(order_id) = view.get(Space::External, keys::external(id))? else {
            return Ok(None);
        };
        let stored = stored_order(&*view, keys::order_id(&order_id)?)?;
        Ok(stored.map(|(tracked, _)| tracked))
    }

    /// Whether a user's ended orders list this one.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn is_listed(&self, user: &UserId, order_id: OrderId) -> Result<bool, IndexError> {
        Ok(self.store()?.get(Space::History, &keys::history(user, order_id))?.is_some())
    }

    /// At most `most` of a user's changes after a record, oldest first, each with the resulting
    /// order. Tells if the store no longer has all of them.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn changes(
        &self,
        user: &UserId,
        after: Lsn,
        most: usize,
    ) -> Result<StoredChanges, IndexError> {
        changes::read(&*self.view()?, user, after, most)
    }
}

/// An order by its id, and its space.
pub(super) fn stored_order(
    view: &dyn View,
    order_id: OrderId,
) -> Result<Option<(TrackedOrder, Space)>, IndexError> {
    if let Some(bytes) = view.get(Space::Open, &keys::open(order_id))? {
        return Ok(Some((decode_stored(&bytes)?, Space::Open)));
    }
    let ended = view.get(Space::Ended, &keys::order_id_bytes(order_id))?;
    Ok(ended.map(|bytes| decode_stored(&bytes)).transpose()?.map(|order| (order, Space::Ended)))
}

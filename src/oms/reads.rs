//! Reads of committed orders. Every committed order is in the views in memory, or has ended and is
//! in the store, or both: the orders thread forgets an order only once the store has its last
//! state. So reads check memory first and the store second: an order that is forgotten in between
//! is in both.
//!
//! This holds for Postgres as for the index, where replies wait for Postgres: memory shows only what
//! Postgres has, and forgets nothing before. But Postgres has a change some time before memory shows
//! it, and who saw it there could then see an older version in memory. So the position of the tables
//! is read together with the orders, and the answer waits until memory shows as much: then every
//! version in it is one that memory shows, or showed before it forgot the order. What happened before
//! this node became the user's owner is below any such position: its open orders were taken into
//! memory, and the others had ended.

use std::sync::Arc;
use std::time::Duration;

use super::order_store::{OrderStore, StoreUnavailable, Stored, StoredKey};
use super::views::CommittedViews;
use crate::index::{Activities, ActivityRequest};
use crate::money::{Account, TrialBalance};
use crate::order::{CashTerms, ListedExecution, Order};
use crate::runtime::timeout;
use crate::types::{CashMovementId, ClientOrderId, OrderId, UserId};
use crate::wal::Lsn;

/// Longest wait for memory to show what Postgres has: as long as for an answer of Postgres. It takes
/// a moment, unless the answer to a commit was lost.
const SHOWN_DEADLINE: Duration = Duration::from_secs(2);

/// The store's answer about an idempotency key.
#[derive(Debug)]
pub(super) struct KeyCheck {
    /// The store had followed the log at least to here: a key that it does not have was not used
    /// before.
    pub(super) position: Lsn,
    /// The order that the key names.
    pub(super) order: Option<Arc<Order>>,
}

/// Committed orders, from memory and from the store.
#[derive(Debug, Clone)]
pub(super) struct OrderReads {
    views: CommittedViews,
    store: OrderStore,
}

impl OrderReads {
    pub(super) fn new(views: CommittedViews, store: impl Into<OrderStore>) -> Self {
        Self { views, store: store.into() }
    }

    pub(super) fn views(&self) -> &CommittedViews {
        &self.views
    }

    pub(super) fn store(&self) -> &OrderStore {
        &self.store
    }

    /// Waits until memory shows what was read.
    pub(super) async fn once_shown<T>(&self, stored: Stored<T>) -> Result<T, StoreUnavailable> {
        let Stored { found, as_of } = stored;
        if self.views.shown() < as_of {
            let shown = timeout(SHOWN_DEADLINE, self.views.shows(as_of)).await;
            shown.and_then(Result::ok).ok_or(StoreUnavailable)?;
        }
        assert!(self.views.shown() >= as_of, "memory shows as much as the answer says");
        Ok(found)
    }

    /// Whether orders may be read.
    pub(super) fn are_readable(&self) -> bool {
        !self.views.are_hidden()
    }

    pub(super) fn check_readable(&self) -> Result<(), StoreUnavailable> {
        if self.are_readable() { Ok(()) } else { Err(StoreUnavailable) }
    }

    fn in_memory(&self, user: &UserId, order_id: OrderId) -> Option<Arc<Order>> {
        let order = self.views.user(user)?.orders.get(&order_id).cloned()?;
        assert_eq!(order.user, *user, "a view has the orders of its user");
        Some(order)
    }

    pub(super) async fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<Arc<Order>>, StoreUnavailable> {
        self.check_readable()?;
        if let Some(order) = self.in_memory(user, order_id) {
            return Ok(Some(order));
        }
        let stored = self.once_shown(self.store.order(user, order_id).await?).await?;
        assert!(
            stored.as_ref().is_none_or(|order| order.user == *user),
            "the store is asked about a user's own order"
        );
        Ok(stored)
    }

    /// The executions of a user's order, of all that memory shows. The store follows memory: it is awaited
    /// where it does not have the order's version yet.
    pub(super) async fn executions(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<Vec<ListedExecution>>, StoreUnavailable> {
        loop {
            self.check_readable()?;
            let shown = self.in_memory(user, order_id).map(|order| order.version);
            let position = self.store.index().position();
            let stored = self.once_shown(self.store.executions(user, order_id).await?).await?;
            match (shown, stored) {
                (None, None) => return Ok(None),
                (shown, Some((stored, executions))) if shown <= Some(stored.version) => {
                    assert_eq!(stored.user, *user, "the store is asked about a user's own order");
                    return Ok(Some(executions));
                }
                (Some(_), _) | (None, Some(_)) => {
                    let later = self.store.index().beyond(position).await;
                    later.map_err(|_too_many| StoreUnavailable)?;
                }
            }
        }
    }

    /// A user's account; an empty one for a user who has never had money.
    pub(super) async fn account(&self, user: &UserId) -> Result<Arc<Account>, StoreUnavailable> {
        self.check_readable()?;
        let in_memory = || self.views.user(user).and_then(|view| view.account.clone());
        if let Some(account) = in_memory() {
            return Ok(account);
        }
        let stored = self.once_shown(self.store.account(user).await?).await?;
        // It may have moved meanwhile, and somebody may have seen that.
        let newer = in_memory().filter(|newer| newer.version() > stored.version());
        Ok(newer.unwrap_or_else(|| Arc::new(stored)))
    }

    /// What the store says that the id of a cash movement stands for, and up to where in the log the
    /// store was, at least.
    pub(super) async fn cash_terms(
        &self,
        user: &UserId,
        id: &CashMovementId,
    ) -> Result<(Lsn, Option<CashTerms>), StoreUnavailable> {
        self.check_readable()?;
        self.store.cash_terms(user, id).await
    }

    /// Some of a user's activities, of all that memory shows. The store follows memory: it is awaited.
    pub(super) async fn activities(
        &self,
        user: &UserId,
        request: &ActivityRequest,
    ) -> Result<Activities, StoreUnavailable> {
        self.check_readable()?;
        let view = self.views.user(user).unwrap_or_default();
        if let Some(before) = view.changed.max(view.cash_moved).0.checked_sub(1) {
            let stored = self.store.index().beyond(Lsn(before)).await;
            stored.map_err(|_too_many| StoreUnavailable)?;
        }
        self.store.activities(user, request).await
    }

    /// The sums of all accounts, of all that memory shows, and the last record that they include. The
    /// store follows memory: it is awaited.
    pub(super) async fn trial_balance(&self) -> Result<(Lsn, TrialBalance), StoreUnavailable> {
        self.check_readable()?;
        if let Some(before) = self.views.shown().0.checked_sub(1) {
            let stored = self.store.index().beyond(Lsn(before)).await;
            stored.map_err(|_too_many| StoreUnavailable)?;
        }
        self.store.trial_balance().await
    }

    /// The order that a user's idempotency key names.
    pub(super) async fn by_key(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<KeyCheck, StoreUnavailable> {
        self.check_readable()?;
        let StoredKey { position, order_id } = self.store.by_key(user, key).await?;
        let order = match order_id {
            None => None,
            Some(order_id) => self.order(user, order_id).await?,
        };
        Ok(KeyCheck { position, order })
    }

    /// The order that a user's key names, of all that memory shows. The store follows memory: the newest
    /// orders are looked for there, or awaited where there are too many.
    pub(super) async fn by_key_as_shown(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<Option<Arc<Order>>, StoreUnavailable> {
        loop {
            let view = self.views.user(user).unwrap_or_default();
            let KeyCheck { position, order } = self.by_key(user, key).await?;
            let has_key = |order: &&Arc<Order>| order.client_order_id.as_ref() == Some(key);
            let newest = view.changes.iter().map(|(_, order)| order).find(has_key);
            if let Some(named) = order.as_ref().or(newest) {
                return self.order(user, named.order_id).await;
            }
            // Memory has what the store lacks, or the store has all of its log that this view shows.
            if view.changes_from <= position || view.changed <= position {
                return Ok(None);
            }
            self.store.index().beyond(position).await.map_err(|_too_many| StoreUnavailable)?;
        }
    }
}

//! Reads of orders in Postgres, from any thread.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::PostgresServer;
use super::order_queries::{Found, LogPosition, Query};
use super::reader::{PostgresReader, Request};
use crate::money::Account;
use crate::order::{ListedExecution, Order, PageRequest, TrackedOrder};
use crate::types::{ClientOrderId, ExternalOrderId, OrderId, TimestampMicros, UserId};

/// Reads that may wait for their turn. With those in flight, the last one waits a quarter of a second.
const QUEUE_CAPACITY: usize = 1_024;

/// Asks Postgres for orders. Every question is answered within two seconds, if only with an error.
/// Clones share one queue.
#[derive(Debug, Clone)]
pub struct PostgresReads {
    requests: mpsc::Sender<Request>,
}

/// Why an order could not be read from Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostgresReadError {
    /// Retry later.
    #[error("the queue of reads from Postgres is full: {QUEUE_CAPACITY} are waiting")]
    Busy,
    /// Postgres is away, too slow or refuses, or the process is ending.
    #[error("Postgres cannot be read right now")]
    Unavailable,
    /// The row of this order is invalid: repeating the read fails the same way.
    #[error("order {0} in Postgres cannot be read")]
    Unreadable(OrderId),
}

/// What was found, and as of when.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresRead<T> {
    /// How far the tables had followed the log of the user's owner at that moment. `None` if nobody
    /// owns the user yet, or if an order was asked for without its user and was not found.
    pub position: Option<LogPosition>,
    pub found: T,
}

/// Some of a user's orders. Those that cannot be read are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrderList {
    pub orders: Vec<Arc<Order>>,
    /// Where to continue; `None` after the last.
    pub next: Option<OrderId>,
}

type Answer<T> = Result<PostgresRead<T>, PostgresReadError>;

impl PostgresReads {
    /// Reads from a server, and the worker that does, to be run on a thread `postgres-read`.
    pub fn new(server: &PostgresServer) -> (Self, PostgresReader) {
        let (requests, receiver) = mpsc::channel(QUEUE_CAPACITY);
        (Self { requests }, PostgresReader::new(server.clone(), receiver))
    }

    /// A user's order, open or ended. `None` for another user's order, too.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn order(&self, user: &UserId, order_id: OrderId) -> Answer<Option<TrackedOrder>> {
        one(self.ask(Query::Order { user: user.clone(), order_id }).await?)
    }

    /// A user's order with its executions, as they were noted. `None` for another user's order, too.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn executions(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Answer<Option<(Arc<Order>, Vec<ListedExecution>)>> {
        let mut found = self.ask(Query::Executions { user: user.clone(), order_id }).await?;
        let executions = std::mem::take(&mut found.executions);
        let PostgresRead { position, found } = one(found)?;
        let found = found.map(|tracked| (Arc::clone(tracked.order()), executions));
        Ok(PostgresRead { position, found })
    }

    /// The account of a user; an empty one for a user who has never had money.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn account(&self, user: &UserId) -> Answer<Account> {
        let Found { position, account, .. } = self.ask(Query::Account(user.clone())).await?;
        Ok(PostgresRead { position, found: account.unwrap_or_default() })
    }

    /// An order by its id, open or ended. `None` also for one whose first days are no longer kept in
    /// `order_events`: only they tell its user.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn by_order_id(&self, order_id: OrderId) -> Answer<Option<TrackedOrder>> {
        one(self.ask(Query::ByOrderId(order_id)).await?)
    }

    /// The order with an external id.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn by_external_id(&self, id: &ExternalOrderId) -> Answer<Option<TrackedOrder>> {
        one(self.ask(Query::ByExternalId(id.clone())).await?)
    }

    /// The order with a user's client order id.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn by_key(&self, user: &UserId, key: &ClientOrderId) -> Answer<Option<Arc<Order>>> {
        let read = one(self.ask(Query::ByKey { user: user.clone(), key: key.clone() }).await?)?;
        let found = read.found.map(|tracked| Arc::clone(tracked.order()));
        Ok(PostgresRead { position: read.position, found })
    }

    /// Ended orders of a user that a request selects. May return few or none although there are more: what
    /// one question looks at is bounded. Orders created in the last microsecond before, and the first one
    /// after, the times of the request may be among them.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn ended(&self, user: &UserId, request: &PageRequest) -> Answer<OrderList> {
        let query = Query::Ended { user: user.clone(), request: request.clone() };
        Ok(list(self.ask(query).await?, request.limit))
    }

    /// At most `most` of a user's orders that changed at or after a time, each in its present
    /// version, by id after `after`. May return few or none although there are more.
    ///
    /// # Errors
    /// [`PostgresReadError`].
    pub async fn changed_since(
        &self,
        user: &UserId,
        since: TimestampMicros,
        after: Option<OrderId>,
        most: usize,
    ) -> Answer<OrderList> {
        let query = Query::ChangedSince { user: user.clone(), since, after, most };
        Ok(list(self.ask(query).await?, most))
    }

    async fn ask(&self, query: Query) -> Result<Found, PostgresReadError> {
        let (request, answer) = Request::new(query);
        self.requests.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => PostgresReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => PostgresReadError::Unavailable,
        })?;
        match answer.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_)) | Err(_) => Err(PostgresReadError::Unavailable),
        }
    }
}

/// The order that was asked for; the oldest, should several fit.
fn one(found: Found) -> Answer<Option<TrackedOrder>> {
    let position = found.position;
    let oldest = found.orders.into_iter().min_by_key(|(order_id, _)| *order_id);
    let found = match oldest {
        None => None,
        Some((_, Some(order))) => Some(order),
        Some((order_id, None)) => return Err(PostgresReadError::Unreadable(order_id)),
    };
    Ok(PostgresRead { position, found })
}

fn list(found: Found, most: usize) -> PostgresRead<OrderList> {
    let last = found.orders.last().map(|(order_id, _)| *order_id);
    let next = if found.orders.len() >= most { last } else { found.edge };
    let orders = found.orders.into_iter().filter_map(|(_, order)| order);
    let orders = orders.map(|tracked| Arc::clone(tracked.order())).collect();
    PostgresRead { position: found.position, found: OrderList { orders, next } }
}

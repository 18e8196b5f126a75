//! Users: their requests to the service, and the checks of the answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::check_context::{CheckContext, Told};
use super::invariant::{Checked, Invariant, broken, ensure};
use super::readers::Readers;
use super::replies::{check_cancel_reply, check_create_reply, check_list};
use crate::engine::{CancelReply, CreateReply};
use crate::index::Index;
use crate::oms::{CommittedViews, CreateOrder, OrderService, StoreUnavailable, UserView};
use crate::order::{Order, PageRequest};
use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

/// The request that a user waits for.
pub(super) enum Asked {
    Create(CreateOrder),
    Cancel {
        order_id: OrderId,
        /// The user knew that the order was recorded, and recorded as theirs.
        is_theirs: bool,
    },
    /// All orders of the user, with the versions read before.
    List(BTreeMap<OrderId, u64>),
}

enum Reply {
    Create(CreateReply),
    Cancel(CancelReply),
    List(Result<Vec<Arc<Order>>, StoreUnavailable>),
}

/// A user who waits for an answer.
struct Waiting {
    user: UserId,
    asked: Asked,
    reply: Pin<Box<dyn Future<Output = Reply>>>,
    reads: Arc<ReadsWhenWoken>,
    /// The position of the store when the request was made.
    stored: Lsn,
}

/// Reads a user's orders at the moment at which an answer arrives.
struct ReadsWhenWoken {
    user: UserId,
    views: CommittedViews,
    read: Mutex<Option<Arc<UserView>>>,
}

impl Wake for ReadsWhenWoken {
    fn wake(self: Arc<Self>) {
        let view = self.views.user(&self.user);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

#[derive(Default)]
pub(super) struct Clients {
    pub(super) users: Vec<UserId>,
    waiting: Vec<Waiting>,
    /// Requests with a key, to be repeated.
    pub(super) keyed: Vec<CreateOrder>,
    /// Orders that users were told of, or asked for.
    pub(super) orders: Vec<(UserId, OrderId)>,
    pub(super) told: Told,
}

/// The outcome of a request, in words for the trace.
pub(super) struct Answered {
    pub(super) order_id: Option<OrderId>,
    pub(super) words: &'static str,
}

impl Clients {
    pub(super) fn new(count: usize) -> Self {
        let users = (0..count).filter_map(|number| UserId::new(&format!("user-{number}")).ok());
        Self { users: users.collect(), ..Self::default() }
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Requests a new order.
    pub(super) fn create(&mut self, service: &OrderService, index: &Index, request: CreateOrder) {
        self.orders.push((request.user.clone(), request.order_id));
        if request.client_order_id.is_some() {
            self.keyed.push(request.clone());
        }
        let (service_, request_) = (service.clone(), request.clone());
        let reply = Box::pin(async move { Reply::Create(service_.create(request_).await) });
        self.wait((service, index), request.user.clone(), Asked::Create(request), reply);
    }

    /// Requests a cancel.
    pub(super) fn cancel(
        &mut self,
        service: &OrderService,
        index: &Index,
        (user, order_id): (UserId, OrderId),
    ) {
        let is_theirs = self.told.acknowledged.get(&order_id) == Some(&user);
        let (service_, user_) = (service.clone(), user.clone());
        let reply = Box::pin(async move { Reply::Cancel(service_.cancel(user_, order_id).await) });
        self.wait((service, index), user, Asked::Cancel { order_id, is_theirs }, reply);
    }

    /// Requests all orders of a user, `limit` per page.
    pub(super) fn list(
        &mut self,
        service: &OrderService,
        index: &Index,
        (user, limit): (UserId, usize),
        readers: &Readers,
    ) {
        let (service_, user_) = (service.clone(), user.clone());
        let reply = Box::pin(async move { Reply::List(all_pages(&service_, &user_, limit).await) });
        let known = readers.versions_of(&user);
        self.wait((service, index), user, Asked::List(known), reply);
    }

    fn wait(
        &mut self,
        (service, index): (&OrderService, &Index),
        user: UserId,
        asked: Asked,
        reply: Pin<Box<dyn Future<Output = Reply>>>,
    ) {
        let views = service.commands().views().clone();
        let reads = ReadsWhenWoken { user: user.clone(), views, read: Mutex::new(None) };
        let stored = index.position();
        self.waiting.push(Waiting { user, asked, reply, reads: Arc::new(reads), stored });
    }

    /// One waiting user disconnects.
    pub(super) fn hang_up(&mut self, place: usize) {
        self.waiting.swap_remove(place);
    }

    /// The process has ended: all connections are cut.
    pub(super) fn cut_all(&mut self) -> usize {
        let count = self.waiting.len();
        self.waiting.clear();
        count
    }

    /// Polls every request, and checks the answers that have come.
    pub(super) fn poll_all(&mut self, context: &CheckContext<'_>) -> Checked<Vec<Answered>> {
        let mut answered = Vec::new();
        let mut place = 0;
        while let Some(waiting) = self.waiting.get_mut(place) {
            let waker = Waker::from(Arc::clone(&waiting.reads));
            let Poll::Ready(reply) = waiting.reply.as_mut().poll(&mut Context::from_waker(&waker))
            else {
                place += 1;
                continue;
            };
            let waiting = self.waiting.remove(place);
            answered.push(self.told.take(waiting, reply, context)?);
        }
        Ok(answered)
    }
}

/// Reads all pages.
async fn all_pages(
    service: &OrderService,
    user: &UserId,
    limit: usize,
) -> Result<Vec<Arc<Order>>, StoreUnavailable> {
    let mut orders = Vec::new();
    let mut request = PageRequest { limit, ..PageRequest::default() };
    loop {
        let page = service.page(user, &request).await?;
        orders.extend(page.orders);
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(orders),
        }
    }
}

impl Told {
    fn take(
        &mut self,
        waiting: Waiting,
        reply: Reply,
        context: &CheckContext<'_>,
    ) -> Checked<Answered> {
        let order = match &reply {
            Reply::Create(reply) => order_of_create(reply),
            Reply::Cancel(reply) => order_of_cancel(reply),
            Reply::List(_) => None,
        };
        if let Some(order) = &order {
            check_readable(&waiting, order, context)?;
            self.acknowledged.insert(order.order_id, waiting.user.clone());
        }
        match (waiting.asked, reply) {
            (Asked::Create(request), Reply::Create(reply)) => {
                let order_id = order.map_or(request.order_id, |order| order.order_id);
                let has_moved = context.index.position() > waiting.stored;
                let words = check_create_reply(self, &request, &reply, (context, has_moved))?;
                Ok(Answered { order_id: Some(order_id), words })
            }
            (Asked::Cancel { order_id, is_theirs }, Reply::Cancel(reply)) => {
                let words = check_cancel_reply((order_id, is_theirs), &reply, context)?;
                Ok(Answered { order_id: Some(order_id), words })
            }
            (Asked::List(_), Reply::List(Err(StoreUnavailable))) if !context.is_readable => {
                Ok(Answered { order_id: None, words: "not listed before Postgres has everything" })
            }
            (Asked::List(known), Reply::List(Ok(orders))) => {
                check_list(&waiting.user, &known, &orders)?;
                orders.iter().try_for_each(|order| context.durable.check_in_postgres(order))?;
                Ok(Answered { order_id: None, words: "listed" })
            }
            _ => Err(broken(Invariant::OneAnswer, "no answer, or that to another question")),
        }
    }
}

/// The order of an answer can be read, at once and later.
fn check_readable(waiting: &Waiting, order: &Order, context: &CheckContext<'_>) -> Checked {
    let user = &waiting.user;
    ensure(order.user == *user, Invariant::UsersIndependent, || {
        format!("{user} is answered {order:?}")
    })?;
    context.durable.check_in_postgres(order)?;
    let read = waiting.reads.read.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A request that was ready at the first poll woke nobody.
    let at_once = read.is_some();
    for view in [read, context.views.user(user)].into_iter().skip(usize::from(!at_once)) {
        let shown = context.read(view.as_deref(), user, order.order_id)?;
        let is_shown = shown.as_ref().is_some_and(|shown| shown.version >= order.version);
        ensure(is_shown, Invariant::AnswerIsReadable, || {
            format!("the answer says {order:?}, a read says {shown:?}")
        })?;
    }
    Ok(())
}

fn order_of_create(reply: &CreateReply) -> Option<Arc<Order>> {
    match reply {
        CreateReply::Accepted(order)
        | CreateReply::Rejected(order)
        | CreateReply::Pending(order)
        | CreateReply::Duplicate(order)
        | CreateReply::Conflict(order) => Some(Arc::clone(order)),
        CreateReply::OutcomeUnknown
        | CreateReply::NoRoom
        | CreateReply::KeyUnsure
        | CreateReply::Unavailable
        | CreateReply::Halted(_)
        | CreateReply::ExchangeAway
        | CreateReply::ExchangeBusy
        | CreateReply::Unfunded(_)
        | CreateReply::PriceUnavailable => None,
    }
}

fn order_of_cancel(reply: &CancelReply) -> Option<Arc<Order>> {
    match reply {
        CancelReply::Cancelled(order)
        | CancelReply::Pending(order)
        | CancelReply::Conflict(order) => Some(Arc::clone(order)),
        CancelReply::NotFound
        | CancelReply::NoRoom
        | CancelReply::OutcomeUnknown
        | CancelReply::Unavailable => None,
    }
}

//! Order streams: clients that read the changes of a user's orders, are cut off, and resume from
//! the last id they got.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::durable::DurableLog;
use super::invariant::{Checked, Invariant, broken, ensure};
use super::node::Node;
use crate::oms::{
    Changes, ChangesSince, CommittedViews, OrderService, OrderWatch, StoreUnavailable,
};
use crate::order::Order;
use crate::stream::ChangedUsers;
use crate::types::UserId;
use crate::wal::Lsn;

type Answer = Result<ChangesSince, StoreUnavailable>;

/// All streams, one per user.
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// How long changes are kept, in microseconds.
    changes_age_micros: u64,
}

struct Stream {
    user: UserId,
    state: State,
}

enum State {
    /// Begins with the open orders.
    New,
    /// Disconnected, with everything up to here.
    Away(Lsn),
    /// Has everything up to here; there may be more.
    Behind(Lsn),
    /// Waits for the changes after here.
    Asking(Lsn, Pin<Box<dyn Future<Output = Answer>>>),
    /// Has everything up to here, and will be told of more.
    Idle(Lsn),
}

impl Streams {
    pub(super) fn new(users: &[UserId], changes_age_micros: u64) -> Self {
        let stream = |user: &UserId| Stream { user: user.clone(), state: State::New };
        Self { streams: users.iter().map(stream).collect(), changes_age_micros }
    }

    pub(super) fn count(&self) -> usize {
        self.streams.len()
    }

    /// Connects a stream, or reads at most `limit` changes. `None` if it has nothing to do.
    pub(super) fn read(
        &mut self,
        (place, limit): (usize, usize),
        node: &Node,
        durable: &DurableLog,
    ) -> Checked<Option<&'static str>> {
        let Some(stream) = self.streams.get_mut(place) else { return Ok(None) };
        // No stream begins before orders can be read.
        if !node.service.is_readable() {
            return Ok(None);
        }
        match stream.state {
            State::Asking(..) | State::Idle(_) => Ok(None),
            State::New => {
                node.order_watch.watch(&stream.user);
                let (open, cursor) = node.service.changes().open_orders(&stream.user);
                check_open(&stream.user, &open, cursor, durable)?;
                stream.state = State::Behind(cursor);
                Ok(Some("streams of orders begun"))
            }
            State::Away(after) => {
                node.order_watch.watch(&stream.user);
                stream.ask(&node.service, after, limit);
                Ok(Some("streams of orders resumed"))
            }
            State::Behind(after) => {
                stream.ask(&node.service, after, limit);
                Ok(Some("streams of orders read"))
            }
        }
    }

    /// Cuts a stream off, before it gets what it waits for.
    pub(super) fn cut(&mut self, place: usize, watch: &OrderWatch) -> bool {
        let Some(stream) = self.streams.get_mut(place) else { return false };
        watch.unwatch(&stream.user);
        stream.cut()
    }

    /// The process has ended.
    pub(super) fn cut_all(&mut self) {
        for stream in &mut self.streams {
            stream.cut();
        }
    }

    /// Polls every stream, and checks the answers that have come.
    pub(super) fn poll_all(
        &mut self,
        (views, watch): (&CommittedViews, &mut OrderWatch),
        durable: &DurableLog,
    ) -> Checked<Vec<&'static str>> {
        let mut words = Vec::new();
        while let Some(changed) = watch.next_changed() {
            for stream in &mut self.streams {
                if let State::Idle(after) = stream.state
                    && (changed == ChangedUsers::Any
                        || changed == ChangedUsers::One(stream.user.clone()))
                {
                    stream.state = State::Behind(after);
                }
            }
        }
        for stream in &mut self.streams {
            if let State::Asking(after, answer) = &mut stream.state {
                let mut context = Context::from_waker(Waker::noop());
                let Poll::Ready(answer) = answer.as_mut().poll(&mut context) else { continue };
                let after = *after;
                words.push(stream.take(answer, after, self.changes_age_micros, durable)?);
            }
            if let State::Idle(after) = stream.state {
                check_idle(&stream.user, after, views, durable)?;
            }
        }
        Ok(words)
    }

    /// Checks that every stream has everything.
    pub(super) fn check_ends(&self, durable: &DurableLog) -> Checked {
        let (last, _) = durable.record_counts();
        for Stream { user, state } in &self.streams {
            let upto = match state {
                State::Idle(upto) => Some(*upto),
                State::New | State::Away(_) | State::Behind(_) | State::Asking(..) => None,
            };
            let is_missing = |upto| durable.changes(user, (upto, Lsn(last))).next().is_some();
            let has_all = upto.is_some_and(|upto| !is_missing(upto));
            ensure(has_all, Invariant::NobodyWaits, || {
                format!("the stream of {user} has all up to {upto:?} of {last}, or still waits")
            })?;
        }
        Ok(())
    }
}

impl Stream {
    fn ask(&mut self, service: &OrderService, after: Lsn, limit: usize) {
        let (changes, user) = (service.changes().clone(), self.user.clone());
        let answer = Box::pin(async move { changes.since(&user, after, limit).await });
        self.state = State::Asking(after, answer);
    }

    /// False if it was not connected.
    fn cut(&mut self) -> bool {
        let (State::Behind(after) | State::Asking(after, _) | State::Idle(after)) = self.state
        else {
            return false;
        };
        self.state = State::Away(after);
        true
    }

    fn take(
        &mut self,
        answer: Answer,
        after: Lsn,
        changes_age_micros: u64,
        durable: &DurableLog,
    ) -> Checked<&'static str> {
        let user = &self.user;
        let known = answer.map_err(|error| broken(Invariant::OneAnswer, format!("{error}")))?;
        let Changes { changes, complete_to, has_more } = match known {
            ChangesSince::Known(changes) => changes,
            ChangesSince::Lost => {
                let age = durable.micros_since(after);
                ensure(age >= changes_age_micros, Invariant::StreamIsWhole, || {
                    format!("{user} was told that changes of {age} us are lost")
                })?;
                self.state = State::New;
                return Ok("streams of orders that were away for too long");
            }
        };
        let expected: Vec<_> = durable.changes(user, (after, complete_to)).cloned().collect();
        ensure(changes == expected, Invariant::StreamIsWhole, || {
            format!("{user} got {changes:?} from {after} to {complete_to}, durable {expected:?}")
        })?;
        let goes_on = complete_to > after || (complete_to == after && !has_more);
        ensure(goes_on, Invariant::StreamIsWhole, || {
            format!("the stream of {user} goes from {after} to {complete_to}")
        })?;
        for (_, order) in &changes {
            durable.check_in_postgres(order)?;
        }
        self.state = if has_more { State::Behind(complete_to) } else { State::Idle(complete_to) };
        Ok(if changes.is_empty() { "streams without news" } else { "streams with news" })
    }
}

/// The open orders are those at the cursor.
fn check_open(user: &UserId, open: &[Arc<Order>], cursor: Lsn, durable: &DurableLog) -> Checked {
    let (last, _) = durable.record_counts();
    ensure(cursor.0 <= last, Invariant::SeenIsDurable, || {
        format!("{user} is shown all up to {cursor}, durable is {last}")
    })?;
    for order in open {
        durable.check_in_postgres(order)?;
    }
    let mut expected = std::collections::BTreeMap::new();
    for (_, order) in durable.changes(user, (Lsn(0), cursor)) {
        expected.insert(order.order_id, order);
    }
    let expected: Vec<_> = expected.into_values().filter(|order| order.is_open()).collect();
    ensure(open.iter().eq(expected.iter().copied()), Invariant::StreamIsWhole, || {
        format!("{user} begins with {open:?} at {cursor}, open are {expected:?}")
    })
}

/// A stream that was told of nothing has everything that readers see.
fn check_idle(user: &UserId, upto: Lsn, views: &CommittedViews, durable: &DurableLog) -> Checked {
    let Some(view) = views.user(user) else { return Ok(()) };
    for order in view.orders.values() {
        let known = durable.changes(user, (Lsn(0), upto)).rev();
        let known = known.map(|(_, known)| known).find(|known| known.order_id == order.order_id);
        ensure(known == Some(order), Invariant::StreamIsTold, || {
            format!("{user} reads {order:?}, their stream has {known:?} and was told of nothing")
        })?;
    }
    Ok(())
}

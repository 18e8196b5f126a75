//! A model of the store for tests: the log up to some position, and nothing after it.

use std::collections::BTreeMap;

use super::*;
use crate::order::{Event, FeedPosition, TrackedOrder, UnmatchedReport};
use crate::types::*;

#[derive(Debug, Default)]
pub(super) struct StoreModel {
    /// Number of events that it has applied.
    pub(super) position: usize,
    pub(super) orders: BTreeMap<OrderId, TrackedOrder>,
    keys: BTreeMap<(UserId, ClientOrderId), OrderId>,
    feed_position: Option<FeedPosition>,
    unmatched: Vec<UnmatchedReport>,
    ended: Vec<(TimestampMicros, OrderId)>,
}

impl StoreModel {
    pub(super) fn follow(&mut self, log: &[Event], until: usize) {
        for event in &log[self.position..until] {
            match event {
                Event::Created(created) => {
                    self.orders.insert(created.order_id, TrackedOrder::new(created));
                    if let Some(key) = &created.client_order_id {
                        self.keys.insert((created.user.clone(), key.clone()), created.order_id);
                    }
                }
                Event::Changed(changed) => {
                    let tracked = self.orders.get_mut(&changed.order_id).unwrap();
                    tracked.apply(changed);
                    if changed.change.may_end() && !tracked.order().is_open() {
                        self.ended.push((changed.at, changed.order_id));
                    }
                }
                Event::UnmatchedReport(report) => self.unmatched.push(report.clone()),
                Event::FeedPosition(position) => {
                    self.feed_position = Some(position.clone());
                }
            }
        }
        self.position = self.position.max(until);
    }

    pub(super) fn by_key(&self, user: &UserId, key: &ClientOrderId) -> Option<&TrackedOrder> {
        self.orders.get(self.keys.get(&(user.clone(), key.clone()))?)
    }

    pub(super) fn by_external_id(&self, id: &ExternalOrderId) -> Option<TrackedOrder> {
        let is_meant = |t: &&TrackedOrder| t.order().external_order_id.as_ref() == Some(id);
        self.orders.values().rev().find(is_meant).cloned()
    }

    /// The engines after a start: open orders from the store, the rest from the log.
    pub(super) fn recovered(&self, log: &[Event], options: EngineOptions) -> Engines {
        let mut engines = Engines::new(options);
        for tracked in self.orders.values().filter(|tracked| tracked.order().is_open()) {
            engines.load(tracked.clone());
        }
        let unmatched = self.unmatched.clone();
        engines.load_node(self.feed_position.clone(), unmatched, self.ended.clone());
        for event in &log[self.position..] {
            if let Err(UnknownOrder { order_id }) = engines.replay(event) {
                engines.load(self.orders[&order_id].clone());
                engines.replay(event).unwrap();
            }
        }
        engines
    }
}

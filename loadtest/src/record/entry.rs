//! Checks one answer and adds it to the record of its order.

use std::sync::MutexGuard;

use super::{Inner, Sent};
use crate::{
    api::{Answer, Order, Terms},
    history::{Name, Record},
    linear::{Operation, Outcome, Request},
};

/// One answer to record.
pub(super) struct Entry<'a> {
    pub(super) responded: u64,
    pub(super) inner: MutexGuard<'a, Inner>,
    pub(super) sent: Sent,
    pub(super) name: Name,
}

impl Entry<'_> {
    /// The record. An order with an unexpected key gets one, and is a violation.
    pub(super) fn record(&mut self) -> &mut Record {
        let terms = || Terms {
            position: "",
            symbol: "",
            num_shares: 0,
            price_in_cents: None,
            time_in_force: "",
            client_order_id: self.name.1.clone(),
        };
        self.inner.records.entry(self.name.clone()).or_insert_with(|| Record::new(terms()))
    }

    /// The order of an answer, if it is the requested one.
    pub(super) fn order(&mut self, answer: &Answer) -> Option<Order> {
        match answer.order() {
            Ok(order) => self.is_as_asked(&order).then_some(order),
            Err(problem) => {
                self.violate(&problem);
                None
            }
        }
    }

    pub(super) fn is_as_asked(&mut self, order: &Order) -> bool {
        let record = self.record();
        let is_as_asked = order.is_as(&record.terms);
        let is_same_order = record.order_id.as_ref().is_none_or(|id| *id == order.order_id);
        let told_before = record.newest.as_ref().and_then(|old| old.external_order_id.as_ref());
        let is_same_there =
            told_before.is_none_or(|id| order.external_order_id.as_ref() == Some(id));
        // An older version may not have had the exchange's id yet.
        let is_older = record.newest.as_ref().is_some_and(|old| old.version > order.version);
        if !is_as_asked || !is_same_order {
            let known = record.order_id.clone();
            self.violate(&format!("the key names {known:?} and was answered with {order:?}"));
        } else if !is_same_there && !is_older {
            self.violate(&format!("the exchange's id has changed: {order:?}"));
        }
        is_as_asked && is_same_order
    }

    pub(super) fn check_create(&mut self, status: u16, order: &Order) {
        let fits = match status {
            201 => order.external_order_id.is_some(),
            202 => order.external_order_id.is_none(),
            422 => order.status == "failed",
            _ => true,
        };
        if !fits {
            self.violate(&format!("a create was answered {status} with {order:?}"));
        }
    }

    pub(super) fn showed(&mut self, request: Request, order: &Order) {
        let Some(observed) = order.observed() else {
            self.violate(&format!("a status that there is not: {order:?}"));
            return;
        };
        let user = self.name.0;
        let key = self.name.1.clone();
        self.inner.by_id.entry((user, order.order_id.clone())).or_insert(key);
        let record = self.record();
        record.order_id.get_or_insert_with(|| order.order_id.clone());
        if record.newest.as_ref().is_none_or(|newest| newest.version <= order.version) {
            record.newest = Some(order.clone());
        }
        self.add(request, Outcome::Showed(observed));
    }

    pub(super) fn lost(&mut self, request: Request) {
        self.inner.counts.unanswered += 1;
        self.add(request, Outcome::Unknown);
    }

    pub(super) fn add(&mut self, request: Request, outcome: Outcome) {
        let Sent { client, invoked, .. } = self.sent;
        let responded = self.responded;
        let operation = Operation { request, outcome, invoked, responded, client };
        self.inner.counts.operations += 1;
        self.inner.unchecked.insert(self.name.clone());
        self.record().operations.push(operation);
    }

    pub(super) fn unexpected(&mut self, what: &str, answer: &Answer) {
        self.violate(&format!("{what} was answered {}: {}", answer.status, answer.body));
    }

    pub(super) fn violate(&mut self, what: &str) {
        let name = self.name.clone();
        let history = self.record().history(&name);
        self.inner.violate(format!("{what}\n{history}"));
    }
}

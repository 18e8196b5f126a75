//! The exchange's ids of orders that ended lately and have left memory, where other nodes have other
//! users: only lines with these ids are looked up in the store, since nearly all others are about
//! orders of those nodes.

use std::collections::{HashSet, VecDeque};

use crate::types::{ExternalOrderId, TimestampMicros};

/// Fingerprints of ids, with the time when each was forgotten: 32 bytes or so each, 75 MB on a host that
/// takes a quarter of the peak. A fingerprint that two ids share costs a look-up.
#[derive(Debug, Default)]
pub(super) struct ForgottenIds {
    known: HashSet<u64>,
    by_age: VecDeque<(TimestampMicros, u64)>,
}

fn fingerprint(id: &ExternalOrderId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_str().as_bytes())
}

impl ForgottenIds {
    /// An order that had this id leaves memory.
    pub(super) fn add(&mut self, now: TimestampMicros, id: &ExternalOrderId) {
        assert!(
            self.by_age.back().is_none_or(|(last, _)| *last <= now),
            "ids are forgotten in the order of time"
        );
        let fingerprint = fingerprint(id);
        if self.known.insert(fingerprint) {
            self.by_age.push_back((now, fingerprint));
        }
        assert_eq!(self.known.len(), self.by_age.len(), "a fingerprint is known once");
    }

    /// Whether the store may have an order with this id that matters here.
    pub(super) fn may_have(&self, id: &ExternalOrderId) -> bool {
        self.known.contains(&fingerprint(id))
    }

    /// Drops those that were forgotten before this time.
    pub(super) fn drop_before(&mut self, time: TimestampMicros) {
        while let Some((_, fingerprint)) = self.by_age.pop_front_if(|(at, _)| *at < time) {
            let was_known = self.known.remove(&fingerprint);
            assert!(was_known, "a fingerprint with an age is known");
        }
        assert_eq!(self.known.len(), self.by_age.len(), "a fingerprint is known once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_for_a_while() {
        let id = |text| ExternalOrderId::new(text).unwrap();
        let at = TimestampMicros::new;
        let mut forgotten = ForgottenIds::default();
        forgotten.add(at(10), &id("a"));
        forgotten.add(at(20), &id("b"));
        forgotten.add(at(30), &id("a"));
        assert!(forgotten.may_have(&id("a")) && !forgotten.may_have(&id("c")));
        forgotten.drop_before(at(20));
        assert!(!forgotten.may_have(&id("a")) && forgotten.may_have(&id("b")));
    }
}

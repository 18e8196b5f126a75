//! What each execution was when it was noted, in the sequence of the log: the orders themselves keep
//! only what counts.

use std::collections::{BTreeMap, BTreeSet};

use super::IndexError;
use super::index_handle::Index;
use super::keys;
use super::lookups::stored_order;
use super::node;
use super::store::{Bytes, ScanOrder, Space, View, Write};
use crate::order::{ExecutionEffect, Fill, Order, TrackedOrder};
use crate::types::{ExecutionId, OrderId, PriceCents, TimeInForce, TimestampMicros, UserId};
use crate::wal::Lsn;

/// Version of the value, its first byte.
const FORMAT: u8 = 1;

/// The executions that a batch notes, in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct ExecutionWriter {
    noted: BTreeMap<(OrderId, ExecutionId), Bytes>,
    /// Orders that are good till cancelled, by the days of their executions.
    gtc: BTreeSet<(u32, OrderId)>,
}

impl ExecutionWriter {
    /// Notes the effect of a record. One that makes an execution void leaves it as it was noted.
    pub(super) fn note(&mut self, lsn: Lsn, order: &Order, effect: ExecutionEffect) {
        match effect {
            ExecutionEffect::Counts(fill) => {
                let value = encode(lsn, &fill);
                if order.time_in_force == TimeInForce::Gtc {
                    self.gtc.insert((node::utc_day(fill.executed_at), order.order_id));
                }
                self.noted.insert((order.order_id, fill.execution_id), value);
            }
            ExecutionEffect::Void { .. } => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.noted.len() + self.gtc.len()
    }

    /// Adds the noted executions to a batch of the store.
    pub(super) fn write(&mut self, batch: &mut Vec<Write>) {
        for ((order_id, id), value) in std::mem::take(&mut self.noted) {
            let key = keys::execution(order_id, &id);
            batch.push(Write { space: Space::Executions, key, value: Some(value) });
        }
        for (day, order_id) in std::mem::take(&mut self.gtc) {
            let key = node::gtc_executed_key(day, order_id);
            batch.push(Write { space: Space::Node, key, value: Some(Bytes::from(&[][..])) });
        }
    }
}

impl Index {
    /// A user's order with its executions as they were noted, in the sequence of the log. Executions that
    /// an older version noted are missing. `None` for another user's order, too.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn executions(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<(TrackedOrder, Vec<Fill>)>, IndexError> {
        let view = self.view()?;
        let Some((tracked, _)) = stored_order(&*view, order_id)? else { return Ok(None) };
        if tracked.order().user != *user {
            return Ok(None);
        }
        Ok(Some((tracked, noted_executions(&*view, order_id)?)))
    }
}

/// The executions of an order as they were noted, in the sequence of the log.
pub(super) fn noted_executions(
    view: &dyn View,
    order_id: OrderId,
) -> Result<Vec<Fill>, IndexError> {
    let mut noted = Vec::new();
    let (from, to) = keys::execution_range(order_id);
    view.scan(Space::Executions, (&from, &to), ScanOrder::Ascending, &mut |key, value| {
        noted.push(decode(key, value)?);
        Ok(true)
    })?;
    noted.sort_by(|(one, a), (other, b)| (one, &a.execution_id).cmp(&(other, &b.execution_id)));
    Ok(noted.into_iter().map(|(_, fill)| fill).collect())
}

/// The time of a noted execution, in its value.
pub(super) fn noted_at(value: &[u8]) -> Result<TimestampMicros, IndexError> {
    let [_, executed_at, ..] = words(value)?;
    Ok(TimestampMicros::new(executed_at))
}

/// LSN, time, shares and price in cents.
fn words(value: &[u8]) -> Result<[u64; 4], IndexError> {
    let unreadable = || IndexError::Unreadable { what: "an execution" };
    let (&format, words) = value.split_first().ok_or_else(unreadable)?;
    let (words, rest) = words.as_chunks();
    if format != FORMAT || !rest.is_empty() {
        return Err(unreadable());
    }
    let words: [[u8; 8]; 4] = words.try_into().map_err(|_| unreadable())?;
    Ok(words.map(u64::from_be_bytes))
}

/// The record that noted an execution last.
pub(super) fn noted_by(
    index: &Index,
    order_id: OrderId,
    id: &ExecutionId,
) -> Result<Option<Lsn>, IndexError> {
    let key = keys::execution(order_id, id);
    let Some(value) = index.view()?.get(Space::Executions, &key)? else { return Ok(None) };
    let [lsn, ..] = words(&value)?;
    Ok(Some(Lsn(lsn)))
}

fn encode(lsn: Lsn, fill: &Fill) -> Bytes {
    let words =
        [lsn.0, fill.executed_at.micros(), fill.num_shares, fill.price.cents().cast_unsigned()];
    let words = words.map(u64::to_be_bytes);
    [&[FORMAT][..], words.as_flattened()].concat().into()
}

fn decode(key: &[u8], value: &[u8]) -> Result<(u64, Fill), IndexError> {
    let unreadable = || IndexError::Unreadable { what: "an execution" };
    let execution_id = keys::execution_id(key).ok_or_else(unreadable)?;
    let [lsn, executed_at, num_shares, cents] = words(value)?;
    let price = PriceCents::new(cents.cast_signed()).map_err(|_| unreadable())?;
    let executed_at = TimestampMicros::new(executed_at);
    Ok((lsn, Fill { execution_id, price, num_shares, executed_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_round_trip_and_anything_else_is_refused() {
        let fill = Fill {
            execution_id: ExecutionId::new("e-1").unwrap(),
            price: PriceCents::new(12_345).unwrap(),
            num_shares: 7,
            executed_at: TimestampMicros::new(1_732_400_000_123_456),
        };
        let order_id = OrderId::from_u128(u128::MAX - 9);
        let (key, value) = (keys::execution(order_id, &fill.execution_id), encode(Lsn(5), &fill));
        assert_eq!(decode(&key, &value).unwrap(), (5, fill));
        let (from, to) = keys::execution_range(order_id);
        assert!(from <= key && key < to);
        assert!(decode(&key, b"").is_err() && decode(&key[..16], &value).is_err());
        for length in 0..value.len() {
            assert!(decode(&key, &value[..length]).is_err());
        }
        let longer = [&value[..], &[0]].concat();
        let other = [&[FORMAT + 1], &value[1..]].concat();
        assert!(decode(&key, &longer).is_err() && decode(&key, &other).is_err());
    }
}

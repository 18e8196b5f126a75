//! What happened to users' money and orders, in the sequence of the log: executions, busts, cancels, and
//! cash that moved.
//!
//! One value for each, under its user and its record, for good. Records of before there were
//! activities have none.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::store::{ScanOrder, Space, Write};
use super::{Index, IndexError, executions, keys};
use crate::order::{CashMoved, ExecutionEffect, Order, Status};
use crate::types::{
    ExecutionId, OrderId, PriceCents, Shares, Side, Symbol, TimestampMicros, UserId,
};
use crate::wal::Lsn;

/// First byte of a value; JSON follows.
const FORMAT: u8 = 1;

/// What kind of activity.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ActivityType {
    /// Shares of an order were executed.
    Fill,
    /// An execution was taken back.
    Bust,
    /// An order was cancelled, or has expired.
    Cancel,
    /// A new account began with a balance.
    Opening,
    /// Cash came from outside.
    Deposit,
    /// Cash went outside.
    Withdrawal,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    pub r#type: ActivityType,
    /// When Longbow recorded it.
    pub at: TimestampMicros,
    #[serde(flatten)]
    pub what: What,
}

/// What happened, by what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum What {
    /// An order.
    Order(OfOrder),
    /// Cash.
    #[serde(rename_all = "camelCase")]
    Cash {
        /// Names the movement.
        movement_id: String,
        /// Positive, also for a withdrawal.
        amount_in_cents: i64,
    },
}

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfOrder {
    pub order_id: OrderId,
    pub symbol: Symbol,
    pub position: Side,
    /// Shares executed or taken back; of a cancel those that were left.
    pub num_shares: Shares,
    /// Price of the execution; not of a cancel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_in_cents: Option<PriceCents>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// The id of the activity that a bust takes back, or a fill that replaces one under the same
    /// execution id; `None` if that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<String>,
    /// Why an order was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a list of activities selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityRequest {
    /// None selects all.
    pub types: Vec<ActivityType>,
    /// Those at this time or later.
    pub from: Option<TimestampMicros>,
    /// Those after this record.
    pub after: Option<Lsn>,
    /// At most so many.
    pub limit: usize,
}

/// Some of a user's activities, with the record of each, in the sequence of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Activities {
    pub found: Vec<(Lsn, Activity)>,
    /// Where to continue; `None` after the last.
    pub next: Option<Lsn>,
}

/// The activities of a batch.
#[derive(Debug, Default)]
pub(super) struct ActivityWriter {
    writes: Vec<Write>,
    /// Executions that count since this batch, and the record that says so.
    counted: HashMap<(OrderId, ExecutionId), Lsn>,
}

impl ActivityWriter {
    /// Notes a cash movement.
    pub(super) fn note_cash(&mut self, lsn: Lsn, moved: &CashMoved) -> Result<(), IndexError> {
        let r#type = match moved.kind {
            crate::order::CashMovementKind::Opening => ActivityType::Opening,
            crate::order::CashMovementKind::Deposit => ActivityType::Deposit,
            crate::order::CashMovementKind::Withdrawal => ActivityType::Withdrawal,
        };
        let (movement_id, amount_in_cents) = (moved.id.to_string(), moved.cents);
        let what = What::Cash { movement_id, amount_in_cents };
        self.push(&moved.user, lsn, &Activity { r#type, at: moved.at, what })
    }

    /// Notes what a record did to an execution of an order, of which so many shares counted until then,
    /// at that price. One that becomes void without having counted is no activity.
    pub(super) fn note_execution(
        &mut self,
        (index, lsn): (&Index, Lsn),
        order: &Order,
        (effect, counted): (&ExecutionEffect, Option<(Shares, PriceCents)>),
    ) -> Result<(), IndexError> {
        let first = match counted {
            Some(_) => self.record_of((index, order.order_id), effect.execution_id())?,
            None => None,
        };
        let takes_back = first.map(|lsn| lsn.0.to_string());
        let (r#type, id, (num_shares, price)) = match effect {
            ExecutionEffect::Counts(fill) => {
                let key = (order.order_id, fill.execution_id.clone());
                self.counted.insert(key, lsn);
                (ActivityType::Fill, &fill.execution_id, (fill.num_shares, fill.price))
            }
            ExecutionEffect::Void { execution_id, .. } => {
                let Some(terms) = counted else { return Ok(()) };
                (ActivityType::Bust, execution_id, terms)
            }
        };
        let what = What::Order(OfOrder {
            num_shares,
            price_in_cents: Some(price),
            execution_id: Some(id.clone()),
            takes_back,
            reason: None,
            ..OfOrder::about(order)
        });
        self.push(&order.user, lsn, &Activity { r#type, at: order.updated_at, what })
    }

    /// The record that made an execution count.
    fn record_of(
        &self,
        (index, order_id): (&Index, OrderId),
        id: &ExecutionId,
    ) -> Result<Option<Lsn>, IndexError> {
        match self.counted.get(&(order_id, id.clone())) {
            Some(lsn) => Ok(Some(*lsn)),
            None => executions::noted_by(index, order_id, id),
        }
    }

    /// Notes that a record has cancelled an order.
    pub(super) fn note_cancel(&mut self, lsn: Lsn, order: &Order) -> Result<(), IndexError> {
        assert_eq!(order.status, Status::Cancelled, "the record has cancelled the order");
        let reason = order.reason.as_ref().map(ToString::to_string);
        let what = What::Order(OfOrder { reason, ..OfOrder::about(order) });
        let activity = Activity { r#type: ActivityType::Cancel, at: order.updated_at, what };
        self.push(&order.user, lsn, &activity)
    }

    fn push(&mut self, user: &UserId, lsn: Lsn, activity: &Activity) -> Result<(), IndexError> {
        let mut value = vec![FORMAT];
        let written = serde_json::to_writer(&mut value, activity);
        written.map_err(|_| IndexError::Unreadable { what: "an activity" })?;
        let key = keys::change(user, lsn.0);
        self.writes.push(Write { space: Space::Activities, key, value: Some(value.into()) });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn write(&mut self, batch: &mut Vec<Write>) {
        self.counted.clear();
        batch.append(&mut self.writes);
    }
}

impl OfOrder {
    /// The order, and what is left of it.
    fn about(order: &Order) -> Self {
        Self {
            order_id: order.order_id,
            symbol: order.symbol,
            position: order.side,
            num_shares: order.shares_left(),
            price_in_cents: None,
            execution_id: None,
            takes_back: None,
            reason: None,
        }
    }
}

/// Most activities that one call looks at: those of other types are looked at, too.
const MAX_LOOKED_AT: usize = 2_000;

impl Index {
    /// Some of a user's activities that a request selects. There may be few or none although there are
    /// more.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn activities(
        &self,
        user: &UserId,
        request: &ActivityRequest,
    ) -> Result<Activities, IndexError> {
        let view = self.view()?;
        let after = match (request.after, request.from) {
            (Some(after), _) => after.0,
            (None, Some(from)) => before(&*view, user, from)?,
            (None, None) => 0,
        };
        let (mut all, mut looked_at) = (Activities::default(), 0);
        let (first, end) = keys::change_range(user, after);
        view.scan(Space::Activities, (&first, &end), ScanOrder::Ascending, &mut |key, value| {
            let lsn = keys::lsn_of_change(key)?;
            let activity = decode(value)?;
            let is_in_time = request.from.is_none_or(|from| activity.at >= from);
            if is_in_time && (request.types.is_empty() || request.types.contains(&activity.r#type))
            {
                all.found.push((Lsn(lsn), activity));
            }
            looked_at += 1;
            let is_full = all.found.len() >= request.limit || looked_at >= MAX_LOOKED_AT;
            all.next = is_full.then_some(Lsn(lsn));
            Ok(!is_full)
        })?;
        Ok(all)
    }
}

/// A record before the first activity at a time. Times never go back in the log.
fn before(
    view: &dyn super::store::View,
    user: &UserId,
    from: TimestampMicros,
) -> Result<u64, IndexError> {
    // All activities up to `low` are earlier.
    let (mut low, mut high) = (0, u64::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        let (first, end) = keys::change_range(user, middle);
        let mut next = None;
        view.scan(Space::Activities, (&first, &end), ScanOrder::Ascending, &mut |key, value| {
            next = Some((keys::lsn_of_change(key)?, decode(value)?.at));
            Ok(false)
        })?;
        match next {
            Some((lsn, at)) if at < from => low = lsn,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

fn decode(value: &[u8]) -> Result<Activity, IndexError> {
    let json = value.split_first().filter(|(format, _)| **format == FORMAT);
    let activity = json.and_then(|(_, json)| serde_json::from_slice(json).ok());
    activity.ok_or(IndexError::Unreadable { what: "an activity" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_written() {
        let of_order = What::Order(OfOrder {
            order_id: OrderId::from_u128(7),
            symbol: Symbol::new("IBM").unwrap(),
            position: Side::Sell,
            num_shares: 3,
            price_in_cents: PriceCents::new(100).ok(),
            execution_id: ExecutionId::new("e1").ok(),
            takes_back: Some("5".to_owned()),
            reason: None,
        });
        let cash = What::Cash { movement_id: "d1".to_owned(), amount_in_cents: 5 };
        for (r#type, what) in [(ActivityType::Bust, of_order), (ActivityType::Deposit, cash)] {
            let activity = Activity { r#type, at: TimestampMicros::new(9), what };
            let mut writer = ActivityWriter::default();
            let user = UserId::new("alice").unwrap();
            writer.push(&user, Lsn(3), &activity).unwrap();
            let value = writer.writes.pop().unwrap().value.unwrap();
            assert_eq!(decode(&value).unwrap(), activity);
            assert!(decode(&value[1..]).is_err());
        }
    }
}

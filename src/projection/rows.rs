//! Rows on their way into Postgres, a vector a column: that is how `unnest` takes them. And the
//! statements that take them.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::values::{
    Text, Timestamp, bigint, ending_word, position_word, time_in_force_word, uuid,
};
use crate::order::{Change, Event, OrderParts, TrackedOrder};
use crate::types::{ExecutionId, OrderId, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// Most rows of one statement: more gain nothing, and take memory on both sides.
pub(super) const MAX_ROWS: usize = 1_000;

/// Parameters of a statement.
pub(super) type Parameters<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Makes a struct of columns and the list of them as parameters.
macro_rules! columns {
    ($(#[$doc:meta])* $name:ident { $($column:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $($column: Vec<$kind>,)*
        }

        impl $name {
            pub(super) fn len(&self) -> usize {
                [$(self.$column.len(),)*].into_iter().min().unwrap_or(0)
            }

            pub(super) fn parameters(&self) -> Parameters<'_> {
                vec![$(&self.$column,)*]
            }
        }
    };
}

columns! {
    /// Rows of `orders`.
    OrderRows {
        user_id: Text,
        order_id: Uuid,
        user_partition: i16,
        client_order_id: Option<Text>,
        external_order_id: Option<Text>,
        symbol: Text,
        position: &'static str,
        time_in_force: &'static str,
        limit_price_cents: Option<i64>,
        num_shares: i64,
        filled_shares: i64,
        filled_value_cents: i64,
        over_filled: bool,
        status: &'static str,
        reason: Option<Text>,
        created_at: Timestamp,
        updated_at: Timestamp,
        submit_before: Timestamp,
        version: i64,
        ending: Option<&'static str>,
        cancel_requested: bool,
        user_cancelled: bool,
        taken_back: bool,
    }
}

columns! {
    /// Rows of `executions`.
    ExecutionRows {
        user_id: Text,
        order_id: Uuid,
        execution_id: Text,
        user_partition: i16,
        num_shares: Option<i64>,
        price_cents: Option<i64>,
        executed_at: Option<Timestamp>,
        recorded_at: Timestamp,
        busted_at: Option<Timestamp>,
    }
}

columns! {
    /// Rows of `external_orders`.
    ExternalRows {
        external_order_id: Text,
        user_id: Text,
        order_id: Uuid,
    }
}

columns! {
    /// Rows of `order_events`.
    EventRows {
        at: Timestamp,
        order_id: Uuid,
        version: i64,
        status: &'static str,
        filled_shares: i64,
        user_id: Text,
        user_partition: i16,
        event: &'static str,
        external_order_id: Option<Text>,
        execution_id: Option<Text>,
        execution_shares: Option<i64>,
        execution_price_cents: Option<i64>,
        executed_at: Option<Timestamp>,
        reason: Option<Text>,
        log_id: i64,
        lsn: i64,
    }
}

/// Takes rows of `orders`: each replaces an older version of itself.
pub(super) const UPSERT_ORDERS: &str = "\
    INSERT INTO orders (user_id, order_id, user_partition, client_order_id, external_order_id, \
        symbol, position, time_in_force, limit_price_cents, num_shares, filled_shares, \
        filled_value_cents, over_filled, status, reason, created_at, updated_at, submit_before, \
        version, ending, cancel_requested, user_cancelled, taken_back) \
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::smallint[], $4::text[], $5::text[], \
        $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], \
        $12::bigint[], $13::boolean[], $14::text[], $15::text[], $16::timestamptz[], \
        $17::timestamptz[], $18::timestamptz[], $19::bigint[], $20::text[], $21::boolean[], \
        $22::boolean[], $23::boolean[]) \
    ON CONFLICT (user_id, order_id) DO UPDATE SET \
        external_order_id = excluded.external_order_id, \
        filled_shares = excluded.filled_shares, \
        filled_value_cents = excluded.filled_value_cents, \
        over_filled = excluded.over_filled, status = excluded.status, reason = excluded.reason, \
        updated_at = excluded.updated_at, version = excluded.version, ending = excluded.ending, \
        cancel_requested = excluded.cancel_requested, \
        user_cancelled = excluded.user_cancelled, taken_back = excluded.taken_back \
    WHERE orders.version < excluded.version";

/// Takes rows of `executions`: one that is there already may only become void.
pub(super) const UPSERT_EXECUTIONS: &str = "\
    INSERT INTO executions (user_id, order_id, execution_id, user_partition, num_shares, \
        price_cents, executed_at, recorded_at, busted_at) \
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::smallint[], $5::bigint[], \
        $6::bigint[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[]) \
    ON CONFLICT (user_id, order_id, execution_id) DO UPDATE SET busted_at = excluded.busted_at \
    WHERE executions.busted_at IS NULL AND excluded.busted_at IS NOT NULL";

/// Takes rows of `external_orders`: the first order that has an id keeps it.
pub(super) const INSERT_EXTERNAL_ORDERS: &str = "\
    INSERT INTO external_orders (external_order_id, user_id, order_id) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) ON CONFLICT DO NOTHING";

/// Takes rows of `order_events`.
pub(super) const INSERT_ORDER_EVENTS: &str = "\
    INSERT INTO order_events (at, order_id, version, status, filled_shares, user_id, \
        user_partition, event, external_order_id, execution_id, execution_shares, \
        execution_price_cents, executed_at, reason, log_id, lsn) \
    SELECT * FROM unnest($1::timestamptz[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], \
        $6::text[], $7::smallint[], $8::text[], $9::text[], $10::text[], $11::bigint[], \
        $12::bigint[], $13::timestamptz[], $14::text[], $15::bigint[], $16::bigint[]) \
    ON CONFLICT DO NOTHING";

fn partition(order_id: OrderId) -> i16 {
    order_id.partition().get().into()
}

fn user_text(user: &UserId) -> Text {
    Text::new(user.as_str())
}

impl OrderRows {
    pub(super) fn push(&mut self, order: &OrderParts, status: &'static str) {
        self.user_id.push(user_text(&order.user));
        self.order_id.push(uuid(order.order_id));
        self.user_partition.push(partition(order.order_id));
        self.client_order_id.push(order.client_order_id.as_ref().map(|id| Text::new(id.as_str())));
        self.external_order_id
            .push(order.external_order_id.as_ref().map(|id| Text::new(id.as_str())));
        self.symbol.push(Text::new(order.symbol.as_str()));
        self.position.push(position_word(order.position));
        self.time_in_force.push(time_in_force_word(order.time_in_force));
        self.limit_price_cents.push(order.limit_price.map(|price| price.cents()));
        self.num_shares.push(bigint(order.num_shares));
        self.filled_shares.push(bigint(order.filled_shares));
        self.filled_value_cents.push(order.filled_value_cents);
        self.over_filled.push(order.filled_shares > order.num_shares);
        self.status.push(status);
        self.reason.push(order.reason.as_deref().map(Text::new));
        self.created_at.push(Timestamp(order.created_at));
        self.updated_at.push(Timestamp(order.updated_at));
        self.submit_before.push(Timestamp(order.submit_before));
        self.version.push(bigint(order.version));
        self.ending.push(order.ending.map(ending_word));
        self.cancel_requested.push(order.cancel_requested);
        self.user_cancelled.push(order.user_cancelled);
        self.taken_back.push(order.taken_back);
    }
}

/// What a batch does to one execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExecutionRow {
    /// Shares, price in cents, and when the exchange made it.
    pub(super) counted: Option<(u64, i64, TimestampMicros)>,
    pub(super) recorded_at: TimestampMicros,
    pub(super) busted_at: Option<TimestampMicros>,
}

impl ExecutionRows {
    pub(super) fn push(
        &mut self,
        (user, order_id): (&UserId, OrderId),
        id: &ExecutionId,
        row: &ExecutionRow,
    ) {
        self.user_id.push(user_text(user));
        self.order_id.push(uuid(order_id));
        self.execution_id.push(Text::new(id.as_str()));
        self.user_partition.push(partition(order_id));
        self.num_shares.push(row.counted.map(|(shares, ..)| bigint(shares)));
        self.price_cents.push(row.counted.map(|(_, cents, _)| cents));
        self.executed_at.push(row.counted.map(|(.., at)| Timestamp(at)));
        self.recorded_at.push(Timestamp(row.recorded_at));
        self.busted_at.push(row.busted_at.map(Timestamp));
    }
}

impl ExternalRows {
    pub(super) fn push(&mut self, external_order_id: &str, user: &UserId, order_id: OrderId) {
        self.external_order_id.push(Text::new(external_order_id));
        self.user_id.push(user_text(user));
        self.order_id.push(uuid(order_id));
    }
}

impl EventRows {
    /// An event and the order as it has left it.
    pub(super) fn push(
        &mut self,
        (log_id, lsn): (LogId, Lsn),
        event: &Event,
        after: &TrackedOrder,
    ) {
        let order = after.order();
        self.at.push(Timestamp(event.at()));
        self.order_id.push(uuid(order.order_id));
        self.version.push(bigint(order.version));
        self.status.push(order.status.as_str());
        self.filled_shares.push(bigint(order.filled_shares));
        self.user_id.push(user_text(&order.user));
        self.user_partition.push(partition(order.order_id));
        self.event.push(event.name());
        let (mut external, mut execution, mut fill, mut reason) = (None, None, None, None);
        if let Event::Changed(changed) = event {
            match &changed.change {
                Change::Accepted { external_order_id } => {
                    external = Some(Text::new(external_order_id.as_str()));
                }
                Change::Rejected { reason: words } | Change::CancelRejected { reason: words } => {
                    reason = Some(Text::new(words));
                }
                Change::Cancelled { .. } | Change::NotAccepted => {
                    reason = order.reason.as_deref().map(Text::new);
                }
                Change::Filled(filled) => {
                    execution = Some(Text::new(filled.execution_id.as_str()));
                    fill = Some(filled);
                }
                Change::Busted { execution_id } => {
                    execution = Some(Text::new(execution_id.as_str()));
                }
                Change::CancelRequested => {}
            }
        }
        self.external_order_id.push(external);
        self.execution_id.push(execution);
        self.execution_shares.push(fill.map(|fill| bigint(fill.num_shares)));
        self.execution_price_cents.push(fill.map(|fill| fill.price.cents()));
        self.executed_at.push(fill.map(|fill| Timestamp(fill.executed_at)));
        self.reason.push(reason);
        self.log_id.push(log_id.0.cast_signed());
        self.lsn.push(bigint(lsn.0));
    }
}

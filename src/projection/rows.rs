//! Rows to be written to Postgres, as one vector per column, which is how `unnest` takes them; and
//! the statements that write them.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::values::{Text, Timestamp, bigint, uuid};
use crate::money::Reservation;
use crate::order::{Change, Event, OpenCase, Order, OrderParts, TrackedOrder};
use crate::types::{ExecutionId, OrderId, PriceCents, Shares, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

pub(super) type Parameters<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Defines a struct of columns, their list as parameters, and the statement that inserts them.
macro_rules! columns {
    ($(#[$doc:meta])* $name:ident of $table:ident { $($column:ident: $kind:ty => $sql:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(in crate::projection) struct $name {
            $($column: Vec<$kind>,)*
        }

        impl $name {
            const COLUMNS: &[(&'static str, &'static str)] =
                &[$((stringify!($column), stringify!($sql)),)*];

            pub(in crate::projection) fn len(&self) -> usize {
                let lengths = [$(self.$column.len(),)*];
                assert!(
                    lengths.windows(2).all(|pair| pair.first() == pair.last()),
                    "every row of {} has a value in each column: {lengths:?}",
                    stringify!($table)
                );
                lengths.first().copied().unwrap_or(0)
            }

            pub(in crate::projection) fn is_empty(&self) -> bool {
                self.len() == 0
            }

            pub(in crate::projection) fn parameters(&self) -> Parameters<'_> {
                vec![$(&self.$column,)*]
            }

            pub(in crate::projection) fn insert() -> String {
                insert(stringify!($table), Self::COLUMNS)
            }
        }
    };
}

fn insert(table: &str, columns: &[(&str, &str)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let numbered = columns.iter().zip(1..);
    let arrays: Vec<String> =
        numbered.map(|((_, kind), number)| format!("unnest(${number}::{kind}[])")).collect();
    // Not `FROM unnest(...)`, which materializes each column before the first row: a tenth of the
    // work for a few dozen rows. All arrays have the same length.
    format!("INSERT INTO {table} ({}) SELECT {}", names.join(", "), arrays.join(", "))
}

mod money;

pub(super) use money::{
    AccountRows, CashMovementRows, Entry, LedgerRows, PositionRows, write_accounts, write_positions,
};

columns! {
    /// Rows of `orders`.
    OrderRows of orders {
        user_id: Text => text,
        order_id: Uuid => uuid,
        user_partition: i16 => smallint,
        client_order_id: Option<Text> => text,
        external_order_id: Option<Text> => text,
        symbol: Text => text,
        position: &'static str => text,
        time_in_force: &'static str => text,
        limit_price_cents: Option<i64> => bigint,
        num_shares: i64 => bigint,
        filled_shares: i64 => bigint,
        filled_value_cents: i64 => bigint,
        over_filled: bool => boolean,
        status: &'static str => text,
        reason: Option<Text> => text,
        created_at: Timestamp => timestamptz,
        updated_at: Timestamp => timestamptz,
        submit_before: Timestamp => timestamptz,
        version: i64 => bigint,
        ending: Option<&'static str> => text,
        cancel_requested: bool => boolean,
        user_cancelled: bool => boolean,
        taken_back: bool => boolean,
        open_cases: Option<Text> => text,
        reserves: Option<&'static str> => text,
        reserved_price_cents: Option<i64> => bigint,
    }
}

columns! {
    /// Rows of `executions`.
    ExecutionRows of executions {
        user_id: Text => text,
        order_id: Uuid => uuid,
        execution_id: Text => text,
        user_partition: i16 => smallint,
        num_shares: Option<i64> => bigint,
        price_cents: Option<i64> => bigint,
        executed_at: Option<Timestamp> => timestamptz,
        recorded_at: Timestamp => timestamptz,
        busted_at: Option<Timestamp> => timestamptz,
        taken_back: bool => boolean,
        symbol: Text => text,
        profit_cents: Option<i64> => bigint,
    }
}

columns! {
    /// Rows of `external_orders`.
    ExternalRows of external_orders {
        external_order_id: Text => text,
        user_id: Text => text,
        order_id: Uuid => uuid,
    }
}

columns! {
    /// Rows of `order_events`.
    EventRows of order_events {
        at: Timestamp => timestamptz,
        order_id: Uuid => uuid,
        version: i64 => bigint,
        status: &'static str => text,
        filled_shares: i64 => bigint,
        user_id: Text => text,
        user_partition: i16 => smallint,
        event: &'static str => text,
        external_order_id: Option<Text> => text,
        execution_id: Option<Text> => text,
        execution_shares: Option<i64> => bigint,
        execution_price_cents: Option<i64> => bigint,
        executed_at: Option<Timestamp> => timestamptz,
        reason: Option<Text> => text,
        log_id: i64 => bigint,
        lsn: i64 => bigint,
        client_order_id: Option<Text> => text,
        symbol: Option<Text> => text,
        side: Option<&'static str> => text,
        time_in_force: Option<&'static str> => text,
        limit_price_cents: Option<i64> => bigint,
        num_shares: Option<i64> => bigint,
    }
}

/// A row of `orders` replaces an older version of itself.
pub(super) const REPLACE_OLDER: &str = "\
    ON CONFLICT (user_id, order_id) DO UPDATE SET \
        external_order_id = excluded.external_order_id, \
        filled_shares = excluded.filled_shares, \
        filled_value_cents = excluded.filled_value_cents, \
        over_filled = excluded.over_filled, status = excluded.status, reason = excluded.reason, \
        updated_at = excluded.updated_at, version = excluded.version, ending = excluded.ending, \
        cancel_requested = excluded.cancel_requested, \
        user_cancelled = excluded.user_cancelled, taken_back = excluded.taken_back, \
        open_cases = excluded.open_cases \
    WHERE orders.version < excluded.version";

/// A row of `orders` is overwritten, whatever it holds.
pub(super) fn replace_any() -> String {
    let names = OrderRows::COLUMNS.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.filter(|name| !["user_id", "order_id"].contains(name)).collect();
    let of = |table: &str| {
        let list: Vec<String> = names.iter().map(|name| format!("{table}.{name}")).collect();
        list.join(", ")
    };
    format!(
        "ON CONFLICT (user_id, order_id) DO UPDATE SET ({}) = ({}) WHERE ({}) IS DISTINCT FROM ({})",
        names.join(", "),
        of("excluded"),
        of("orders"),
        of("excluded")
    )
}

/// An execution that the log reports first is written as it says, whatever is there.
pub(super) const ON_NEW_EXECUTION: &str = "\
    ON CONFLICT (user_id, order_id, execution_id) DO UPDATE SET \
        (user_partition, num_shares, price_cents, executed_at, recorded_at, busted_at, taken_back, \
                symbol, profit_cents) \
            = (excluded.user_partition, excluded.num_shares, excluded.price_cents, \
                excluded.executed_at, excluded.recorded_at, excluded.busted_at, \
                excluded.taken_back, excluded.symbol, excluded.profit_cents) \
    WHERE (executions.user_partition, executions.num_shares, executions.price_cents, \
            executions.executed_at, executions.recorded_at, executions.busted_at, \
            executions.taken_back, executions.symbol, executions.profit_cents) \
        IS DISTINCT FROM (excluded.user_partition, excluded.num_shares, excluded.price_cents, \
            excluded.executed_at, excluded.recorded_at, excluded.busted_at, excluded.taken_back, \
            excluded.symbol, excluded.profit_cents)";

/// An execution that the log reported before becomes void and keeps its shares, or counts again,
/// perhaps with other shares. Its first recorded time stays.
pub(super) const ON_KNOWN_EXECUTION: &str = "\
    ON CONFLICT (user_id, order_id, execution_id) DO UPDATE SET \
        num_shares = coalesce(excluded.num_shares, executions.num_shares), \
        price_cents = coalesce(excluded.price_cents, executions.price_cents), \
        executed_at = coalesce(excluded.executed_at, executions.executed_at), \
        busted_at = excluded.busted_at, taken_back = excluded.taken_back, \
        profit_cents = excluded.profit_cents \
    WHERE (executions.num_shares, executions.price_cents, executions.executed_at, \
            executions.busted_at, executions.taken_back, executions.profit_cents) \
        IS DISTINCT FROM (coalesce(excluded.num_shares, executions.num_shares), \
            coalesce(excluded.price_cents, executions.price_cents), \
            coalesce(excluded.executed_at, executions.executed_at), \
            excluded.busted_at, excluded.taken_back, excluded.profit_cents)";

/// An execution counts or is void as the index has it, which does not know since when.
pub(super) const ON_COPIED_EXECUTION: &str = "\
    ON CONFLICT (user_id, order_id, execution_id) DO UPDATE SET \
        user_partition = excluded.user_partition, symbol = excluded.symbol, \
        num_shares = coalesce(excluded.num_shares, executions.num_shares), \
        price_cents = coalesce(excluded.price_cents, executions.price_cents), \
        executed_at = coalesce(executions.executed_at, excluded.executed_at), \
        busted_at = CASE WHEN excluded.busted_at IS NOT NULL \
            THEN coalesce(executions.busted_at, excluded.busted_at) END, \
        taken_back = excluded.taken_back, profit_cents = excluded.profit_cents \
    WHERE (executions.busted_at IS NULL) <> (excluded.busted_at IS NULL) \
        OR executions.taken_back <> excluded.taken_back \
        OR executions.user_partition <> excluded.user_partition \
        OR executions.symbol IS DISTINCT FROM excluded.symbol \
        OR executions.profit_cents IS DISTINCT FROM excluded.profit_cents \
        OR (executions.num_shares, executions.price_cents) IS DISTINCT FROM \
            (coalesce(excluded.num_shares, executions.num_shares), \
                coalesce(excluded.price_cents, executions.price_cents))";

/// An exchange id is moved to this order, unless the order that has it has that id in its own row.
pub(super) const ON_COPIED_EXTERNAL: &str = "\
    ON CONFLICT (external_order_id) DO UPDATE \
        SET user_id = excluded.user_id, order_id = excluded.order_id \
    WHERE NOT EXISTS (SELECT FROM orders o WHERE o.user_id = external_orders.user_id \
        AND o.order_id = external_orders.order_id \
        AND o.external_order_id = external_orders.external_order_id)";

/// What an order reserves, as the column `reserves` has it.
pub(super) const RESERVES_CASH: &str = "cash";
pub(super) const RESERVES_SHARES: &str = "shares";

/// Existing rows stay: the first order with an exchange id keeps it, and events never change.
pub(super) const KEEP_EXISTING: &str = "ON CONFLICT DO NOTHING";

/// Open cases as the column has them: JSON, or null if there are none.
fn cases_text(cases: &[OpenCase]) -> Option<Text> {
    if cases.is_empty() {
        return None;
    }
    let json = serde_json::to_string(cases).unwrap_or_else(|error| {
        unreachable!("cases are strings and numbers, which JSON can represent: {error}")
    });
    Some(Text::new(&json))
}

fn partition(order_id: OrderId) -> i16 {
    order_id.partition().get().into()
}

fn user_text(user: &UserId) -> Text {
    Text::new(user.as_str())
}

impl OrderRows {
    /// The columns that [`unchanged`](super::unchanged) compares: user, id, version, status and
    /// time.
    pub(super) fn summary(&self) -> Parameters<'_> {
        vec![&self.user_id, &self.order_id, &self.version, &self.status, &self.updated_at]
    }

    pub(super) fn push(&mut self, order: &OrderParts, status: &'static str, cases: &[OpenCase]) {
        self.user_id.push(user_text(&order.user));
        self.order_id.push(uuid(order.order_id));
        self.user_partition.push(partition(order.order_id));
        self.client_order_id.push(order.client_order_id.as_ref().map(|id| Text::new(id.as_str())));
        self.external_order_id
            .push(order.external_order_id.as_ref().map(|id| Text::new(id.as_str())));
        self.symbol.push(Text::new(order.symbol.as_str()));
        self.position.push(order.side.into_str());
        self.time_in_force.push(order.time_in_force.into_str());
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
        self.ending.push(order.ending.map(<&str>::from));
        self.cancel_requested.push(order.cancel_requested);
        self.user_cancelled.push(order.user_cancelled);
        self.taken_back.push(order.taken_back);
        self.open_cases.push(cases_text(cases));
        let (reserves, price) = match order.reservation {
            Reservation::Nothing => (None, None),
            Reservation::Cash(price) => (Some(RESERVES_CASH), Some(price.cents())),
            Reservation::Shares => (Some(RESERVES_SHARES), None),
        };
        self.reserves.push(reserves);
        self.reserved_price_cents.push(price);
    }
}

/// The effect of a batch on one execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExecutionRow {
    /// Whether its order knew it before the batch.
    pub(super) was_known: bool,
    /// Shares, price in cents, and when the exchange executed it.
    pub(super) counted: Option<(u64, i64, TimestampMicros)>,
    /// When it was first recorded.
    pub(super) recorded_at: TimestampMicros,
    pub(super) busted_at: Option<TimestampMicros>,
    pub(super) taken_back: bool,
}

impl ExecutionRows {
    pub(super) fn push(&mut self, tracked: &TrackedOrder, id: &ExecutionId, row: &ExecutionRow) {
        let order = tracked.order();
        self.user_id.push(user_text(&order.user));
        self.order_id.push(uuid(order.order_id));
        self.execution_id.push(Text::new(id.as_str()));
        self.user_partition.push(partition(order.order_id));
        self.num_shares.push(row.counted.map(|(shares, ..)| bigint(shares)));
        self.price_cents.push(row.counted.map(|(_, cents, _)| cents));
        self.executed_at.push(row.counted.map(|(.., at)| Timestamp(at)));
        self.recorded_at.push(Timestamp(row.recorded_at));
        self.busted_at.push(row.busted_at.map(Timestamp));
        self.taken_back.push(row.taken_back);
        self.symbol.push(Text::new(order.symbol.as_str()));
        let booked = tracked.executions().booked(id);
        self.profit_cents.push(booked.map(|booked| booked.profit_cents));
    }
}

impl ExternalRows {
    /// Adds all rows of others.
    pub(super) fn append(&mut self, others: Self) {
        self.external_order_id.extend(others.external_order_id);
        self.user_id.extend(others.user_id);
        self.order_id.extend(others.order_id);
    }

    pub(super) fn push(&mut self, external_order_id: &str, user: &UserId, order_id: OrderId) {
        self.external_order_id.push(Text::new(external_order_id));
        self.user_id.push(user_text(user));
        self.order_id.push(uuid(order_id));
    }
}

impl EventRows {
    /// Adds an event, with the order as the event left it, and shares and price of an execution that
    /// counts no more by it.
    pub(super) fn push(
        &mut self,
        (log_id, lsn): (LogId, Lsn),
        event: &Event,
        after: &TrackedOrder,
        voided: Option<(Shares, PriceCents)>,
    ) {
        let order = after.order();
        self.at.push(Timestamp(event.at()));
        self.order_id.push(uuid(order.order_id));
        self.version.push(bigint(order.version));
        self.status.push(order.status.into_str());
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
                Change::Rejected { reason: text } | Change::CancelRejected { reason: text } => {
                    reason = Some(Text::new(text));
                }
                Change::Cancelled { .. } | Change::NotAccepted => {
                    reason = order.reason.as_deref().map(Text::new);
                }
                Change::Filled(filled) => {
                    execution = Some(Text::new(filled.execution_id.as_str()));
                    fill = Some(filled);
                }
                Change::Busted { execution_id } | Change::TakenBack { execution_id } => {
                    execution = Some(Text::new(execution_id.as_str()));
                }
                Change::CancelRequested => {}
                Change::CaseOpened(case) => {
                    fill = case.execution.as_ref();
                    execution = fill.map(|fill| Text::new(fill.execution_id.as_str()));
                    reason = Some(Text::new(&format!("{}: {}", case.cause.into_str(), case.text)));
                }
                Change::CaseClosed(decision) => reason = Some(Text::new(&decision.to_string())),
                Change::ClosedByOperator(act) => {
                    reason = Some(Text::new(&format!("{}: {}", act.by, act.reason)));
                }
            }
        }
        self.external_order_id.push(external);
        self.execution_id.push(execution);
        let amounts = fill.map(|fill| (fill.num_shares, fill.price)).or(voided);
        self.execution_shares.push(amounts.map(|(num_shares, _)| bigint(num_shares)));
        self.execution_price_cents.push(amounts.map(|(_, price)| price.cents()));
        self.executed_at.push(fill.map(|fill| Timestamp(fill.executed_at)));
        self.reason.push(reason);
        self.log_id.push(log_id.0.cast_signed());
        self.lsn.push(bigint(lsn.0));
        self.push_terms(matches!(event, Event::Created(_)).then_some(order));
    }

    /// Of the event that creates an order.
    fn push_terms(&mut self, order: Option<&Order>) {
        let key = order.and_then(|order| order.client_order_id.as_ref());
        self.client_order_id.push(key.map(|key| Text::new(key.as_str())));
        self.symbol.push(order.map(|order| Text::new(order.symbol.as_str())));
        self.side.push(order.map(|order| order.side.into_str()));
        self.time_in_force.push(order.map(|order| order.time_in_force.into_str()));
        let limit = order.and_then(|order| order.limit_price);
        self.limit_price_cents.push(limit.map(|price| price.cents()));
        self.num_shares.push(order.map(|order| bigint(order.num_shares)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_lists_its_columns_in_order() {
        let expected = "INSERT INTO external_orders (external_order_id, user_id, order_id) \
            SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::uuid[])";
        assert_eq!(ExternalRows::insert(), expected);
    }
}

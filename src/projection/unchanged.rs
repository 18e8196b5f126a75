//! Rows that were sent and not taken: something else is there, which nobody here has written.

use tokio_postgres::Client;

use super::batch::Batch;
use super::transaction::Part;
use super::{PostgresServer, ProjectionError, read};

/// Most orders that are named at a time.
const NAMED: usize = 10;

/// The rows of a batch that are not there as they were sent. The columns are those of
/// [`OrderRows::names`](super::rows::OrderRows::names).
const OTHER_ROWS: &str = "\
    SELECT w.user_id, w.order_id, w.version, w.status, o.version, o.status \
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::timestamptz[]) \
        AS w (user_id, order_id, version, status, updated_at) \
    LEFT JOIN orders o USING (user_id, order_id) \
    WHERE (o.version, o.status, o.updated_at) IS DISTINCT FROM (w.version, w.status, w.updated_at) \
    LIMIT $6";

/// Says which parts of a batch were not taken as a whole, and of orders which ones.
pub(super) async fn tell(
    client: &Client,
    server: &PostgresServer,
    unchanged: &[(Part, u64)],
    batch: &Batch,
) -> Result<(), ProjectionError> {
    for (part, rows) in unchanged {
        tracing::error!(
            %server,
            table = part.table(),
            rows,
            through = %batch.last,
            "Postgres has not taken rows, because others are there that Longbow has not written: run \
             `longbow verify --repair` with the server stopped"
        );
    }
    for rows in [&batch.orders, &batch.new_orders] {
        if rows.is_empty() {
            continue;
        }
        let mut parameters = rows.names();
        let most = bigint_of(NAMED);
        parameters.push(&most);
        let found = client.query(OTHER_ROWS, &parameters).await;
        let found = found.map_err(ProjectionError::of(server, "tell what is there instead"))?;
        for row in &found {
            let (user, status): (&str, &str) = (row.get(0), row.get(3));
            tracing::error!(
                %server,
                user,
                order = %read::order_id(row, 1),
                version = row.get::<_, i64>(2),
                status,
                found_version = row.get::<_, Option<i64>>(4),
                found_status = row.get::<_, Option<&str>>(5),
                "the row of an order in Postgres is not what the log says"
            );
        }
    }
    Ok(())
}

fn bigint_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

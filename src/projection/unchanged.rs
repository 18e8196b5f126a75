//! Reports rows that Postgres did not take, because rows that Longbow did not write are in their
//! place.

use tokio_postgres::Client;

use super::batch::Batch;
use super::transaction::Part;
use super::{PostgresServer, ProjectionError, read};

/// Most orders logged at a time.
const NAMED: usize = 10;

/// The orders of a batch whose rows differ from what was sent. The parameters are those of
/// [`OrderRows::summary`](super::rows::OrderRows::summary).
const OTHER_ROWS: &str = "\
    SELECT w.user_id, w.order_id, w.version, w.status, o.version, o.status \
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::timestamptz[]) \
        AS w (user_id, order_id, version, status, updated_at) \
    LEFT JOIN orders o USING (user_id, order_id) \
    WHERE (o.version, o.status, o.updated_at) IS DISTINCT FROM (w.version, w.status, w.updated_at) \
    LIMIT $6";

/// Logs the parts of a batch that were not taken completely, and the orders among them.
pub(super) async fn log(
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
            "Postgres ignored rows, because rows that Longbow did not write are in their place: run \
             `longbow verify --repair` with the server stopped"
        );
    }
    for rows in [&batch.orders, &batch.new_orders] {
        if rows.is_empty() {
            continue;
        }
        let mut parameters = rows.summary();
        let most = bigint_of(NAMED);
        parameters.push(&most);
        let found = client.query(OTHER_ROWS, &parameters).await;
        let found = found.map_err(ProjectionError::of(server, "read the rows in their place"))?;
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
                "the row of an order in Postgres differs from the log"
            );
        }
    }
    Ok(())
}

fn bigint_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

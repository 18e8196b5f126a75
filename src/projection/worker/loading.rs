//! Reads back from Postgres what a batch needs and memory lacks.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::super::intake::{Intake, Taken};
use super::super::{Owner, ProjectionError, batch, read, read_accounts};
use super::{ProjectionWorker, with_causes};
use crate::types::OrderId;
use crate::wal::Lsn;

impl ProjectionWorker {
    /// Reads back orders that change again long after they were written.
    pub(super) async fn load_missing(
        &self,
        client: &Client,
        Taken { events, last }: &Taken,
        intake: &mut Intake,
    ) -> Result<(), ProjectionError> {
        let missing: Vec<OrderId> = batch::missing(events, &intake.working);
        if missing.is_empty() {
            return Ok(());
        }
        let before = Lsn(events.first().map_or(last.0, |(lsn, _)| lsn.0 - 1));
        let owners = (self.owners)(&missing, (before.max(intake.written()), *last))
            .map_err(ProjectionError::Owners)?;
        let owned: Vec<(Owner, OrderId)> =
            owners.into_iter().zip(missing).filter_map(|(owner, id)| Some((owner?, id))).collect();
        let versions: HashMap<OrderId, u64> =
            owned.iter().filter_map(|(owner, id)| Some((*id, owner.version?))).collect();
        let wanted: Vec<_> = owned.into_iter().map(|(owner, id)| (owner.user, id)).collect();
        let loaded = read::orders(client, &self.server, &wanted).await?;
        self.metrics.loaded_orders.inc_by(loaded.len() as u64);
        for order in &loaded {
            let Some(reached) = versions.get(&order.order().order_id) else { continue };
            if let Err(error) = read::check_version(&self.server, order, *reached) {
                if !self.pace.is_eager() {
                    return Err(error);
                }
                // Otherwise all replies would wait for an operator.
                self.metrics.unchanged_rows.inc();
                tracing::error!(error = with_causes(&error), "a row in Postgres was changed");
            }
        }
        for order in loaded {
            intake.working.insert(order.order().order_id, order, before);
        }
        Ok(())
    }

    /// Reads the accounts that a batch moves and memory lacks. A user without one has never had money.
    pub(super) async fn load_accounts(
        &self,
        client: &Client,
        Taken { events, last }: &Taken,
        intake: &mut Intake,
    ) -> Result<(), ProjectionError> {
        let missing = batch::missing_accounts(events, &intake.working, &intake.accounts);
        if missing.is_empty() {
            return Ok(());
        }
        let before = Lsn(events.first().map_or(last.0, |(lsn, _)| lsn.0 - 1));
        let mut loaded = read_accounts::of_users(client, &self.server, &missing).await?;
        for user in missing {
            let account = loaded.remove(&user).unwrap_or_default();
            intake.accounts.working.insert(user, account, before);
        }
        Ok(())
    }
}

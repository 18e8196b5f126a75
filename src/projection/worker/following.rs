//! One connection of a projection thread: how it begins, and how it learns which partitions it
//! writes.

use std::time::Instant;

use tokio_postgres::Client;

use super::super::account_rows::KeptAccounts;
use super::super::connection::{Connection, MEMBER_SESSION, in_time};
use super::super::intake::Intake;
use super::super::position::{self, Claim, OurLog, Positions};
use super::super::shared_ids::SharedIdNotes;
use super::super::transaction::Statements;
use super::super::{Ownership, OwnershipChange, ProjectionError, migrations, preflight};
use super::ProjectionWorker;
use crate::wal::{Lsn, WalError};

/// The state of one connection.
pub(super) struct Following {
    pub(super) connection: Connection,
    pub(super) statements: Statements,
    /// Prepared when the first exchange id is there already.
    pub(super) shared_id_notes: Option<SharedIdNotes>,
    pub(super) epoch: i64,
    pub(super) intake: Intake,
    /// The positions of the partitions, as known here.
    pub(super) positions: Positions,
    /// The last committed record.
    pub(super) committed: Lsn,
    /// The position that all partitions advanced to, and when. The log is kept from there.
    pub(super) all_advanced_to: Lsn,
    pub(super) all_advanced_at: Instant,
    /// When the server last answered.
    pub(super) answered_at: Instant,
    /// Whether the connection was logged.
    pub(super) is_logged: bool,
    /// The last change of the partitions that are ours which it knows.
    pub(super) owned_since: Option<OwnershipChange>,
}

impl ProjectionWorker {
    /// Connects, and goes on from the positions that the server has.
    pub(super) async fn begin(&mut self) -> Result<Following, ProjectionError> {
        let server = &self.server.clone();
        let mut connection = Connection::open(server).await?;
        self.metrics.connects.inc();
        if !self.is_session_checked {
            preflight::check_session(&connection.client, server).await?;
            self.is_session_checked = true;
        }
        migrations::prepare(&mut connection.client, server, self.migrates).await?;
        connection.keep_memory(server).await?;
        let owned_since = self.ownership.as_ref().map(Ownership::newest);
        let claim = self.claim(&mut connection.client).await?;
        let written = self.log.committed();
        let from = claim.positions.least().min(written);
        let reader = self.log.reader(from).map_err(|error| match error {
            WalError::CutOff { first, .. } => {
                ProjectionError::MissingRecords { server: server.to_string(), found: from, first }
            }
            error => ProjectionError::Log(error),
        })?;
        self.claim.advance(from);
        // In this order, so that `slowest` never goes back.
        self.progress.set_held(self.number, claim.positions.least_of(&self.held.partitions()));
        self.progress.reach(self.number, from);
        if let (Some(ownership), Some(change)) = (&self.ownership, owned_since) {
            ownership.follow(change);
        }
        Ok(Following {
            connection,
            statements: Statements::default(),
            shared_id_notes: None,
            epoch: claim.epoch,
            intake: Intake::new(
                reader,
                (claim.positions.clone(), claim.kept),
                written,
                self.held.partitions(),
            ),
            positions: claim.positions,
            committed: from,
            all_advanced_to: from,
            all_advanced_at: Instant::now(),
            answered_at: Instant::now(),
            is_logged: false,
            owned_since,
        })
    }

    /// Writes the partitions that are ours now, if others are than before. Nothing of those that have
    /// come was in the log until now, and everything of those that go is written.
    pub(super) async fn follow_ownership(
        &self,
        session: &mut Following,
    ) -> Result<(), ProjectionError> {
        let Some(ownership) = &self.ownership else { return Ok(()) };
        let newest = ownership.newest();
        if session.owned_since.is_some_and(|known| known >= newest) {
            return Ok(());
        }
        let client = &session.connection.client;
        let owned = position::owned(client, &self.server, (session.epoch, ownership));
        let owned = in_time(&self.server, owned).await??;
        session.positions.own(&owned);
        session.intake.own(&owned);
        session.owned_since = Some(newest);
        ownership.follow(newest);
        Ok(())
    }

    /// The right to write: an epoch of our own for all users of the server, or what this node owns.
    async fn claim(&mut self, client: &mut Client) -> Result<Claim, ProjectionError> {
        let server = &self.server;
        let Some(ownership) = &self.ownership else {
            let log = OurLog { log_id: self.log.log_id(), committed: self.log.committed() };
            let claim = position::claim(client, server, log, self.epoch).await?;
            self.epoch = Some(claim.epoch);
            return Ok(claim);
        };
        let epoch = ownership
            .epoch()
            .ok_or_else(|| ProjectionError::NotJoined { server: server.to_string() })?;
        // Those who take over the users wait for a transaction that nobody goes on with.
        let set = in_time(server, client.batch_execute(MEMBER_SESSION)).await?;
        set.map_err(ProjectionError::of(server, "set up the session"))?;
        let positions = position::owned(client, server, (epoch, ownership)).await?;
        // Whoever joined has seen to it.
        Ok(Claim { epoch, positions, kept: KeptAccounts::ALL })
    }
}

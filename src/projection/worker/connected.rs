//! Whether a server answers, as the gauge `projection_connected` shows it.

use std::convert::Infallible;
use std::time::Duration;

use super::super::connection::{Connection, within};
use super::super::{PostgresServer, ProjectionError};
use crate::metrics::Gauge;

/// Longest time for a batch, and for the orders read back for it. After that the worker reconnects
/// and sends it again.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a batch takes at most times. After that the server may have frozen, and is asked over another
/// connection, as often.
const BUSY_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a server may take to say that it is there.
pub(super) const IS_THERE_TIMEOUT: Duration = Duration::from_secs(3);

/// Counts a server as connected while it answers.
pub(super) struct Connected {
    gauge: Gauge,
    raised: Option<Raised>,
}

impl Connected {
    /// It does.
    pub(super) fn new(gauge: &Gauge) -> Self {
        Self { gauge: gauge.clone(), raised: Some(Raised::new(gauge)) }
    }

    fn note(&mut self, answers: bool) {
        if !answers {
            self.raised = None;
        } else if self.raised.is_none() {
            self.raised = Some(Raised::new(&self.gauge));
        }
    }

    /// Waits for a batch, or for what it needs. Only the whole of it shows that the server answers, so one
    /// that takes long is watched.
    pub(super) async fn follow<T>(
        &mut self,
        server: &PostgresServer,
        work: impl Future<Output = Result<T, ProjectionError>>,
    ) -> Result<T, ProjectionError> {
        let done = tokio::select! {
            biased;
            done = within(BATCH_TIMEOUT, server, work) => done??,
            never = self.watch(server) => match never {},
        };
        self.note(true);
        Ok(done)
    }

    /// Asks the server now and then whether it is there. Does not end.
    async fn watch(&mut self, server: &PostgresServer) -> Infallible {
        loop {
            tokio::time::sleep(BUSY_CHECK_INTERVAL).await;
            let opened = Connection::open_within(IS_THERE_TIMEOUT, server).await;
            self.note(!opened.is_err_and(|error| error.is_absence()));
        }
    }
}

/// Raises a gauge by one for as long as it lives.
pub(super) struct Raised(Gauge);

impl Raised {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

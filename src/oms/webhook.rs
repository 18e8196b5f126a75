//! Lines that the exchange posts to us, and the registration of our webhook.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;

use compact_str::CompactString;

use super::answers::SessionQueues;
use super::metrics::OmsMetrics;
use super::sessions::{BACKOFF, back_off};
use super::throttle::LONGEST_PAUSE;
use crate::exchange::wire::{FeedLine, WebhookRequest};
use crate::exchange::{ExchangeSession, Results, SessionError, UnreadableElement};
use crate::runtime::sleep;
use crate::wal::Lsn;

/// A batch of lines, answered as a whole.
#[derive(Debug)]
pub(super) struct WebhookCommand {
    /// The feed session that numbers the lines; empty if the batch names none.
    pub(super) session: CompactString,
    pub(super) lines: Results<FeedLine>,
    pub(super) reply: oneshot::Sender<LinesDurable>,
}

/// Every line of the batch is durable: the exchange may forget them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinesDurable;

/// Batches in progress. Lines are taken a few at a time, so that a large batch does not block the
/// thread; answers wait for the log.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    current: Option<Batch>,
    /// Batches taken, each with the event that must be durable before its answer. The positions
    /// only grow.
    taken: VecDeque<(Lsn, oneshot::Sender<LinesDurable>)>,
}

#[derive(Debug)]
struct Batch {
    session: CompactString,
    lines: std::vec::IntoIter<FeedLine>,
    unreadable: Vec<UnreadableElement>,
    reply: oneshot::Sender<LinesDurable>,
}

impl Webhooks {
    /// Begins a batch, once the previous one has ended.
    pub(super) fn begin(&mut self, command: WebhookCommand) {
        assert!(self.current.is_none(), "one batch at a time");
        let WebhookCommand { session, lines: Results { results, unreadable }, reply } = command;
        self.current = Some(Batch { session, lines: results.into_iter(), unreadable, reply });
    }

    /// Whether a batch is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// The next line of the current batch, and the session that numbers it.
    pub(super) fn next_line(&mut self) -> Option<(CompactString, FeedLine)> {
        let batch = self.current.as_mut()?;
        Some((batch.session.clone(), batch.lines.next()?))
    }

    /// The unusable elements of the current batch; returned once.
    pub(super) fn take_unreadable(&mut self) -> Vec<UnreadableElement> {
        // None between two batches.
        self.current.as_mut().map(|batch| std::mem::take(&mut batch.unreadable)).unwrap_or_default()
    }

    /// Ends the current batch if all of its lines were taken: it is answered when `last_event` is
    /// durable.
    pub(super) fn end_if_taken(&mut self, last_event: Lsn) {
        let is_taken = |batch: &mut Batch| batch.lines.len() == 0;
        if let Some(Batch { reply, unreadable, .. }) = self.current.take_if(is_taken) {
            assert!(unreadable.is_empty(), "a batch ends once all that is in it was taken");
            assert!(
                self.taken.back().is_none_or(|(last, _)| *last <= last_event),
                "batches wait in the order of the log"
            );
            self.taken.push_back((last_event, reply));
        }
    }

    /// Answers every batch whose events are durable.
    pub(super) fn answer(&mut self, committed: Lsn) {
        while let Some((_, reply)) = self.taken.pop_front_if(|(last, _)| *last <= committed) {
            // The exchange may be gone: it posts them again.
            let _gone = reply.send(LinesDurable);
        }
    }

    /// Whether no batch waits for an answer.
    pub(super) fn is_at_rest(&self) -> bool {
        self.current.is_none() && self.taken.is_empty()
    }
}

/// Registers our webhook at the exchange: at the start, and whenever its feed has a new session,
/// because an exchange that restarted may have forgotten it. Retries until it succeeds.
pub(super) async fn run_registration(
    mut session: ExchangeSession,
    queues: Rc<SessionQueues>,
    webhook: WebhookRequest,
    metrics: OmsMetrics,
) {
    let mut backoff = BACKOFF;
    queues.registrations.push(());
    loop {
        poll_fn(|context| queues.registrations.poll_some(context)).await;
        queues.registrations.take(usize::MAX);
        match session.register_webhook(&webhook).await {
            Ok(()) => {
                back_off(&mut backoff, true).await;
                metrics.webhook_registrations.inc();
                tracing::info!(url = webhook.url, "the exchange accepted our webhook");
            }
            Err(error) => {
                tracing::warn!(%error, url = webhook.url, "cannot register our webhook; retrying");
                queues.registrations.push(());
                if let SessionError::Throttled { retry_after: Some(pause) } = error {
                    sleep(pause.min(LONGEST_PAUSE)).await;
                }
                back_off(&mut backoff, false).await;
            }
        }
    }
}

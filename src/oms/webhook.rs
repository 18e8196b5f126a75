//! Lines that the exchange posts to us, and our registration for them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;

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
    pub(super) lines: Results<FeedLine>,
    pub(super) reply: oneshot::Sender<LinesDurable>,
}

/// Every line of a batch is durable: the exchange may forget them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinesDurable;

/// Batches under work: lines are taken a few at a time, so that a large batch does not hold up the
/// rest of the thread, and answers wait for the log.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    current: Option<Batch>,
    /// Batches taken, with the event that must be durable before their answer. These only rise.
    taken: VecDeque<(Lsn, oneshot::Sender<LinesDurable>)>,
}

#[derive(Debug)]
struct Batch {
    lines: std::vec::IntoIter<FeedLine>,
    unreadable: Vec<UnreadableElement>,
    reply: oneshot::Sender<LinesDurable>,
}

impl Webhooks {
    /// Begins with a batch. Only once the one before has ended.
    pub(super) fn begin(&mut self, command: WebhookCommand) {
        debug_assert!(self.current.is_none(), "one batch at a time");
        let WebhookCommand { lines: Results { results, unreadable }, reply } = command;
        self.current = Some(Batch { lines: results.into_iter(), unreadable, reply });
    }

    /// Whether a batch is under work.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// The next line of the batch under work.
    pub(super) fn next_line(&mut self) -> Option<FeedLine> {
        self.current.as_mut()?.lines.next()
    }

    /// What of the batch under work cannot be used, once.
    pub(super) fn take_unreadable(&mut self) -> Vec<UnreadableElement> {
        self.current.as_mut().map(|batch| std::mem::take(&mut batch.unreadable)).unwrap_or_default()
    }

    /// Ends the batch under work if all of its lines were taken: it is answered when `last_event`
    /// is durable.
    pub(super) fn end_if_taken(&mut self, last_event: Lsn) {
        let is_taken = |batch: &mut Batch| batch.lines.len() == 0;
        if let Some(Batch { reply, .. }) = self.current.take_if(is_taken) {
            self.taken.push_back((last_event, reply));
        }
    }

    /// Answers every batch whose events are durable.
    pub(super) fn answer(&mut self, committed: Lsn) {
        while let Some((_, reply)) = self.taken.pop_front_if(|(last, _)| *last <= committed) {
            let _gone = reply.send(LinesDurable);
        }
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_at_rest(&self) -> bool {
        self.current.is_none() && self.taken.is_empty()
    }
}

/// Registers us at the exchange: at the start, and whenever its feed has a new session, because an
/// exchange that began anew may have forgotten whom to call. Tries until it succeeds.
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
                tracing::info!(url = webhook.url, "the exchange posts fills to us");
            }
            Err(error) => {
                tracing::warn!(%error, url = webhook.url, "cannot register for fills; trying on");
                queues.registrations.push(());
                if let SessionError::Throttled { retry_after: Some(pause) } = error {
                    sleep(pause.min(LONGEST_PAUSE)).await;
                }
                back_off(&mut backoff, false).await;
            }
        }
    }
}

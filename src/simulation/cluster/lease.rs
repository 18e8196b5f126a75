//! The lease of a member, as its thread `node` keeps it.

use super::around::Around;
use super::end::End;
use super::postgres::{Answer, Question, Reply, Ticket};
use crate::cluster::claim::first_lost;
use crate::cluster::{MEMBER_LEASE, MEMBER_RENEWAL_INTERVAL, NodeId, PartitionMap, serves_until};
use crate::types::{MonotonicMicros, UserPartition};

/// Renews the lease.
pub(super) struct Lease {
    id: (NodeId, i64),
    asked: Option<(Ticket, MonotonicMicros)>,
    /// After a lapse: asks whether what is served is still ours. And when the renewal was asked for.
    checked: Option<(Ticket, Vec<UserPartition>, MonotonicMicros)>,
    next: MonotonicMicros,
}

impl Lease {
    pub(super) fn new(id: (NodeId, i64)) -> Self {
        Self { id, asked: None, checked: None, next: MonotonicMicros::new(0) }
    }

    /// Takes the next step.
    pub(super) fn step(&mut self, map: &PartitionMap, around: &mut Around<'_>) -> Result<(), End> {
        let now = around.now.monotonic;
        if let Some((ticket, served, asked_at)) = self.checked.take() {
            match around.postgres.reply(ticket) {
                Reply::Waits => self.checked = Some((ticket, served, asked_at)),
                Reply::Is(Answer::Owned(owned)) => {
                    let owned: Vec<_> = owned.iter().map(|(partition, _)| *partition).collect();
                    if first_lost(&served, &owned).is_some() {
                        return Err(End::Fenced);
                    }
                    self.serve(map, asked_at, now);
                }
                Reply::Lost | Reply::Is(_) => self.next = now.saturating_add(around.retry_pause()),
            }
            return Ok(());
        }
        let Some((ticket, asked_at)) = self.asked else {
            if now >= self.next {
                let question = Question::Renew { id: self.id, lease: MEMBER_LEASE };
                self.asked = Some((around.ask(question), now));
            }
            return Ok(());
        };
        match around.postgres.reply(ticket) {
            Reply::Waits if now.saturating_since(asked_at) < MEMBER_LEASE => return Ok(()),
            Reply::Is(Answer::Renewed(true)) if map.has_lapsed_at(|| now) => {
                map.note_lapse();
                let ticket = around.ask(Question::Owned { epoch: self.id.1 });
                self.checked = Some((ticket, map.served(), asked_at));
            }
            Reply::Is(Answer::Renewed(true)) => self.serve(map, asked_at, now),
            Reply::Is(_) => return Err(End::Forgotten),
            Reply::Waits | Reply::Lost => self.next = now.saturating_add(around.retry_pause()),
        }
        self.asked = None;
        Ok(())
    }

    fn serve(&mut self, map: &PartitionMap, asked_at: MonotonicMicros, now: MonotonicMicros) {
        map.serve_until(serves_until(asked_at));
        self.next = now.saturating_add(MEMBER_RENEWAL_INTERVAL);
    }
}

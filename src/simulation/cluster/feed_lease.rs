//! The lease of the exchange's feed, as a member takes part in it.

use super::around::Around;
use super::postgres::{Answer, Link, Question, Reply, Ticket};
use super::tables::{FeedLook, FeedTaking};
use crate::cluster::NodeId;
use crate::cluster::feed_lease::{
    ANSWER_TIMEOUT, FEED_RENEWAL_INTERVAL, hesitation, is_grace_over, is_to_be_offered, ours_until,
};
use crate::exchange::FeedRole;
use crate::types::MonotonicMicros;

pub(super) struct FeedLease {
    id: (NodeId, i64),
    role: FeedRole,
    asked: Option<(Ticket, MonotonicMicros)>,
    next: MonotonicMicros,
    /// The epoch of the lease that it took last; 0 before the first.
    epoch: u64,
    link: Option<Link>,
    was_connected: bool,
    /// When a lost connection to Postgres came back.
    returned: Option<MonotonicMicros>,
    /// It offers the lease, as Redis takes nothing from it.
    offers: bool,
    /// When another took what this process had offered for that.
    lost: Option<MonotonicMicros>,
}

impl FeedLease {
    pub(super) const fn new(id: (NodeId, i64), role: FeedRole) -> Self {
        Self {
            id,
            role,
            asked: None,
            next: MonotonicMicros::new(0),
            epoch: 0,
            link: None,
            was_connected: false,
            returned: None,
            offers: false,
            lost: None,
        }
    }

    /// Takes the next step.
    pub(super) fn step(&mut self, around: &mut Around<'_>) {
        let now = around.now.monotonic;
        let Some((ticket, sent)) = self.asked else {
            if now >= self.next {
                self.ask(around);
            }
            return;
        };
        match around.postgres.reply(ticket) {
            Reply::Waits if now.saturating_since(sent) < ANSWER_TIMEOUT => return,
            Reply::Is(Answer::Feed(look)) => self.note(look, sent),
            Reply::Waits | Reply::Lost | Reply::Is(_) => self.link = None,
        }
        self.asked = None;
        self.next = now.saturating_add(FEED_RENEWAL_INTERVAL);
    }

    fn ask(&mut self, around: &mut Around<'_>) {
        let now = around.now.monotonic;
        if self.link != Some(around.link) {
            if !around.has_postgres {
                self.next = now.saturating_add(FEED_RENEWAL_INTERVAL);
                return;
            }
            self.link = Some(around.link);
            if std::mem::replace(&mut self.was_connected, true) {
                self.returned = Some(now);
            }
        }
        let may_take_over = is_grace_over(self.returned, now);
        self.offers = is_to_be_offered(&self.role, now);
        let taking = FeedTaking {
            ours: self.epoch,
            offers: self.offers,
            may_take_over,
            hesitation: hesitation(&self.role, self.lost, now),
        };
        let question = Question::TakeFeed { id: self.id, taking };
        self.asked = Some((around.ask(question), now));
    }

    fn note(&mut self, look: FeedLook, sent: MonotonicMicros) {
        match look {
            FeedLook::Ours(epoch) => {
                self.epoch = epoch;
                self.role.lead(epoch, ours_until(sent));
            }
            FeedLook::Lapsed => {}
            FeedLook::Others => {
                if self.offers {
                    self.lost = Some(sent);
                }
                self.role.step_down();
            }
        }
    }
}

//! The moves of partitions, as the thread `node` of a member makes them, one step after another.

use std::collections::BTreeSet;

use super::around::Around;
use super::commands::{Shared, in_parts, send};
use super::end::End;
use super::ended_lately::EndedLately;
use super::postgres::{Answer, Link, Question, Reply, Ticket};
use crate::cluster::claim::first_lost;
use crate::cluster::membership::HAND_OVER_TIMEOUT;
use crate::cluster::ownership::CONNECTED_BEFORE_TAKING;
use crate::cluster::plan::ClusterView;
use crate::cluster::{LOOK_INTERVAL, Route};
use crate::oms::PartitionCommand;
use crate::order::TrackedOrder;
use crate::projection::OwnershipChange;
use crate::types::{MonotonicMicros, UserPartition};

/// Partitions given to other epochs.
type Given = Vec<(UserPartition, i64)>;

/// A partition that was claimed, those that were claimed with it and come after it, and how often the
/// lease had lapsed before.
struct Claimed {
    partition: UserPartition,
    later: Vec<UserPartition>,
    lapses: u64,
}

enum State {
    Idle,
    Draining(Ticket),
    /// Looks at the tables; the lease had lapsed so often before.
    Looking(Ticket, u64),
    /// Claims partitions; the lease had lapsed so often before.
    Claiming(Ticket, u64),
    /// Waits until the projection writes what was claimed.
    Following(Claimed, OwnershipChange),
    Reading(Ticket, Claimed),
    /// Commands for the orders thread, the last of which comes first.
    Commanding(Vec<PartitionCommand>, Claimed, oneshot::Receiver<()>),
    Serving(Claimed, oneshot::Receiver<()>),
    /// The lease has lapsed meanwhile: asks whether what was claimed is still ours.
    Checking(Ticket, Claimed),
    Stopping(Vec<PartitionCommand>, Vec<oneshot::Receiver<()>>),
    /// Waits until the projection writes them no more.
    Giving(OwnershipChange),
    HandingOver(Ticket),
}

/// Takes over and hands over partitions.
pub(super) struct Mover {
    served: BTreeSet<UserPartition>,
    state: State,
    /// What is still to be taken.
    taking: Vec<UserPartition>,
    /// What is to be handed over after that.
    given: Given,
    ended_lately: EndedLately,
    connected: Option<(Link, MonotonicMicros)>,
    next: MonotonicMicros,
    /// Whether it is to hand everything over, and since when it has said so.
    pub(super) is_draining: bool,
    told_at: Option<MonotonicMicros>,
    /// How many partitions it owned then, or at the last change since.
    owned: usize,
    /// Postgres says that nothing is ours, and that there are no other members.
    is_free: bool,
    is_last: bool,
    has_nothing: bool,
}

impl Mover {
    pub(super) fn new() -> Self {
        Self {
            served: BTreeSet::new(),
            state: State::Idle,
            taking: Vec::new(),
            given: Vec::new(),
            ended_lately: EndedLately::default(),
            connected: None,
            next: MonotonicMicros::new(0),
            is_draining: false,
            told_at: None,
            owned: usize::MAX,
            is_free: false,
            is_last: false,
            has_nothing: false,
        }
    }

    pub(super) fn served(&self) -> &BTreeSet<UserPartition> {
        &self.served
    }

    /// Takes the next step.
    pub(super) fn step(&mut self, shared: &Shared, around: &mut Around<'_>) -> Result<(), End> {
        let now = around.now.monotonic;
        self.ended_lately.step(shared, around);
        let state = std::mem::replace(&mut self.state, State::Idle);
        self.state = match state {
            State::Idle => return self.begin(shared, around),
            State::Draining(ticket) => match around.postgres.reply(ticket) {
                Reply::Waits => State::Draining(ticket),
                Reply::Lost => self.fail(around),
                Reply::Is(_) => {
                    self.told_at = Some(now);
                    State::Looking(around.ask(Question::Look), shared.map.lapses())
                }
            },
            State::Looking(ticket, lapses) => match around.postgres.reply(ticket) {
                Reply::Waits => State::Looking(ticket, lapses),
                // What it says may be over.
                Reply::Is(_) if shared.map.lapses() != lapses => {
                    (self.is_free, self.is_last) = (false, false);
                    self.rest(now)
                }
                Reply::Is(Answer::Seen(view)) => self.decide(&view, shared, around)?,
                Reply::Lost | Reply::Is(_) => self.fail(around),
            },
            State::Claiming(ticket, lapses) => match around.postgres.reply(ticket) {
                Reply::Waits => State::Claiming(ticket, lapses),
                Reply::Is(Answer::Claimed(partitions)) if partitions.is_empty() => {
                    self.take(shared, around)
                }
                Reply::Is(Answer::Claimed(mut later)) => {
                    shared.ownership.take(&later);
                    let partition = later.remove(0);
                    let claimed = Claimed { partition, later, lapses };
                    State::Following(claimed, shared.ownership.change())
                }
                Reply::Lost | Reply::Is(_) => self.fail(around),
            },
            State::Following(claimed, change) if shared.ownership.is_followed(change) => {
                State::Reading(around.ask(Question::Adopt(vec![claimed.partition])), claimed)
            }
            following @ State::Following(..) => following,
            State::Reading(ticket, claimed) => match around.postgres.reply(ticket) {
                Reply::Waits => State::Reading(ticket, claimed),
                Reply::Is(Answer::Adopted(orders)) => commands_to_serve(claimed, orders),
                Reply::Lost | Reply::Is(_) => self.fail(around),
            },
            State::Commanding(mut commands, claimed, reply) => {
                send(&mut commands, shared);
                if commands.is_empty() {
                    State::Serving(claimed, reply)
                } else {
                    State::Commanding(commands, claimed, reply)
                }
            }
            State::Serving(claimed, reply) if reply.has_message() => {
                // From now on its orders must not be adopted again, whatever fails.
                self.served.insert(claimed.partition);
                self.ended_lately.comes(claimed.partition);
                if shared.map.lapses() == claimed.lapses {
                    self.serve(claimed, shared, around)
                } else {
                    State::Checking(around.ask(Question::Owned { epoch: shared.epoch }), claimed)
                }
            }
            serving @ State::Serving(..) => serving,
            State::Checking(ticket, claimed) => match around.postgres.reply(ticket) {
                Reply::Waits => State::Checking(ticket, claimed),
                Reply::Is(Answer::Owned(owned)) => {
                    let owned: Vec<_> = owned.iter().map(|(partition, _)| *partition).collect();
                    if first_lost(&[claimed.partition], &owned).is_some() {
                        return Err(End::Fenced);
                    }
                    self.serve(claimed, shared, around)
                }
                Reply::Lost | Reply::Is(_) => self.fail(around),
            },
            State::Stopping(mut commands, replies) => {
                send(&mut commands, shared);
                let has_gone = replies.iter().all(oneshot::Receiver::has_message);
                if commands.is_empty() && has_gone {
                    let partitions: Vec<_> = self.given.iter().map(|(given, _)| *given).collect();
                    shared.ownership.give_away(&partitions);
                    State::Giving(shared.ownership.change())
                } else {
                    State::Stopping(commands, replies)
                }
            }
            State::Giving(change) if shared.ownership.is_followed(change) => {
                let given = std::mem::take(&mut self.given);
                let question = Question::HandOver { epoch: shared.epoch, given };
                State::HandingOver(around.ask(question))
            }
            giving @ State::Giving(_) => giving,
            State::HandingOver(ticket) => match around.postgres.reply(ticket) {
                Reply::Waits => State::HandingOver(ticket),
                Reply::Lost => self.fail(around),
                Reply::Is(_) => self.rest(now),
            },
        };
        Ok(())
    }

    fn begin(&mut self, shared: &Shared, around: &mut Around<'_>) -> Result<(), End> {
        let now = around.now.monotonic;
        if now < self.next {
            return Ok(());
        }
        if let Some(told_at) = self.told_at
            && (self.has_nothing || now.saturating_since(told_at) >= HAND_OVER_TIMEOUT)
        {
            return Err(End::Stopped);
        }
        if self.connected.is_none_or(|(link, _)| link != around.link) {
            self.connected = Some((around.link, now));
            self.told_at = None;
        }
        self.state = if self.is_draining && self.told_at.is_none() {
            State::Draining(around.ask(Question::Drain { epoch: shared.epoch }))
        } else {
            State::Looking(around.ask(Question::Look), shared.map.lapses())
        };
        Ok(())
    }

    fn fail(&mut self, around: &Around<'_>) -> State {
        self.connected = None;
        self.taking.clear();
        self.given.clear();
        self.told_at = None;
        self.next = around.now.monotonic.saturating_add(around.retry_pause());
        State::Idle
    }

    fn rest(&mut self, now: MonotonicMicros) -> State {
        self.has_nothing = self.is_last || (self.is_free && self.served.is_empty());
        self.next = now.saturating_add(LOOK_INTERVAL);
        State::Idle
    }

    fn decide(
        &mut self,
        view: &ClusterView,
        shared: &Shared,
        around: &mut Around<'_>,
    ) -> Result<State, End> {
        let (us, now) = (shared.epoch, around.now.monotonic);
        let connected_at = self.connected.map_or(now, |(_, at)| at);
        let is_settled = now.saturating_since(connected_at) >= CONNECTED_BEFORE_TAKING;
        let views = shared.commands.views();
        let has_orders = |partition| views.has_open_orders(partition);
        let moves = view.next_moves(us, &self.served, is_settled, has_orders);
        let moves = moves.map_err(|_lost| End::Fenced)?;
        let served = &self.served;
        let routes = view.routes(us, |partition| served.contains(&partition));
        shared.map.set(routes, view.peers(us));
        let owned = view.owned_by(us).len();
        if owned != self.owned && self.told_at.is_some() {
            (self.owned, self.told_at) = (owned, Some(now));
        }
        self.is_free = owned == 0;
        self.is_last = !view.has_others(us);
        self.given = moves.hand_over;
        self.taking = moves.take;
        Ok(self.take(shared, around))
    }

    /// Begins to take what is to be taken; after that, to hand over what is to be handed over.
    fn take(&mut self, shared: &Shared, around: &mut Around<'_>) -> State {
        if self.taking.is_empty() {
            return self.give(shared, around);
        }
        let partitions = std::mem::take(&mut self.taking);
        let claimant = (shared.epoch, shared.log.log_id(), shared.log.committed());
        let question = Question::Claim { claimant, partitions };
        State::Claiming(around.ask(question), shared.map.lapses())
    }

    /// Serves a partition that was claimed, and reads the next.
    fn serve(&mut self, claimed: Claimed, shared: &Shared, around: &mut Around<'_>) -> State {
        let Claimed { partition, mut later, lapses } = claimed;
        shared.map.set_route(partition, Route::Here);
        if later.is_empty() {
            return self.take(shared, around);
        }
        let partition = later.remove(0);
        let question = Question::Adopt(vec![partition]);
        State::Reading(around.ask(question), Claimed { partition, later, lapses })
    }

    /// Begins to hand over what is to be handed over.
    fn give(&mut self, shared: &Shared, around: &mut Around<'_>) -> State {
        self.given.retain(|(partition, _)| self.served.contains(partition));
        if self.given.is_empty() {
            return self.rest(around.now.monotonic);
        }
        let (mut commands, mut replies) = (Vec::new(), Vec::new());
        for (partition, _) in &self.given {
            shared.map.set_route(*partition, Route::Nowhere);
            self.served.remove(partition);
            let (reply, released) = oneshot::channel();
            commands.push(PartitionCommand::Release(*partition, reply));
            replies.push(released);
        }
        State::Stopping(commands, replies)
    }
}

/// The commands by which the orders thread serves a partition after it has adopted its orders.
fn commands_to_serve(claimed: Claimed, orders: Vec<TrackedOrder>) -> State {
    let (reply, served) = oneshot::channel();
    let mut commands = vec![PartitionCommand::Serve(claimed.partition, reply)];
    commands.extend(in_parts(orders, PartitionCommand::Adopt));
    State::Commanding(commands, claimed, served)
}

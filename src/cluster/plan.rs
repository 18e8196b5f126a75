//! Which partitions a member takes and which it hands over: decided from what Postgres says, without
//! I/O. Every member decides for itself by the same rule, so that all of them come to the same shares.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::NodeId;
use super::partition_map::{Peer, Route};
use crate::types::{USER_PARTITIONS, UserPartition};

/// A member, as Postgres has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberRow {
    pub(crate) node_id: NodeId,
    pub(crate) epoch: i64,
    /// Where the others reach it; `None` before it has said so.
    pub(crate) address: Option<SocketAddr>,
    /// Whether its lease runs.
    pub(crate) is_alive: bool,
    pub(crate) is_draining: bool,
    /// Whether it has reached the exchange since it began.
    pub(crate) has_exchange: bool,
    /// Whether it began so long ago that it would have reached the exchange by now.
    pub(crate) has_waited: bool,
}

/// The owner of a partition, as Postgres has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerRow {
    pub(crate) epoch: i64,
    /// The epoch that it hands the partition over to.
    pub(crate) handed_to: Option<i64>,
}

/// What Postgres says at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterView {
    /// By number.
    pub(crate) members: Vec<MemberRow>,
    /// By partition; `None` where nobody has ever written.
    pub(crate) owners: [Option<OwnerRow>; USER_PARTITIONS],
}

/// The next moves of one member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Partitions to take: nobody has them, or their owner hands them over.
    pub(crate) take: Vec<UserPartition>,
    /// Partitions to hand over, and to which epoch.
    pub(crate) hand_over: Vec<(UserPartition, i64)>,
}

impl ClusterView {
    fn owner(&self, partition: UserPartition) -> Option<&OwnerRow> {
        self.owners.get(partition.index())?.as_ref()
    }

    /// The member that runs with this epoch.
    fn alive(&self, epoch: i64) -> Option<&MemberRow> {
        self.members.iter().find(|member| member.epoch == epoch && member.is_alive)
    }

    /// The nodes that run or ran with these epochs, by number, as a list for the log. `None` if none is known:
    /// other processes have their numbers by now.
    pub(crate) fn nodes_of(&self, epochs: impl IntoIterator<Item = i64>) -> Option<String> {
        let node = |epoch| self.members.iter().find(|member| member.epoch == epoch);
        let nodes = epochs.into_iter().filter_map(node).map(|member| member.node_id);
        let nodes: BTreeSet<NodeId> = nodes.collect();
        let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        (!nodes.is_empty()).then(|| nodes.join(","))
    }

    /// The same of the nodes that own these partitions.
    pub(crate) fn owners_of(&self, partitions: &[UserPartition]) -> Option<String> {
        self.nodes_of(partitions.iter().filter_map(|partition| Some(self.owner(*partition)?.epoch)))
    }

    /// The members that share the partitions: those that do not drain, unless all do. One that has never
    /// reached the exchange is not among them, as others can place the orders that it would refuse; but it
    /// keeps what it has, and where no member has reached the exchange, orders can at least be read.
    fn sharing(&self) -> Vec<&MemberRow> {
        let alive = || self.members.iter().filter(|member| member.is_alive);
        let do_all_drain = alive().all(|member| member.is_draining);
        let has_nobody = !alive().any(|member| member.has_exchange);
        let has_users = |epoch| self.count_of(epoch) > 0;
        let takes_part = |member: &&MemberRow| {
            (!member.is_draining || do_all_drain)
                && (member.has_exchange
                    || has_users(member.epoch)
                    || (has_nobody && member.has_waited))
        };
        alive().filter(takes_part).collect()
    }

    /// The partitions that this epoch owns.
    pub(crate) fn owned_by(&self, epoch: i64) -> Vec<UserPartition> {
        let is_theirs = |partition: &UserPartition| {
            self.owner(*partition).is_some_and(|owner| owner.epoch == epoch)
        };
        UserPartition::all().filter(is_theirs).collect()
    }

    /// The partitions that this epoch owns and hands over to nobody who runs.
    pub(crate) fn kept_by(&self, epoch: i64) -> Vec<UserPartition> {
        let is_kept = |partition: &UserPartition| {
            let handed_to = self.owner(*partition).and_then(|owner| owner.handed_to);
            handed_to.is_none_or(|to| to == epoch || self.alive(to).is_none())
        };
        self.owned_by(epoch).into_iter().filter(is_kept).collect()
    }

    /// The members that have still to take what this epoch has handed over.
    fn takers_from(&self, us: i64) -> BTreeSet<i64> {
        let handed_to = |owner: &OwnerRow| owner.handed_to.filter(|_| owner.epoch == us);
        let takers = self.owners.iter().flatten().filter_map(handed_to);
        takers.filter(|to| *to != us && self.alive(*to).is_some()).collect()
    }

    /// Whether the process that owns a partition may be running although its lease is over. Not if it
    /// hands the partition over to this epoch.
    pub(crate) fn may_still_be_owned(&self, partition: UserPartition, us: i64) -> bool {
        self.owner(partition).is_some_and(|owner| {
            let is_known = self.members.iter().any(|member| member.epoch == owner.epoch);
            owner.epoch != us && owner.handed_to != Some(us) && is_known
        })
    }

    /// Whether another member could take what this one has.
    pub(crate) fn has_others(&self, us: i64) -> bool {
        self.sharing().iter().any(|member| member.epoch != us && !member.is_draining)
    }

    /// Where the users of each partition are served. `serves`: whether this node, with epoch `us`,
    /// serves one that it owns.
    pub(crate) fn routes(
        &self,
        us: i64,
        serves: impl Fn(UserPartition) -> bool,
    ) -> [Route; USER_PARTITIONS] {
        let mut routes = [Route::Nowhere; USER_PARTITIONS];
        for (route, partition) in routes.iter_mut().zip(UserPartition::all()) {
            let Some(owner) = self.owner(partition) else { continue };
            if owner.epoch == us {
                if serves(partition) {
                    *route = Route::Here;
                }
            } else if let Some(peer) = self.alive(owner.epoch).and_then(MemberRow::peer) {
                *route = Route::Peer(peer);
            }
        }
        routes
    }

    /// Where the users of each partition are that another epoch than this one owns; `None` for its own.
    pub(crate) fn routes_of_others(&self, us: i64) -> [Option<Route>; USER_PARTITIONS] {
        let own = self.owners.map(|owner| owner.is_some_and(|owner| owner.epoch == us));
        let mut routes = self.routes(us, |_| false).into_iter();
        own.map(|is_own| routes.next().filter(|_| !is_own))
    }

    /// Whether partitions are on their way from one member to another.
    pub(crate) fn is_moving(&self) -> bool {
        self.owners.iter().flatten().any(|owner| {
            let is_leaving = self.alive(owner.epoch).is_some_and(|member| member.is_draining);
            is_leaving || owner.handed_to.is_some_and(|to| self.alive(to).is_some())
        })
    }

    /// The other members that run.
    pub(crate) fn peers(&self, us: i64) -> Vec<Peer> {
        let others = self.members.iter().filter(|member| member.is_alive && member.epoch != us);
        others.filter_map(MemberRow::peer).collect()
    }

    /// The next moves of the member with this epoch. Shares are even: none differs from another by
    /// more than one partition.
    pub(crate) fn moves(&self, us: i64) -> Moves {
        let sharing = self.sharing();
        let mut moves = Moves::default();
        if self.alive(us).is_none() {
            // Its lease is over: it gives nothing away that others may be about to take.
            return moves;
        }
        let ours = self.kept_by(us);
        let shares = shares(&sharing);
        let share_of =
            |epoch: i64| shares.iter().find(|(of, _)| *of == epoch).map_or(0, |(_, share)| *share);
        let (share, rank) = (share_of(us), sharing.iter().position(|member| member.epoch == us));
        for partition in UserPartition::all() {
            let is_for_us = self.owner(partition).is_some_and(|owner| owner.handed_to == Some(us));
            if is_for_us && !ours.contains(&partition) {
                moves.take.push(partition);
            }
        }
        if let Some(rank) = rank {
            let room = share.saturating_sub(ours.len() + moves.take.len());
            moves.take.extend(self.orphans(rank, sharing.len()).into_iter().take(room));
        }
        if ours.len() > share {
            let mut surplus = ours.iter().rev().take(ours.len() - share);
            let lacking = |member: &&&MemberRow| {
                let lacks = share_of(member.epoch).saturating_sub(self.count_of(member.epoch));
                (member.epoch != us).then_some((member.epoch, lacks))
            };
            let mut lacking: Vec<_> =
                sharing.iter().filter_map(|member| lacking(&member)).collect();
            // One for each in turn: all of them take their part at the same time.
            while lacking.iter().any(|(_, lacks)| *lacks > 0) {
                for (epoch, lacks) in lacking.iter_mut().filter(|(_, lacks)| *lacks > 0) {
                    *lacks -= 1;
                    let next = surplus.next().map(|partition| (*partition, *epoch));
                    moves.hand_over.extend(next);
                }
            }
        }
        moves
    }

    /// The next moves of the member with this epoch, which serves these partitions: takes also those
    /// whose move was interrupted, and of those that their owner may come back to only where
    /// `takes_abandoned`. It moves faster what `has_orders` says has no open order.
    ///
    /// # Errors
    /// A partition that it serves and that another one owns now.
    pub(crate) fn next_moves(
        &self,
        us: i64,
        served: &BTreeSet<UserPartition>,
        takes_abandoned: bool,
        has_orders: impl Fn(UserPartition) -> bool,
    ) -> Result<Moves, UserPartition> {
        let owned = self.owned_by(us);
        if let Some(lost) = served.iter().find(|served| !owned.contains(served)) {
            return Err(*lost);
        }
        let mut moves = self.moves(us);
        if !takes_abandoned {
            moves.take.retain(|partition| !self.may_still_be_owned(*partition, us));
        }
        moves.take.extend(self.kept_by(us).into_iter().filter(|ours| !served.contains(ours)));
        // Each member gets one at a time, and the next one once it has taken the last: users wait for
        // the orders of no other partition. For those without orders nobody waits.
        let mut waited_for = self.takers_from(us);
        moves.hand_over.retain(|(partition, to)| !has_orders(*partition) || waited_for.insert(*to));
        Ok(moves)
    }

    /// Partitions without an owner that runs: those first that the member at this place may take
    /// without meeting another.
    fn orphans(&self, rank: usize, members: usize) -> Vec<UserPartition> {
        let is_orphan = |partition: &UserPartition| {
            let owner = self.owner(*partition);
            owner.is_none_or(|owner| {
                self.alive(owner.epoch).is_none()
                    && owner.handed_to.is_none_or(|to| self.alive(to).is_none())
            })
        };
        let mut orphans: Vec<_> = UserPartition::all().filter(is_orphan).enumerate().collect();
        orphans.sort_by_key(|(place, _)| place % members.max(1) != rank);
        orphans.into_iter().map(|(_, partition)| partition).collect()
    }

    /// How many partitions a member has, or will have once they are handed over.
    fn count_of(&self, epoch: i64) -> usize {
        let will_have = |owner: &&OwnerRow| owner.handed_to.unwrap_or(owner.epoch) == epoch;
        self.owners.iter().flatten().filter(will_have).count()
    }
}

impl MemberRow {
    fn peer(&self) -> Option<Peer> {
        Some(Peer { node_id: self.node_id, epoch: self.epoch, address: self.address? })
    }
}

/// How many partitions each member has once all moves are done. The first ones have one more.
fn shares(sharing: &[&MemberRow]) -> Vec<(i64, usize)> {
    let Some(least) = USER_PARTITIONS.checked_div(sharing.len()) else { return Vec::new() };
    let rest = USER_PARTITIONS % sharing.len();
    let share =
        |(place, member): (usize, &&MemberRow)| (member.epoch, least + usize::from(place < rest));
    sharing.iter().enumerate().map(share).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

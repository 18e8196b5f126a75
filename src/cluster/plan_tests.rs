use super::*;

fn member(node_id: NodeId, epoch: i64) -> MemberRow {
    let address = Some(SocketAddr::from(([127, 0, 0, 1], 7_000 + node_id.unsigned_abs())));
    let (is_alive, is_draining) = (true, false);
    MemberRow {
        node_id,
        epoch,
        address,
        is_alive,
        is_draining,
        has_exchange: true,
        has_waited: true,
    }
}

fn view(members: &[MemberRow]) -> ClusterView {
    ClusterView { members: members.to_vec(), owners: [None; USER_PARTITIONS] }
}

fn partition(number: u8) -> UserPartition {
    UserPartition::new(number).unwrap()
}

/// Carries out the moves of all members that run, one after the other, as Postgres allows them.
/// Returns whether anything moved.
fn step(view: &mut ClusterView) -> bool {
    let before = view.clone();
    for member in view.members.clone() {
        if !member.is_alive {
            continue;
        }
        let moves = view.moves(member.epoch);
        for (partition, to) in moves.hand_over {
            let owner = view.owners[partition.index()].as_mut().unwrap();
            assert_eq!(owner.epoch, member.epoch, "only an owner hands over");
            owner.handed_to = Some(to);
        }
        for partition in moves.take {
            let owner = view.owners[partition.index()];
            let is_free = owner.is_none_or(|owner| {
                view.alive(owner.epoch).is_none() || owner.handed_to == Some(member.epoch)
            });
            assert!(is_free, "{partition:?} of {owner:?} is taken by {member:?}");
            let taken = OwnerRow { epoch: member.epoch, handed_to: None };
            view.owners[partition.index()] = Some(taken);
        }
    }
    *view != before
}

fn settle(view: &mut ClusterView) {
    for _ in 0..16 {
        if !step(view) {
            return;
        }
    }
    panic!("moves do not end: {view:?}");
}

fn counts(view: &ClusterView) -> Vec<usize> {
    view.members.iter().map(|member| view.owned_by(member.epoch).len()).collect()
}

#[test]
fn members_share_evenly_when_they_come_and_go() {
    let mut cluster = view(&[member(1, 10)]);
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [64], "the first one has all");
    cluster.members.push(member(2, 11));
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [32, 32]);
    cluster.members.push(member(3, 12));
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [22, 21, 21]);
    cluster.members[0].is_alive = false;
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [0, 32, 32]);
    cluster.members[1].is_draining = true;
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [0, 0, 64]);
}

#[test]
fn who_drains_without_others_keeps_what_it_has() {
    let mut cluster = view(&[member(1, 10)]);
    settle(&mut cluster);
    cluster.members[0].is_draining = true;
    assert_eq!(cluster.moves(10), Moves::default());
    assert!(!cluster.has_others(10));
}

#[test]
fn a_process_that_began_anew_takes_back_what_it_had() {
    let mut cluster = view(&[member(1, 10), member(2, 11)]);
    settle(&mut cluster);
    cluster.members[0].epoch = 12;
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [32, 32]);
}

#[test]
fn who_is_late_with_its_lease_moves_nothing() {
    let mut cluster = view(&[member(1, 10), member(2, 11)]);
    settle(&mut cluster);
    cluster.members[0].is_alive = false;
    assert_eq!(cluster.moves(10), Moves::default());
}

#[test]
fn members_that_start_together_seldom_want_the_same() {
    let cluster = view(&[member(1, 10), member(2, 11), member(3, 12)]);
    let wanted: Vec<_> = [10, 11, 12].map(|epoch| cluster.moves(epoch).take).concat();
    let mut distinct = wanted.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((wanted.len(), distinct.len()), (64, 64));
}

#[test]
fn what_is_handed_to_one_that_has_gone_goes_to_somebody_else() {
    let mut cluster = view(&[member(1, 10), member(2, 11)]);
    settle(&mut cluster);
    let first = cluster.owned_by(10)[0];
    cluster.owners[first.index()] = Some(OwnerRow { epoch: 10, handed_to: Some(11) });
    cluster.members[1].is_alive = false;
    settle(&mut cluster);
    assert_eq!(counts(&cluster), [64, 0]);
}

#[test]
fn routes_name_who_serves() {
    let mut cluster = view(&[member(1, 10), member(2, 11), member(3, 12)]);
    settle(&mut cluster);
    let (ours, theirs) = (cluster.owned_by(10)[0], cluster.owned_by(11)[0]);
    cluster.members[2].is_alive = false;
    let gone = cluster.owned_by(12)[0];
    let routes = cluster.routes(10, |_| true);
    assert_eq!(routes[ours.index()], Route::Here);
    let address = SocketAddr::from(([127, 0, 0, 1], 7_002));
    let peer = Peer { node_id: 2, epoch: 11, address };
    assert_eq!(routes[theirs.index()], Route::Peer(peer));
    assert_eq!(routes[gone.index()], Route::Nowhere);
    assert_eq!(cluster.routes(10, |_| false)[ours.index()], Route::Nowhere, "not adopted yet");
    assert_eq!(cluster.peers(10), [peer]);
    assert_eq!(cluster.owner(partition(63)).map(|owner| owner.handed_to), Some(None));
}

#[test]
fn what_is_served_and_not_owned_is_lost_and_what_is_owned_and_not_served_is_taken() {
    let mut cluster = view(&[member(1, 10), member(2, 11)]);
    settle(&mut cluster);
    let served: BTreeSet<_> = cluster.owned_by(10).into_iter().collect();
    assert_eq!(cluster.next_moves(10, &served, true, |_| true), Ok(Moves::default()));
    let lost = *served.first().unwrap();
    cluster.owners[lost.index()] = Some(OwnerRow { epoch: 11, handed_to: None });
    assert_eq!(cluster.next_moves(10, &served, true, |_| true), Err(lost));
    let interrupted = cluster.next_moves(10, &BTreeSet::new(), true, |_| true).unwrap();
    assert_eq!(interrupted.take, cluster.owned_by(10));
}

#[test]
fn each_member_gets_one_partition_with_orders_at_a_time_and_all_without() {
    let mut cluster = view(&[member(1, 10)]);
    settle(&mut cluster);
    cluster.members.extend([member(2, 11), member(3, 12)]);
    let served: BTreeSet<_> = cluster.owned_by(10).into_iter().collect();
    let given = |has_orders: fn(UserPartition) -> bool| {
        cluster.next_moves(10, &served, true, has_orders).unwrap().hand_over
    };
    assert_eq!(given(|_| true).iter().map(|(_, to)| *to).collect::<Vec<_>>(), [11, 12]);
    assert_eq!(given(|_| false).len(), 64 - 22);
    let has_orders = |partition: UserPartition| partition.get() % 4 < 2;
    let some = given(has_orders);
    let with_orders = some.iter().filter(|(partition, _)| has_orders(*partition));
    assert_eq!((some.len(), with_orders.count()), (22 + 2, 2));
}

#[test]
fn a_view_says_what_others_have_and_whether_anything_moves() {
    let mut view = view(&[member(1, 10), member(2, 20)]);
    let owned_by = |epoch| Some(OwnerRow { epoch, handed_to: None });
    (view.owners[0], view.owners[1]) = (owned_by(10), owned_by(20));
    let routes = view.routes_of_others(10);
    assert_eq!(routes[..3], [None, Some(Route::Peer(view.peers(10)[0])), Some(Route::Nowhere)]);
    assert!(!view.is_moving());
    view.owners[1].as_mut().unwrap().handed_to = Some(10);
    assert!(view.is_moving());
    view.members[0].is_alive = false;
    assert!(!view.is_moving(), "nobody is there to take it");
    view.members[1].is_draining = true;
    assert!(view.is_moving());
}

#[test]
fn who_has_not_reached_the_exchange_gets_no_users_where_others_have() {
    let mut view = view(&[member(1, 10), member(2, 20), member(3, 30)]);
    view.members[2].has_exchange = false;
    while step(&mut view) {}
    assert_eq!([10, 20, 30].map(|epoch| view.owned_by(epoch).len()), [32, 32, 0]);
    view.members[2].has_exchange = true;
    while step(&mut view) {}
    assert_eq!([10, 20, 30].map(|epoch| view.owned_by(epoch).len()), [22, 21, 21]);
    // It began anew, with the users of its partitions still its own.
    view.members[2].has_exchange = false;
    assert!(!step(&mut view), "it keeps what it has");
}

#[test]
fn without_an_exchange_members_wait_before_they_share() {
    let mut view = view(&[member(1, 10), member(2, 20)]);
    for member in &mut view.members {
        (member.has_exchange, member.has_waited) = (false, false);
    }
    assert!(!step(&mut view));
    view.members.iter_mut().for_each(|member| member.has_waited = true);
    while step(&mut view) {}
    assert_eq!([10, 20].map(|epoch| view.owned_by(epoch).len()), [32, 32]);
    view.members[0].has_exchange = true;
    assert!(!step(&mut view), "the others are about to reach it too");
}

#[test]
fn members_that_drain_serve_the_users_that_nobody_else_can() {
    let mut view = view(&[member(1, 10), member(2, 20), member(3, 30)]);
    while step(&mut view) {}
    view.members[0].is_draining = true;
    view.members[1].is_draining = true;
    while step(&mut view) {}
    assert_eq!([10, 20, 30].map(|epoch| view.owned_by(epoch).len()), [0, 0, 64]);
    assert!(!view.has_others(30), "nobody would take what the last one has");
    view.members[2].is_alive = false;
    while step(&mut view) {}
    assert_eq!([10, 20].map(|epoch| view.owned_by(epoch).len()), [32, 32]);
}

#[test]
fn moves_name_the_nodes_that_they_are_between() {
    let mut cluster = view(&[member(1, 10), member(3, 12)]);
    let owned_by = |epoch| Some(OwnerRow { epoch, handed_to: None });
    (cluster.owners[0], cluster.owners[1], cluster.owners[2]) =
        (owned_by(12), owned_by(10), owned_by(7));
    let of = |numbers: &[u8]| {
        let partitions: Vec<_> = numbers.iter().copied().map(partition).collect();
        cluster.owners_of(&partitions)
    };
    assert_eq!(of(&[0, 1, 2, 3]).as_deref(), Some("1,3"));
    assert_eq!(of(&[2, 3]), None, "a process that another has replaced, and nobody");
    assert_eq!(cluster.nodes_of([12, 12]).as_deref(), Some("3"));
}

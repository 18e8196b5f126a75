//! A fixed course of events with crashes at every point, one and two at a time: nothing
//! acknowledged is lost, nothing is placed twice, and both sides agree in the end.

use super::test_world::{Fate, Move, World};

/// Orders that are accepted, rejected, and lost before and after the exchange; fills before and
/// after the accept; cancels that succeed, get lost and come too late.
fn course() -> Vec<Move> {
    use Fate::{AnswerLost, Fine, Lost, Refused};
    let create = |user, key| Move::Create { user, key, shares: 3 };
    let commit = Move::Commit { events: 2 };
    let submit = |fate| Move::Submit { pick: 0, fate };
    let answer = Move::Answer { pick: 0 };
    let trade = |order, shares| Move::Trade { order, shares };
    let feed = Move::Feed { lines: 1 };
    let query = Move::Query { pick: 0, fate: Fine };
    let send_cancel = |fate| Move::SendCancel { pick: 0, fate };
    vec![
        // Accepted, filled twice, first before the accept is known.
        create(0, 1),
        commit,
        submit(Fine),
        trade(0, 0),
        feed,
        Move::LogPosition,
        answer,
        commit,
        trade(0, 2),
        feed,
        commit,
        // The answer is lost and the order queried; its key is repeated meanwhile.
        create(1, 2),
        commit,
        submit(AnswerLost),
        answer,
        create(1, 2),
        commit,
        query,
        answer,
        commit,
        // The submit is lost; a submit is rejected.
        create(2, 3),
        create(0, 4),
        commit,
        submit(Lost),
        submit(Refused),
        answer,
        answer,
        commit,
        // Cancelled before the accept: the cancel is sent after it.
        create(0, 5),
        commit,
        Move::Cancel { order: 5 },
        commit,
        submit(Fine),
        answer,
        commit,
        send_cancel(Fine),
        feed,
        answer,
        commit,
        Move::Cancel { order: 5 },
        commit,
        // A cancel whose answer is lost, and one after the last fill.
        Move::Cancel { order: 1 },
        commit,
        send_cancel(AnswerLost),
        answer,
        Move::GiveUpWaiting,
        create(1, 0),
        commit,
        submit(Fine),
        answer,
        commit,
        Move::Cancel { order: 6 },
        commit,
        trade(3, 2),
        trade(3, 2),
        send_cancel(Fine),
        answer,
        commit,
        query,
        answer,
        commit,
        // The periodic query.
        Move::Wait { millis: 60 },
        Move::Sweep,
        commit,
        query,
        answer,
        Move::LogPosition,
        Move::Wait { millis: 60 },
        Move::Sweep,
        commit,
        query,
        query,
        answer,
        answer,
        commit,
        feed,
    ]
}

fn run_with_crashes(places: &[usize], torn: u8) {
    let mut world = World::new();
    for (place, step) in course().into_iter().enumerate() {
        if places.contains(&place) {
            world.step(Move::Crash { torn });
        }
        world.step(step);
    }
    assert_eq!(world.crashes, places.len());
    world.reconcile();
}

#[test]
fn one_crash_at_any_point_loses_nothing() {
    run_with_crashes(&[], 0);
    for place in 0..course().len() {
        for torn in 0..3 {
            run_with_crashes(&[place], torn);
        }
    }
}

#[test]
fn two_crashes_at_any_points_lose_nothing() {
    for place in 0..course().len() - 1 {
        for gap in 1..course().len() - place {
            run_with_crashes(&[place, place + gap], 1);
        }
    }
}

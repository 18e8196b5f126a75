//! Random interleavings of everything that can happen around the engines: the invariants hold at
//! every step, both sides agree in the end, and the log matches memory.

use proptest::prelude::*;

use super::test_world::{Fate, Move, World};

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        5 => Just(Fate::Fine),
        1 => Just(Fate::Lost),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Refused),
    ]
}

fn any_move(crashes: bool) -> impl Strategy<Value = Move> {
    let number = any::<u8>;
    prop_oneof![
        6 => (number(), number(), number())
            .prop_map(|(user, key, shares)| Move::Create { user, key, shares }),
        4 => number().prop_map(|order| Move::Cancel { order }),
        1 => Just(Move::GiveUpWaiting),
        10 => (0..8_u8).prop_map(|events| Move::Commit { events }),
        8 => (number(), any_fate()).prop_map(|(pick, fate)| Move::Submit { pick, fate }),
        5 => (number(), any_fate()).prop_map(|(pick, fate)| Move::SendCancel { pick, fate }),
        4 => (number(), any_fate()).prop_map(|(pick, fate)| Move::Query { pick, fate }),
        12 => number().prop_map(|pick| Move::Answer { pick }),
        8 => (number(), number()).prop_map(|(order, shares)| Move::Trade { order, shares }),
        1 => number().prop_map(|order| Move::Bust { order }),
        1 => (number(), any::<bool>()).prop_map(|(order, expires)| Move::End { order, expires }),
        8 => (0..4_u8).prop_map(|lines| Move::Feed { lines }),
        1 => (0..4_u8).prop_map(|lines| Move::FeedAgain { lines }),
        1 => (0..4_u8).prop_map(|lines| Move::FeedGap { lines }),
        2 => Just(Move::LogPosition),
        3 => (0..60_u8).prop_map(|millis| Move::Wait { millis }),
        3 => Just(Move::Sweep),
        3 => (0..8_u8).prop_map(|events| Move::Store { events }),
        4 => number().prop_map(|order| Move::Forget { order }),
        2 => number().prop_map(|pick| Move::Found { pick }),
        2 => (0..3_u8).prop_map(move |torn| match crashes {
            true => Move::Crash { torn },
            false => Move::Commit { events: torn },
        }),
    ]
}

proptest! {
    #[test]
    fn invariants_hold_in_any_interleaving(
        moves in proptest::collection::vec(any_move(false), 1..150),
    ) {
        let mut world = World::new();
        for step in moves {
            world.step(step);
        }
        world.check_replay();
        world.reconcile();
    }

    #[test]
    fn invariants_hold_through_crashes(
        moves in proptest::collection::vec(any_move(true), 1..150),
    ) {
        let mut world = World::new();
        for step in moves {
            world.step(step);
        }
        world.reconcile();
    }
}

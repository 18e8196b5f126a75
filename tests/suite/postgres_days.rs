//! Several nodes share a Postgres and need the next day's partition at the same time: each is created
//! once, and no node fails.

use std::sync::{Arc, Barrier};

use crate::support::postgres::Postgres;
use crate::support::run;

const NODES: usize = 4;
const FIRST_DAY: usize = 30_000;
const DAYS: usize = 12;

#[test]
fn those_that_want_the_same_day_take_turns() {
    let postgres = Postgres::start();
    let database = postgres.database();
    assert!(run(&["migrate", "--postgres", &database.url]).status.success());
    let barrier = Arc::new(Barrier::new(NODES));
    let nodes = (0..NODES).map(|_| {
        let (database, barrier) = (database.clone(), Arc::clone(&barrier));
        std::thread::spawn(move || {
            for day in FIRST_DAY..FIRST_DAY + DAYS {
                barrier.wait();
                // Long enough for the others to find it missing.
                database.sql(&format!(
                    "BEGIN; SELECT make_order_events_partition({day}); SELECT pg_sleep(0.05); COMMIT"
                ));
            }
        })
    });
    let nodes: Vec<_> = nodes.collect();
    for node in nodes {
        node.join().expect("nobody fails");
    }
    let made = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'order_events'::regclass";
    assert_eq!(usize::try_from(database.number(made)), Ok(DAYS));
}

use super::search::Impossible;
use super::*;

/// Builds histories: each call is one operation with its invocation and its answer.
#[derive(Default)]
struct History(Vec<Operation>);

impl History {
    fn add(mut self, request: Request, outcome: Outcome, (invoked, responded): (u64, u64)) -> Self {
        let client = self.0.len();
        self.0.push(Operation { request, outcome, invoked, responded, client });
        self
    }

    fn create(self, observed: Observed, times: (u64, u64)) -> Self {
        self.add(Request::Create, Outcome::Showed(observed), times)
    }

    fn read(self, observed: Observed, times: (u64, u64)) -> Self {
        self.add(Request::Read, Outcome::Showed(observed), times)
    }

    fn cancel(self, times: (u64, u64)) -> Self {
        self.add(Request::Cancel, Outcome::Cancelled, times)
    }

    fn check(&self) -> Result<(), Impossible> {
        check(Register::default(), &self.0, Rules::default())
    }

    fn is_possible(&self) -> bool {
        match self.check() {
            Ok(()) => true,
            Err(Impossible::NoLine { .. }) => false,
            Err(Impossible::TooHard) => panic!("a short history is too hard"),
        }
    }
}

fn at(version: u64, status: Status, filled_shares: u64) -> Observed {
    Observed { version, status, filled_shares, content: version }
}

fn submitted(version: u64) -> Observed {
    at(version, Status::Submitted, 0)
}

#[test]
fn a_life_in_order_is_possible() {
    let history = History::default()
        .add(Request::Read, Outcome::Absent, (0, 1))
        .create(submitted(2), (2, 3))
        .read(at(3, Status::PartiallyFilled, 4), (4, 5))
        .cancel((6, 7))
        .read(at(5, Status::Cancelled, 4), (8, 9));
    assert!(history.is_possible());
}

#[test]
fn a_stale_read_after_a_newer_one_is_not() {
    let newer = at(3, Status::PartiallyFilled, 1);
    let history = History::default().create(submitted(2), (0, 1)).read(newer, (2, 3));
    assert!(!history.read(submitted(2), (4, 5)).is_possible());
    // Concurrent with the newer one, the older version is allowed.
    let history = History::default().create(submitted(2), (0, 1)).read(newer, (2, 5));
    assert!(history.read(submitted(2), (3, 6)).is_possible());
}

#[test]
fn an_acknowledged_create_is_not_missed() {
    let history = History::default().create(submitted(2), (0, 2));
    assert!(!history.add(Request::Read, Outcome::Absent, (3, 4)).is_possible());
    let history = History::default().create(submitted(2), (0, 5));
    assert!(history.add(Request::Read, Outcome::Absent, (3, 4)).is_possible());
}

#[test]
fn an_order_that_nobody_created_is_not_seen() {
    let history = History::default().read(submitted(2), (0, 1));
    assert!(!history.is_possible());
    assert!(!history.create(submitted(2), (2, 3)).is_possible());
    let unanswered = History::default().add(Request::Create, Outcome::Unknown, (0, 1));
    assert!(unanswered.read(submitted(2), (7, 8)).is_possible());
}

#[test]
fn a_lost_create_may_have_taken_effect_or_not_and_not_both() {
    let lost = || History::default().add(Request::Create, Outcome::Unknown, (0, 1));
    let absent = |history: History, times| history.add(Request::Read, Outcome::Absent, times);
    assert!(absent(lost(), (5, 6)).is_possible());
    assert!(absent(lost(), (5, 6)).read(submitted(1), (7, 8)).is_possible(), "it may come late");
    assert!(!absent(lost().read(submitted(1), (5, 6)), (7, 8)).is_possible());
}

#[test]
fn a_confirmed_cancel_is_not_undone() {
    let cancelled = || History::default().create(submitted(2), (0, 1)).cancel((2, 5));
    assert!(!cancelled().read(submitted(2), (6, 7)).is_possible());
    assert!(!cancelled().read(submitted(9), (6, 7)).is_possible());
    assert!(!cancelled().read(at(9, Status::PendingCancel, 0), (6, 7)).is_possible());
    assert!(cancelled().read(submitted(2), (3, 7)).is_possible(), "asked while it was going on");
    assert!(cancelled().read(at(4, Status::PartiallyFilled, 3), (6, 7)).is_possible());
    let stale = History::default()
        .create(submitted(2), (0, 1))
        .read(at(3, Status::PartiallyFilled, 3), (2, 3))
        .cancel((4, 5))
        .read(at(3, Status::PartiallyFilled, 3), (6, 7));
    assert!(!stale.is_possible(), "the same as before the cancel");
}

#[test]
fn what_a_late_fill_opens_again_can_be_cancelled_again() {
    let reopened = || {
        History::default()
            .create(submitted(2), (0, 1))
            .cancel((2, 3))
            .read(at(4, Status::Cancelled, 0), (4, 5))
            .read(at(5, Status::PartiallyFilled, 2), (6, 7))
    };
    let pending = at(6, Status::PendingCancel, 2);
    assert!(!reopened().read(at(6, Status::Submitted, 2), (8, 9)).is_possible());
    let again = || reopened().cancel((8, 11)).read(pending, (9, 10));
    assert!(again().read(at(7, Status::Cancelled, 2), (12, 13)).is_possible());
    assert!(!again().read(pending, (12, 13)).is_possible(), "the second confirmation holds too");
}

#[test]
fn a_cancel_under_way_needs_somebody_who_asked() {
    let pending = at(3, Status::PendingCancel, 0);
    let history = History::default().create(submitted(2), (0, 1)).read(pending, (2, 3));
    assert!(!history.is_possible());
    assert!(!history.cancel((4, 5)).is_possible(), "asked too late");
    let history = History::default()
        .create(submitted(2), (0, 1))
        .add(Request::Cancel, Outcome::Unknown, (2, 0))
        .read(pending, (2, 3));
    assert!(history.is_possible());
}

#[test]
fn an_end_is_final_but_for_a_late_fill_and_a_bust() {
    let after = |first: Observed, second: Observed| {
        History::default().create(submitted(2), (0, 1)).read(first, (2, 3)).read(second, (4, 5))
    };
    let cancelled = at(4, Status::Cancelled, 2);
    assert!(!after(at(4, Status::Failed, 0), submitted(5)).is_possible());
    assert!(!after(cancelled, at(5, Status::PartiallyFilled, 2)).is_possible());
    assert!(after(cancelled, at(5, Status::Filled, 7)).is_possible());
    let reopened = after(at(4, Status::Filled, 7), at(5, Status::PartiallyFilled, 3));
    assert!(!reopened.is_possible());
    assert_eq!(check(Register::default(), &reopened.0, Rules { busts: true }), Ok(()));
}

#[test]
fn one_version_has_one_content() {
    let other = Observed { content: 99, ..submitted(2) };
    let history = History::default().create(submitted(2), (0, 1)).read(other, (2, 3));
    assert!(!history.is_possible());
    assert!(!History::default().create(submitted(2), (0, 9)).read(other, (0, 9)).is_possible());
}

#[test]
fn what_was_known_before_counts() {
    let known = Register { exists: true, least_version: 5, ..Register::default() };
    let read = |version| History::default().read(submitted(version), (0, 1)).0;
    assert!(check(known, &read(4), Rules::default()).is_err());
    assert_eq!(check(known, &read(5), Rules::default()), Ok(()));
}

#[test]
fn the_message_says_where_it_stops() {
    let history = History::default()
        .create(submitted(2), (0, 1))
        .read(at(3, Status::PartiallyFilled, 1), (2, 3))
        .read(submitted(2), (4, 5));
    let Err(Impossible::NoLine { stuck_at, explained, register, oldest_open }) = history.check()
    else {
        panic!("it is possible");
    };
    // Version 3 must come next, but version 2 was seen after it.
    assert_eq!((stuck_at, explained), (vec![1], 2));
    assert_eq!((register.least_version, oldest_open), (2, Some(2)));
}

#[test]
fn many_clients_on_one_order_are_searched_quickly() {
    // Twenty concurrent clients in fifty waves: every answer is slightly older or newer.
    let mut history = History::default().create(submitted(2), (0, 1));
    for wave in 0..50_u64 {
        for client in 0..20_u64 {
            let version = 3 + wave * 20 + (client * 7) % 20;
            let seen = at(version, Status::PartiallyFilled, version);
            history = history.read(seen, (10 + wave * 100 + client, 90 + wave * 100 - client));
        }
    }
    assert_eq!(history.check(), Ok(()));
    let stale = at(3, Status::PartiallyFilled, 3);
    assert!(matches!(history.read(stale, (9_000, 9_001)).check(), Err(Impossible::NoLine { .. })));
}

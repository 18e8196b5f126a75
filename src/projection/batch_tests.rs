use super::super::account_rows::KeptAccounts;
use super::*;
use crate::money::Account;
use crate::order::test_events::{accepted, busted, created, filled, taken_back};
use crate::order::{
    AccountAdopted, AccountSource, AccountsBegun, CashMoved, CashMovementKind, Created,
};
use crate::types::Symbol;

const LOG: LogId = LogId(7);
/// Any record may have been written before.
const WRITTEN: Lsn = Lsn(u64::MAX);

/// Without accounts.
fn build_with(
    log_id: LogId,
    events: &[(Lsn, Event)],
    working: &mut WorkingOrders,
    written: Lsn,
) -> Result<Batch, UnknownOrder> {
    build(log_id, events, (working, &mut Accounts::default()), written)
}

fn numbered(events: Vec<Event>) -> Vec<(Lsn, Event)> {
    (1..).map(Lsn).zip(events).collect()
}

fn sizes(batch: &Batch) -> [usize; 4] {
    let executions = batch.new_executions.len() + batch.executions.len();
    [batch.orders.len(), executions, batch.external.len(), batch.events.len()]
}

fn text(rows: &impl std::fmt::Debug) -> String {
    format!("{rows:?}")
}

#[test]
fn changes_of_one_order_become_one_row_except_in_the_audit_log() {
    let events = numbered(vec![
        Event::Created(created(1)),
        accepted(1),
        filled(1, "e1", 4),
        filled(1, "e2", 6),
        Event::Created(created(2)),
    ]);
    let mut working = WorkingOrders::default();
    let batch = build_with(LOG, &events, &mut working, WRITTEN).unwrap();
    assert_eq!(sizes(&batch), [2, 2, 1, 5]);
    assert_eq!(batch.rows(), 10);
    assert_eq!(batch.last, Lsn(5));
    assert_eq!(batch.recorded_at.len(), 5);
    assert_eq!(batch.days.len(), 1);
    let orders = text(&batch.orders);
    assert!(orders.contains(r#"status: ["filled", "pending"]"#), "{orders}");
    assert!(orders.contains("version: [4, 1]"), "{orders}");
    let log = text(&batch.events);
    let statuses = r#"status: ["pending", "submitted", "partially_filled", "filled", "pending"]"#;
    assert!(log.contains(statuses), "{log}");
    assert!(log.contains("version: [1, 2, 3, 4, 1]"), "{log}");
    assert!(log.contains("lsn: [1, 2, 3, 4, 5]"), "{log}");
}

#[test]
fn a_voided_execution_keeps_its_shares() {
    let events = numbered(vec![
        Event::Created(created(1)),
        accepted(1),
        filled(1, "e1", 4),
        busted(1, "e1"),
        busted(1, "never-seen"),
    ]);
    let batch = build_with(LOG, &events, &mut WorkingOrders::default(), WRITTEN).unwrap();
    assert_eq!(sizes(&batch), [1, 2, 1, 5]);
    assert!(batch.executions.is_empty());
    let executions = text(&batch.new_executions);
    assert!(executions.contains("num_shares: [Some(4), None]"), "{executions}");
    assert!(!executions.contains("busted_at: [None"), "{executions}");
}

/// The event at another time.
fn at(micros: u64, event: Event) -> Event {
    let Event::Changed(changed) = event else { panic!("{event:?}") };
    Event::Changed(Changed { at: TimestampMicros::new(micros), ..changed })
}

#[test]
fn an_execution_that_counts_again_keeps_its_first_recorded_time() {
    let mut working = WorkingOrders::default();
    let (first, second, third) = (filled(1, "e1", 4), taken_back(1, "e1"), filled(1, "e1", 6));
    let changes = [at(100, first), at(200, second), at(300, third)];
    let events = [&[Event::Created(created(1))], &changes[..]].concat();
    let batch = build_with(LOG, &numbered(events), &mut working, WRITTEN).unwrap();
    let executions = text(&batch.new_executions);
    let of = |micros| text(&crate::projection::values::Timestamp(TimestampMicros::new(micros)));
    let recorded_at = format!("recorded_at: [{}]", of(100));
    for part in [&recorded_at, "num_shares: [Some(6)]", "busted_at: [None]"] {
        assert!(executions.contains(part), "{part} is missing: {executions}");
    }
    assert!(batch.executions.is_empty());

    let changes = [at(400, taken_back(1, "e1")), at(500, filled(1, "e1", 5))];
    let batch = build_with(LOG, &numbered(changes.to_vec()), &mut working, WRITTEN).unwrap();
    assert!(batch.new_executions.is_empty(), "an earlier batch reported it");
    let executions = text(&batch.executions);
    for part in ["num_shares: [Some(5)]", "busted_at: [None]", "taken_back: [false]"] {
        assert!(executions.contains(part), "{part} is missing: {executions}");
    }
}

#[test]
fn repeated_events_change_nothing() {
    let events = numbered(vec![
        Event::Created(created(1)),
        accepted(1),
        accepted(1),
        filled(1, "e1", 4),
        filled(1, "e1", 4),
    ]);
    let batch = build_with(LOG, &events, &mut WorkingOrders::default(), WRITTEN).unwrap();
    assert_eq!(sizes(&batch), [1, 1, 1, 3]);
    assert_eq!(batch.last, Lsn(5), "repeats are read as well");
}

#[test]
fn an_order_of_an_earlier_batch_is_missing_until_it_is_loaded() {
    let mut working = WorkingOrders::default();
    let later = numbered(vec![accepted(1), Event::Created(created(2)), accepted(2)]);
    assert_eq!(missing(&later, &working), [created(1).order_id]);
    let unknown = build_with(LOG, &later, &mut working, WRITTEN).unwrap_err();
    assert_eq!((unknown.lsn, unknown.order_id), (Lsn(1), created(1).order_id));
    working.insert(created(1).order_id, TrackedOrder::new(&created(1)), Lsn(0));
    assert!(missing(&later, &working).is_empty());
    assert_eq!(sizes(&build_with(LOG, &later, &mut working, WRITTEN).unwrap()), [2, 0, 2, 3]);
}

#[test]
fn only_records_never_written_skip_the_check_for_existing_rows() {
    let mut working = WorkingOrders::default();
    working.insert(created(1).order_id, TrackedOrder::new(&created(1)), Lsn(1));
    let events = [accepted(1), Event::Created(created(2)), accepted(2)];
    let events: Vec<_> = (2..).map(Lsn).zip(events).collect();
    let batch = build_with(LOG, &events, &mut working, Lsn(1)).unwrap();
    assert!(batch.is_new);
    assert_eq!(sizes(&batch), [1, 0, 2, 3], "order 1 exists already");
    let made = text(&batch.new_orders);
    assert!(made.contains("version: [2]"), "order 2 in its current state: {made}");
    assert_eq!(batch.rows(), 7);

    let batch = build_with(LOG, &events, &mut working, Lsn(2)).unwrap();
    assert!(!batch.is_new && batch.new_orders.is_empty(), "its first event may have been written");
}

#[test]
fn the_newest_feed_position_wins() {
    let at = created(1).created_at;
    let position = |sequence| {
        Event::FeedPosition(FeedPosition { session: "7".into(), sequence, at, past: vec![] })
    };
    let batch = build_with(
        LOG,
        &numbered(vec![position(5), position(9)]),
        &mut WorkingOrders::default(),
        WRITTEN,
    );
    let batch = batch.unwrap();
    assert_eq!(batch.feed.as_ref().map(|(lsn, feed)| (*lsn, feed.sequence)), Some((Lsn(2), 9)));
    assert_eq!(sizes(&batch), [0; 4]);
    assert!(!batch.is_empty());
}

fn begun() -> Event {
    Event::AccountsBegun(AccountsBegun { at: TimestampMicros::new(5) })
}

#[test]
fn money_is_written_from_the_record_on_with_which_accounts_begin() {
    let user = created(1).user;
    let events = numbered(vec![
        Event::Created(created(1)),
        accepted(1),
        filled(1, "e1", 4),
        begun(),
        filled(1, "e2", 3),
        busted(1, "e2"),
    ]);
    let (mut working, mut accounts) = (WorkingOrders::default(), Accounts::default());
    assert_eq!(missing_accounts(&events, &working, &accounts), BTreeSet::from([user.clone()]));
    accounts.working.insert(user.clone(), Account::default(), Lsn(0));
    assert!(missing_accounts(&events, &working, &accounts).is_empty());
    let batch = build(LOG, &events, (&mut working, &mut accounts), WRITTEN).unwrap();
    let MoneyRows { accounts: rows, positions, entries, are_whole, begins, .. } = &batch.money;
    assert_eq!((rows.len(), positions.len(), entries.len()), (1, 1, 2));
    assert!(*begins && !are_whole);
    let entries = text(entries);
    assert!(entries.contains(r#"kind: ["execution", "bust"]"#), "{entries}");
    assert!(
        entries.contains("shares: [3, -3]") && entries.contains("version: [1, 2]"),
        "{entries}"
    );
    assert_eq!(accounts.working.get(&user).unwrap().version(), 2);
    // A bust takes back what counted before, too: an account begins with it.
    let later = [(Lsn(7), busted(1, "e1"))];
    let batch = build(LOG, &later, (&mut working, &mut accounts), WRITTEN).unwrap();
    assert!(text(&batch.money.entries).contains("shares: [-4]"), "{:?}", batch.money.entries);
}

#[test]
fn changes_that_move_nothing_need_no_account() {
    let events = numbered(vec![Event::Created(created(1)), accepted(1)]);
    let (mut working, mut accounts) = (WorkingOrders::default(), Accounts::default());
    accounts.kept = KeptAccounts::ALL;
    assert!(missing_accounts(&events, &working, &accounts).is_empty());
    let batch = build(LOG, &events, (&mut working, &mut accounts), WRITTEN).unwrap();
    assert_eq!(batch.money.len(), 0);
    let fill = numbered(vec![filled(1, "e1", 4)]);
    assert_eq!(missing_accounts(&fill, &working, &accounts).len(), 1);
    let reserving = Created { reservation: Reservation::Shares, ..created(2) };
    let reserving = numbered(vec![Event::Created(reserving)]);
    assert_eq!(missing_accounts(&reserving, &working, &accounts).len(), 1);
}

#[test]
fn an_account_that_is_adopted_replaces_what_is_there_unless_it_comes_from_there() {
    let user = created(1).user;
    let [before, after] = ["IBM", "SPY"].map(|name| Symbol::new(name).unwrap());
    let holding = |symbol| {
        Account::from_amounts(9, [0, 0, 100], [(symbol, [1, 0, 100, 0])].into_iter()).unwrap()
    };
    for (source, rows) in [(AccountSource::Orders, (1, 2)), (AccountSource::Postgres, (0, 0))] {
        let mut accounts = Accounts::default();
        accounts.working.insert(user.clone(), holding(before), Lsn(0));
        let at = TimestampMicros::new(5);
        let adopted = AccountAdopted { user: user.clone(), at, source, account: holding(after) };
        let events = numbered(vec![Event::AccountAdopted(Box::new(adopted))]);
        let mut working = WorkingOrders::default();
        let batch = build(LOG, &events, (&mut working, &mut accounts), WRITTEN).unwrap();
        let MoneyRows { accounts: written, positions, are_whole, .. } = &batch.money;
        assert_eq!((written.len(), positions.len()), rows, "{source:?}");
        assert_eq!(*are_whole, source == AccountSource::Orders);
        if *are_whole {
            assert!(text(positions).contains("shares: [0, 1]"), "{positions:?}");
        }
        assert_eq!(accounts.working.get(&user), Some(&holding(after)));
    }
}

#[test]
fn cash_that_moved_is_in_the_account_the_ledger_and_the_list() {
    let user = created(1).user;
    let moved = |kind, cents| {
        Event::CashMoved(Box::new(CashMoved {
            user: user.clone(),
            id: "one".into(),
            at: TimestampMicros::new(5),
            cents,
            kind,
            by: Some("ops".into()),
            reason: "wire".into(),
        }))
    };
    let events = numbered(vec![
        moved(CashMovementKind::Opening, 100),
        moved(CashMovementKind::Deposit, 50),
        moved(CashMovementKind::Withdrawal, 30),
    ]);
    let mut accounts = Accounts { kept: KeptAccounts::ALL, ..Accounts::default() };
    accounts.working.insert(user.clone(), Account::default(), Lsn(0));
    let mut working = WorkingOrders::default();
    let batch = build(LOG, &events, (&mut working, &mut accounts), WRITTEN).unwrap();
    assert!(!batch.is_empty(), "although no order has changed");
    assert_eq!(batch.touched, BTreeSet::from([user.partition()]));
    let (entries, moves) = (text(&batch.money.entries), text(&batch.money.cash_movements));
    assert!(entries.contains("cash_cents: [100, 50, -30]"), "{entries}");
    assert!(entries.contains("clearing_cents: [-100, -50, 30]"), "{entries}");
    assert!(moves.contains(r#"kind: ["opening", "deposit", "withdrawal"]"#), "{moves}");
    assert!(text(&batch.money.accounts).contains("cash_cents: [120]"));
}

//! Properties of random histories.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::test_desk::{Action, Desk, Kind, Record, action, symbols};
use super::test_figures::Figures;
use super::*;
use crate::types::Side;

fn records(log: &[(Record, Movement)]) -> Vec<Record> {
    log.iter().map(|(record, _)| *record).collect()
}

fn assert_reserves_what_is_held(desk: &Desk) {
    let (cash, shares) = desk.held();
    assert_eq!(desk.account.reserved_cents(), cash);
    for symbol in symbols() {
        let held = shares.get(&symbol).copied().unwrap_or_default();
        assert_eq!(desk.account.holding(symbol).reserved_shares(), held);
    }
}

/// The books of one user, kept from the postings alone.
#[derive(Default)]
struct Books(BTreeMap<Ledger, i64>);

impl Books {
    fn post(&mut self, movement: &Movement) {
        let mut sums: BTreeMap<Unit, i64> = BTreeMap::new();
        for posting in movement.postings() {
            *self.0.entry(posting.ledger).or_default() += posting.amount;
            *sums.entry(posting.ledger.unit()).or_default() += posting.amount;
        }
        assert!(sums.values().all(|sum| *sum == 0), "a movement is balanced: {movement:?}");
    }

    fn of(&self, ledger: Ledger) -> i64 {
        self.0.get(&ledger).copied().unwrap_or_default()
    }

    fn assert_agree(&self, account: &Account, deposits: i64) {
        let reserved = account.reserved_cents();
        assert_eq!(self.of(Ledger::AvailableCash), account.cash_cents() - reserved);
        assert_eq!(self.of(Ledger::ReservedCash), reserved);
        assert_eq!(self.of(Ledger::Clearing), -deposits);
        assert_eq!(account.deposited_cents(), deposits);
        assert!(account.is_balanced());
        for symbol in symbols() {
            let holding = account.holding(symbol);
            let (cost, profit) = (self.of(Ledger::Cost(symbol)), -self.of(Ledger::Profit(symbol)));
            let net = holding.cost_basis_cents() - holding.realized_profit_cents();
            assert_eq!(cost - profit, net);
            if holding.shares() != 0 {
                assert_eq!(cost, holding.cost_basis_cents());
            }
            let available = holding.available_shares();
            assert_eq!(self.of(Ledger::AvailableShares(symbol)), available);
            assert_eq!(self.of(Ledger::ReservedShares(symbol)), holding.reserved_shares());
            assert_eq!(self.of(Ledger::ClearingShares(symbol)), -holding.shares());
        }
        let mut trial_balance: BTreeMap<Unit, i64> = BTreeMap::new();
        for (ledger, amount) in &self.0 {
            *trial_balance.entry(ledger.unit()).or_default() += amount;
        }
        assert!(trial_balance.values().all(|sum| *sum == 0), "the trial balance is zero");
    }
}

/// Ends every open order.
fn end_all(desk: &mut Desk) {
    for order in 0..desk.orders.len() {
        desk.run(&[
            Action::End { order, is_failure: false },
            Action::Stray { order, is_live: false },
        ]);
    }
    assert!(desk.orders.iter().all(|order| !order.is_open()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_account_equals_a_naive_book_after_each_record(actions in vec(action(), 1..60)) {
        let mut desk = Desk::default();
        let mut history = Vec::new();
        for action in actions {
            let Some(record) = desk.decide(action) else { continue };
            desk.apply(record);
            history.push(record);
            prop_assert_eq!(Figures::of(&desk.account), Figures::from_history(&history));
        }
    }

    #[test]
    fn reservations_are_those_of_the_open_orders(actions in vec(action(), 1..80)) {
        let mut desk = Desk::default();
        for action in actions {
            desk.run(&[action]);
            assert_reserves_what_is_held(&desk);
        }
        end_all(&mut desk);
        prop_assert_eq!(desk.account.reserved_cents(), 0);
        for symbol in symbols() {
            prop_assert_eq!(desk.account.holding(symbol).reserved_shares(), 0);
        }
    }

    #[test]
    fn the_books_balance_after_each_record_and_say_what_the_account_says(
        actions in vec(action(), 1..80),
    ) {
        let (mut desk, mut books, mut deposits) = (Desk::default(), Books::default(), 0);
        for action in actions {
            for (record, movement) in desk.run(&[action]) {
                if let Record::CashMoved { cents } = record {
                    deposits += cents;
                }
                books.post(&movement);
                books.assert_agree(&desk.account, deposits);
            }
        }
    }

    #[test]
    fn a_replay_of_the_records_or_of_the_movements_gives_the_same(
        actions in vec(action(), 1..80),
    ) {
        let mut desk = Desk::default();
        let log = desk.run(&actions);
        let (mut replayed, mut booked) = (Desk::default(), Account::default());
        for (record, movement) in &log {
            prop_assert_eq!(&replayed.apply(*record), movement);
            booked.book(*movement).unwrap();
        }
        prop_assert_eq!(&replayed, &desk);
        prop_assert_eq!(&booked, &desk.account);
        let versions = log.iter().filter(|(_, movement)| !movement.is_nothing()).count();
        prop_assert_eq!(booked.version(), versions as u64, "a movement is one version");
    }

    #[test]
    fn an_execution_that_is_busted_at_once_was_never_there(
        actions in vec(action(), 1..60),
        order in any::<usize>(),
        num_shares in 1..9_u64,
        price in 1..400_i64,
    ) {
        let mut desk = Desk::default();
        desk.run(&actions);
        // An order that is open: the end of another one would not come back by itself.
        let (side, kind) = (Side::Buy, Kind::Unchecked);
        desk.run(&[Action::Create { side, symbol: 0, num_shares: 8, price: 1, kind }]);
        let open: Vec<usize> =
            (0..desk.orders.len()).filter(|order| desk.orders[*order].is_open()).collect();
        let (figures, executions) = (Figures::of(&desk.account), desk.counting());
        let fill = Action::Fill { order: open[order % open.len()], num_shares, price };
        prop_assert_eq!(desk.run(&[fill]).len(), 1);
        prop_assert_eq!(desk.run(&[Action::Bust { execution: executions }]).len(), 1);
        prop_assert_eq!(Figures::of(&desk.account), figures);
    }

    #[test]
    fn a_replaced_execution_is_a_bust_and_an_execution(
        actions in vec(action(), 1..60),
        price in 1..400_i64,
    ) {
        let mut desk = Desk::default();
        desk.run(&actions);
        let [in_two, in_one] = desk.replaced(price).map(|account| Figures::of(&account));
        prop_assert_eq!(in_two, in_one);
    }

    #[test]
    fn once_all_executions_are_busted_only_the_deposits_are_left(
        actions in vec(action(), 1..60),
        order_of_busts in vec(any::<usize>(), 60),
    ) {
        let mut desk = Desk::default();
        let log = records(&desk.run(&actions));
        for execution in order_of_busts {
            desk.run(&[Action::Bust { execution }]);
        }
        prop_assert_eq!(desk.counting(), 0);
        let deposits: i64 = log
            .iter()
            .map(|record| if let Record::CashMoved { cents } = record { *cents } else { 0 })
            .sum();
        prop_assert_eq!(desk.account.cash_cents(), deposits);
        for symbol in symbols() {
            let holding = desk.account.holding(symbol);
            let left = (holding.shares(), holding.cost_basis_cents());
            prop_assert_eq!(left, (0, 0));
            prop_assert_eq!(holding.realized_profit_cents(), 0);
        }
    }

    #[test]
    fn without_late_truths_nothing_becomes_negative(
        actions in vec(action(), 1..80),
    ) {
        let mut desk = Desk::default();
        for action in actions {
            if desk.is_as_agreed(action) {
                desk.run(&[action]);
            }
            prop_assert!(desk.account.buying_power_cents() >= 0);
            prop_assert!(!desk.account.is_overdrawn());
            for symbol in symbols() {
                prop_assert!(desk.account.holding(symbol).available_shares() >= 0);
            }
        }
    }
}

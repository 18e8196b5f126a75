//! A second book, made anew from the whole history each time, by other means.

use std::collections::BTreeMap;

use super::test_desk::{Record, symbols};
use super::*;
use crate::types::{Side, Symbol};

/// What an account must show.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Figures {
    cash: i128,
    reserved: i128,
    /// Shares, reserved shares, cost and profit.
    holdings: BTreeMap<Symbol, [i128; 4]>,
}

impl Figures {
    pub(super) fn of(account: &Account) -> Self {
        let holdings = symbols().map(|symbol| {
            let holding = account.holding(symbol);
            let figures = [
                holding.shares(),
                holding.reserved_shares(),
                holding.cost_basis_cents(),
                holding.realized_profit_cents(),
            ];
            (symbol, figures.map(i128::from))
        });
        Self {
            cash: account.cash_cents().into(),
            reserved: account.reserved_cents().into(),
            holdings: holdings.into(),
        }
    }

    /// From the history alone.
    pub(super) fn from_history(records: &[Record]) -> Self {
        let mut figures = Self { cash: cash(records), ..Self::default() };
        for symbol in symbols() {
            let effects = effects(records, symbol);
            let [shares, cost, profit] =
                [0, 1, 2].map(|part| effects.values().map(|effect| effect[part]).sum::<i128>());
            let flat = if shares == 0 { cost } else { 0 };
            figures.holdings.insert(symbol, [shares, 0, cost - flat, profit - flat]);
        }
        for (number, record) in records.iter().enumerate() {
            let Record::Created { symbol, reservation, .. } = record else { continue };
            let left = open_shares(records, number);
            match reservation {
                Reservation::Nothing => {}
                Reservation::Cash(price) => figures.reserved += left * i128::from(price.cents()),
                Reservation::Shares => figures.holdings.get_mut(symbol).unwrap()[1] += left,
            }
        }
        figures
    }
}

/// The record that created the order of this number.
fn created(records: &[Record], order: usize) -> &Record {
    let mut all = records.iter().filter(|record| matches!(record, Record::Created { .. }));
    all.nth(order).unwrap()
}

/// Executions that count at the end of these records: number, order, shares and price.
fn counting(records: &[Record]) -> Vec<(usize, usize, i128, i128)> {
    let fills = records.iter().filter_map(|record| match record {
        Record::Filled { order, num_shares, price } => {
            Some((*order, i128::from(*num_shares), i128::from(price.cents())))
        }
        _ => None,
    });
    let is_void = |number: usize| {
        records
            .iter()
            .any(|record| matches!(record, Record::Busted { execution } if *execution == number))
    };
    fills
        .enumerate()
        .filter(|(number, _)| !is_void(*number))
        .map(|(number, (order, shares, price))| (number, order, shares, price))
        .collect()
}

fn cash(records: &[Record]) -> i128 {
    let moved = records.iter().map(|record| match record {
        Record::CashMoved { cents } => i128::from(*cents),
        _ => 0,
    });
    let traded = counting(records).into_iter().map(|(_, order, shares, price)| {
        match created(records, order) {
            Record::Created { side: Side::Buy, .. } => -shares * price,
            _ => shares * price,
        }
    });
    moved.sum::<i128>() + traded.sum::<i128>()
}

/// Shares that the order of this record may still execute.
fn open_shares(records: &[Record], place: usize) -> i128 {
    let Record::Created { num_shares, .. } = records[place] else { unreachable!() };
    let is_created = |record: &&Record| matches!(record, Record::Created { .. });
    let order = records[..place].iter().filter(is_created).count();
    let filled: i128 = counting(records)
        .into_iter()
        .filter(|(_, of, ..)| *of == order)
        .map(|(_, _, shares, _)| shares)
        .sum();
    let failed = |record: &Record| matches!(record, Record::Ended { order: of, is_failure: true } if *of == order);
    // The last word about whether the exchange may execute it.
    let may_execute = if records.iter().any(failed) {
        records.iter().rev().find_map(|record| match record {
            Record::Strayed { order: of, is_live } if *of == order => Some(*is_live),
            _ => None,
        })
    } else {
        records
            .iter()
            .rev()
            .find_map(|record| match record {
                Record::Ended { order: of, .. } if *of == order => Some(false),
                Record::Filled { order: of, .. } if *of == order => Some(true),
                _ => None,
            })
            .or(Some(true))
    };
    let left = i128::from(num_shares) - filled;
    if may_execute == Some(true) { left.max(0) } else { 0 }
}

/// What each execution of a symbol that counts has done: shares, cost and profit. Each is judged by
/// the sums of those that counted when it came.
fn effects(records: &[Record], symbol: Symbol) -> BTreeMap<usize, [i128; 3]> {
    let mut effects: BTreeMap<usize, [i128; 3]> = BTreeMap::new();
    let mut number = 0;
    for record in records {
        match record {
            Record::Filled { order, num_shares, price } => {
                let Record::Created { symbol: of, side, .. } = created(records, *order) else {
                    unreachable!()
                };
                if *of == symbol {
                    let sign = if *side == Side::Buy { 1 } else { -1 };
                    let held = [0, 1].map(|part| effects.values().map(|e| e[part]).sum());
                    let trade = (sign * i128::from(*num_shares), i128::from(price.cents()));
                    effects.insert(number, effect(held, trade));
                }
                number += 1;
            }
            Record::Busted { execution } => drop(effects.remove(execution)),
            _ => {}
        }
    }
    effects
}

fn effect([held, cost]: [i128; 2], (shares, price): (i128, i128)) -> [i128; 3] {
    let profit = if held == 0 {
        -cost
    } else if held.signum() == shares.signum() {
        0
    } else {
        let closed = held.abs().min(shares.abs());
        let proceeds = -shares.signum() * closed * price;
        proceeds - half_even(cost * closed, held.abs())
    };
    [shares, shares * price + profit, profit]
}

/// The whole number nearest to a fraction, the even one of two.
fn half_even(numerator: i128, denominator: i128) -> i128 {
    let near = numerator / denominator;
    let distance = |whole: i128| (numerator - whole * denominator).abs();
    let candidates = [near - 1, near, near + 1];
    let least = candidates.into_iter().map(distance).min().unwrap();
    let nearest = candidates.into_iter().filter(|whole| distance(*whole) == least);
    nearest.min_by_key(|whole| whole.rem_euclid(2)).unwrap()
}

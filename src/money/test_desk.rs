//! A desk that takes random actions as the engine would: what it decides becomes records, and
//! records alone change its state.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::types::{PriceCents, Shares, Side, Symbol};

const COLLAR_PERCENT: u16 = 5;

pub(super) fn symbols() -> [Symbol; 2] {
    ["IBM", "SPY"].map(|name| Symbol::new(name).unwrap())
}

/// What a history is made of. Numbers select among what is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Create {
        side: Side,
        symbol: usize,
        num_shares: Shares,
        price: i64,
        kind: Kind,
    },
    /// Also after the end, and beyond the size.
    Fill {
        order: usize,
        num_shares: Shares,
        price: i64,
    },
    End {
        order: usize,
        is_failure: bool,
    },
    /// A failed order turns out to be at the exchange, or to have ended there.
    Stray {
        order: usize,
        is_live: bool,
    },
    Bust {
        execution: usize,
    },
    Deposit {
        cents: i64,
    },
    Withdraw {
        cents: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Limit,
    Market,
    Unchecked,
}

/// A recorded fact.
#[derive(Debug, Clone, Copy)]
pub(super) enum Record {
    Created {
        symbol: Symbol,
        side: Side,
        num_shares: Shares,
        reservation: Reservation,
    },
    Filled {
        order: usize,
        num_shares: Shares,
        price: PriceCents,
    },
    Ended {
        order: usize,
        is_failure: bool,
    },
    Strayed {
        order: usize,
        is_live: bool,
    },
    /// The execution of that number, of all.
    Busted {
        execution: usize,
    },
    CashMoved {
        cents: i64,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) symbol: Symbol,
    pub(super) side: Side,
    num_shares: Shares,
    reservation: Reservation,
    filled: Shares,
    has_ended: bool,
    has_failed: bool,
    is_stray: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Execution {
    order: usize,
    trade: Trade,
    booked: Booked,
    counts: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Desk {
    pub(super) account: Account,
    pub(super) orders: Vec<Order>,
    executions: Vec<Execution>,
}

impl Order {
    fn shares_left(&self) -> Shares {
        self.num_shares.saturating_sub(self.filled)
    }

    pub(super) fn is_open(&self) -> bool {
        let may_execute = if self.has_failed { self.is_stray } else { !self.has_ended };
        may_execute && self.shares_left() > 0
    }

    pub(super) fn held(&self) -> Held {
        let (symbol, reservation) = (self.symbol, self.reservation);
        let (shares_left, is_open) = (self.shares_left(), self.is_open());
        OrderFunds { symbol, reservation, shares_left, is_open }.held().unwrap()
    }
}

impl Desk {
    /// Decides about an action; `None` if it is refused or there is nothing to do it to.
    pub(super) fn decide(&self, action: Action) -> Option<Record> {
        let order = |number: usize| (!self.orders.is_empty()).then(|| number % self.orders.len());
        match action {
            Action::Create { side, symbol, num_shares, price, kind } => {
                self.create(side, symbols()[symbol % symbols().len()], (num_shares, price, kind))
            }
            Action::Fill { order: number, num_shares, price } => {
                let price = PriceCents::new(price).unwrap();
                Some(Record::Filled { order: order(number)?, num_shares, price })
            }
            Action::End { order: number, is_failure } => {
                let order = order(number)?;
                let is_open = self.orders[order].is_open() && !self.orders[order].has_failed;
                is_open.then_some(Record::Ended { order, is_failure })
            }
            Action::Stray { order: number, is_live } => {
                let order = order(number)?;
                self.orders[order].has_failed.then_some(Record::Strayed { order, is_live })
            }
            Action::Bust { execution } => {
                let counting: Vec<usize> = (0..self.executions.len())
                    .filter(|number| self.executions[*number].counts)
                    .collect();
                let chosen = (!counting.is_empty()).then(|| execution % counting.len())?;
                Some(Record::Busted { execution: counting[chosen] })
            }
            Action::Deposit { cents } => Some(Record::CashMoved { cents }),
            Action::Withdraw { cents } => {
                self.account.clone().withdraw(cents).ok()?;
                Some(Record::CashMoved { cents: -cents })
            }
        }
    }

    fn create(
        &self,
        side: Side,
        symbol: Symbol,
        (num_shares, price, kind): (Shares, i64, Kind),
    ) -> Option<Record> {
        let price = PriceCents::new(price).unwrap();
        let reservation = match (kind, side) {
            (Kind::Unchecked, _) => Reservation::Nothing,
            (_, Side::Sell) => Reservation::Shares,
            (Kind::Limit, Side::Buy) => Reservation::Cash(price),
            (Kind::Market, Side::Buy) => Reservation::Cash(collar_price(price, COLLAR_PERCENT)),
        };
        let mut account = self.account.clone();
        let before = account.clone();
        let reserved = match reservation {
            Reservation::Nothing => Ok(Movement::default()),
            Reservation::Cash(price) => account.reserve_buy(num_shares, price),
            Reservation::Shares => account.reserve_sell(symbol, num_shares),
        };
        if reserved.is_err() {
            assert_eq!(account, before, "a refusal changes nothing");
            return None;
        }
        assert!(account.buying_power_cents() >= before.buying_power_cents().min(0));
        Some(Record::Created { symbol, side, num_shares, reservation })
    }

    /// Applies a record, both live and in a replay.
    pub(super) fn apply(&mut self, record: Record) -> Movement {
        match record {
            Record::Created { symbol, side, num_shares, reservation } => {
                let (filled, has_ended, has_failed, is_stray) = (0, false, false, false);
                let order = Order {
                    symbol,
                    side,
                    num_shares,
                    reservation,
                    filled,
                    has_ended,
                    has_failed,
                    is_stray,
                };
                self.orders.push(order);
                let held = self.orders[self.orders.len() - 1].held();
                self.account.change_held((Held::Nothing, held)).unwrap()
            }
            Record::Filled { order, num_shares, price } => {
                let held = self.change(order, |order| {
                    order.filled += num_shares;
                    // A late fill opens an order that did not fail.
                    order.has_ended = false;
                });
                let Order { symbol, side, .. } = self.orders[order];
                let trade = Trade { symbol, side, num_shares, price };
                let (booked, movement) = self.account.apply_execution(&trade, held).unwrap();
                self.executions.push(Execution { order, trade, booked, counts: true });
                movement
            }
            Record::Ended { order, is_failure } => {
                let held = self.change(order, |order| {
                    order.has_ended = true;
                    order.has_failed = is_failure;
                });
                self.account.change_held(held).unwrap()
            }
            Record::Strayed { order, is_live } => {
                let held = self.change(order, |order| order.is_stray = is_live);
                self.account.change_held(held).unwrap()
            }
            Record::Busted { execution } => {
                let Execution { order, trade, booked, .. } = self.executions[execution].clone();
                self.executions[execution].counts = false;
                let held = self.change(order, |order| order.filled -= trade.num_shares);
                self.account.bust_execution((&trade, booked), held).unwrap()
            }
            Record::CashMoved { cents } if cents < 0 => self.account.withdraw(-cents).unwrap(),
            Record::CashMoved { cents } => self.account.deposit(cents).unwrap(),
        }
    }

    fn change(&mut self, order: usize, change: impl FnOnce(&mut Order)) -> (Held, Held) {
        let order = &mut self.orders[order];
        let before = order.held();
        change(order);
        (before, order.held())
    }

    /// Takes actions; gives the records and the movement of each.
    pub(super) fn run(&mut self, actions: &[Action]) -> Vec<(Record, Movement)> {
        let mut log = Vec::new();
        for action in actions {
            if let Some(record) = self.decide(*action) {
                log.push((record, self.apply(record)));
            }
        }
        log
    }

    /// Replaces the executions that count by ones at another price, each by a bust and an execution
    /// in one account and by one movement in another; gives both accounts.
    pub(super) fn replaced(&self, price: i64) -> [Account; 2] {
        let [mut in_two, mut in_one] = [self.account.clone(), self.account.clone()];
        let unchanged = (Held::Nothing, Held::Nothing);
        for Execution { trade, booked, .. } in self.executions.iter().filter(|one| one.counts) {
            let by = Trade { price: PriceCents::new(price).unwrap(), ..*trade };
            in_two.bust_execution((trade, *booked), unchanged).unwrap();
            let (expected, _) = in_two.apply_execution(&by, unchanged).unwrap();
            let version = in_one.version();
            let (given, movement) =
                in_one.replace_execution((trade, *booked), &by, unchanged).unwrap();
            assert_eq!(given, expected);
            assert!(in_one.version() == version + 1 || movement.is_nothing());
        }
        [in_two, in_one]
    }

    /// Number of executions that count.
    pub(super) fn counting(&self) -> usize {
        self.executions.iter().filter(|execution| execution.counts).count()
    }

    /// Whether an action is what a user and an exchange do that keep to what was agreed.
    pub(super) fn is_as_agreed(&self, action: Action) -> bool {
        match action {
            Action::Create { kind, .. } => kind != Kind::Unchecked,
            Action::Fill { order, num_shares, price } => {
                let order = self.orders.get(order % self.orders.len().max(1));
                order.is_some_and(|order| {
                    let is_within = match order.reservation {
                        Reservation::Nothing => false,
                        Reservation::Cash(highest) => price <= highest.cents(),
                        Reservation::Shares => true,
                    };
                    is_within && order.is_open() && num_shares <= order.shares_left()
                })
            }
            Action::Stray { .. } | Action::Bust { .. } => false,
            Action::End { .. } | Action::Deposit { .. } | Action::Withdraw { .. } => true,
        }
    }

    /// What the open orders hold: cash, and shares by symbol.
    pub(super) fn held(&self) -> (i64, BTreeMap<Symbol, i64>) {
        let (mut cash, mut shares) = (0, BTreeMap::new());
        for order in &self.orders {
            match order.held() {
                Held::Nothing => {}
                Held::Cash(cents) => cash += cents,
                Held::Shares(symbol, held) => *shares.entry(symbol).or_default() += held,
            }
        }
        (cash, shares)
    }
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), Just(Side::Sell)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Limit), 2 => Just(Kind::Market), 1 => Just(Kind::Unchecked)]
}

/// One action. Small numbers, so that orders are filled, over-filled and sold out of.
pub(super) fn action() -> impl Strategy<Value = Action> {
    let create = (side(), 0..2_usize, 1..12_u64, 1..400_i64, kind()).prop_map(
        |(side, symbol, num_shares, price, kind)| Action::Create {
            side,
            symbol,
            num_shares,
            price,
            kind,
        },
    );
    let fill = (any::<usize>(), 1..9_u64, 1..400_i64)
        .prop_map(|(order, num_shares, price)| Action::Fill { order, num_shares, price });
    let end = (any::<usize>(), any::<bool>())
        .prop_map(|(order, is_failure)| Action::End { order, is_failure });
    let stray = (any::<usize>(), any::<bool>())
        .prop_map(|(order, is_live)| Action::Stray { order, is_live });
    prop_oneof![
        6 => create,
        8 => fill,
        2 => end,
        1 => stray,
        3 => any::<usize>().prop_map(|execution| Action::Bust { execution }),
        2 => (1..9_000_i64).prop_map(|cents| Action::Deposit { cents }),
        1 => (1..9_000_i64).prop_map(|cents| Action::Withdraw { cents }),
    ]
}

//! Users' money: cash, reservations, the shares held, their cost and the profit made with them. Pure:
//! no I/O, no clock, no random numbers.
//!
//! It is the core of accounts: `order::booking` books by it what happens to orders, in the engine and
//! in the store alike. What surrounds it is described in `docs/design/accounts.md`.
//!
//! An [`Account`] changes only by a [`Movement`]. The amounts that a movement adds to the ledger
//! accounts sum to zero, in cents and in shares, so that the books of all users balance against the
//! clearing accounts after each of them. Replaying the same operations gives the same account.
//!
//! # What an order reserves
//!
//! [`OrderFunds::held`] says it, from the order's present state alone: shares left times a price
//! per share for a buy, shares left for a sell, nothing for an order that is not open. Whatever
//! happens to an order changes its account's reservation from what it held before to what it holds
//! after. So nothing is reserved where no order is open, and an order that a bust or a late fill
//! opens again reserves again.
//!
//! # Cost and profit
//!
//! The cost of a holding is an average cost, defined by the order of the log:
//!
//! - An execution that adds to a holding adds its value to the cost.
//! - One that reduces it removes `cost * shares executed / shares held`, rounded half to even, and
//!   all of the cost where it takes the last share; the difference to its value is realized profit.
//! - One that does both, beyond zero, is the first up to zero and the second from there.
//! - A busted execution takes back exactly what it did when it was counted ([`Booked`]), whatever
//!   happened since. So busts in any order, and busts between any executions, leave what the others
//!   have done.
//! - Cost that a bust leaves on a holding without shares belongs to its realized profit. The next
//!   execution moves it there.
//!
//! `cost - realized profit` is at each moment what the executions that count have cost in cash.
//!
//! # Late truths
//!
//! Executions and busts are facts: nothing refuses or clips them. Cash and shares may become
//! negative, and buying power with them, which refuses new buys until it is cured. The one error is
//! an amount beyond `i64`, which no real execution has; the account is then as it was before.

mod account;
mod cents;
mod holding;
mod movement;
mod operations;
mod refusal;
mod reservation;
mod stored;
mod trial_balance;

pub use account::Account;
pub use cents::Overflow;
pub use holding::{Booked, Holding, Trade};
pub use movement::{Ledger, Movement, Posting, Unit};
pub use refusal::{MAX_CASH_MOVEMENT_CENTS, Refusal};
pub use reservation::{Held, OrderFunds, Reservation, collar_price};
pub use stored::{STORED_ACCOUNT_FORMAT, StoredAccountError};
pub use trial_balance::{SymbolBalance, TrialBalance};

#[cfg(test)]
mod average_cost_tests;
#[cfg(test)]
mod by_hand_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod test_desk;
#[cfg(test)]
mod test_figures;

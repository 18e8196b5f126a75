//! Settings of the commands with which operators move users' cash at a running server.

use clap::{Args, Subcommand};

use super::number::whole;
use super::operator::{ActArgs, AdminArgs};
use crate::money::MAX_CASH_MOVEMENT_CENTS;
use crate::types::{CashMovementId, UserId};

/// The subcommands of `account`.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Add cash to the account of a user.
    Deposit(MoveCashArgs),
    /// Take available cash out of the account of a user.
    Withdraw(MoveCashArgs),
    /// Show the account of a user, as JSON.
    Show(ShowAccountArgs),
}

/// Arguments of `account show`.
#[derive(Debug, Clone, Args)]
pub struct ShowAccountArgs {
    /// The user.
    #[arg(value_name = "USER", value_parser = user)]
    pub user: UserId,
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `account deposit` and `account withdraw`.
#[derive(Debug, Clone, Args)]
pub struct MoveCashArgs {
    /// The user.
    #[arg(value_name = "USER", value_parser = user)]
    pub user: UserId,
    #[command(flatten)]
    pub amount: AmountArgs,
    /// Names the movement: what was moved under this id is not moved again. By default an id is drawn,
    /// and printed on standard error before it is sent.
    #[arg(long, value_name = "ID", value_parser = movement_id)]
    pub id: Option<CashMovementId>,
    #[command(flatten)]
    pub act: ActArgs,
}

/// How much, in one of two units.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct AmountArgs {
    /// The amount in cents.
    #[arg(long, value_name = "N",
          value_parser = whole::<i64>(1..=MAX_CASH_MOVEMENT_CENTS.unsigned_abs()))]
    cents: Option<i64>,
    /// The amount in dollars, with at most two decimals.
    #[arg(long, value_name = "D", value_parser = cents_of_dollars)]
    dollars: Option<i64>,
}

impl AmountArgs {
    /// The amount in cents.
    pub fn cents(&self) -> i64 {
        match (self.cents, self.dollars) {
            (Some(cents), _) | (None, Some(cents)) => cents,
            (None, None) => unreachable!("one of both is required"),
        }
    }
}

fn user(name: &str) -> Result<UserId, String> {
    UserId::new(name).map_err(|error| error.to_string())
}

fn movement_id(id: &str) -> Result<CashMovementId, String> {
    CashMovementId::new(id).map_err(|error| error.to_string())
}

/// Reads an amount such as 12, 12.5 or 12.50.
fn cents_of_dollars(text: &str) -> Result<i64, String> {
    let (dollars, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_written = are_digits(dollars) && are_digits(decimals) && decimals.len() <= 2;
    let cents = is_written.then(|| format!("{dollars}{decimals:0<2}").parse().ok()).flatten();
    cents.filter(|cents| (1..=MAX_CASH_MOVEMENT_CENTS).contains(cents)).ok_or_else(|| {
        let most = MAX_CASH_MOVEMENT_CENTS / 100;
        format!("expected an amount in dollars from 0.01 to {most}, such as 12 or 12.50")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_have_at_most_two_decimals() {
        for (text, cents) in [
            ("12", 1_200),
            ("12.5", 1_250),
            ("12.50", 1_250),
            ("0.01", 1),
            ("10000000000000", MAX_CASH_MOVEMENT_CENTS),
        ] {
            assert_eq!(cents_of_dollars(text), Ok(cents), "{text}");
        }
        for wrong in [
            "",
            "0",
            ".5",
            "1.",
            "1.005",
            "-1",
            "+1",
            "1e3",
            "1,000",
            "10000000000000.01",
            "9".repeat(40).as_str(),
        ] {
            assert!(cents_of_dollars(wrong).is_err(), "{wrong}");
        }
    }
}

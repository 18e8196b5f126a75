//! Settings of users' accounts.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::number::whole;
use crate::engine::{AccountMode, AccountRules};
use crate::money::MAX_CASH_MOVEMENT_CENTS;

/// Longest age of a price that counts as fresh: a day.
const MAX_PRICE_AGE_SECONDS: u64 = 86_400;

/// What accounts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccountModeChoice {
    /// They are kept, and nothing is reserved or refused.
    Unchecked,
    /// A buy needs buying power, and a sell needs shares.
    Cash,
}

/// What users' accounts do about orders.
#[derive(Debug, Clone, Args)]
pub struct AccountArgs {
    /// With cash, a buy needs buying power and a sell needs shares, and open orders reserve them.
    /// With unchecked, accounts are kept and nothing is refused. By default cash, but unchecked for
    /// one of several nodes.
    #[arg(long, env = "LONGBOW_ACCOUNT_MODE", value_name = "MODE", value_enum)]
    pub account_mode: Option<AccountModeChoice>,

    /// How far above the last price a market buy reserves, in percent.
    #[arg(long, env = "LONGBOW_MARKET_COLLAR_PERCENT", value_name = "N", default_value_t = 5,
          value_parser = whole::<u16>(0..=100))]
    pub market_collar_percent: u16,

    /// Seconds after its print in which a price says what a market buy needs. After them a market buy
    /// is refused until the next print.
    #[arg(long, env = "LONGBOW_MARKET_PRICE_SECONDS", value_name = "S", default_value_t = 10,
          value_parser = whole::<u64>(1..=MAX_PRICE_AGE_SECONDS))]
    pub market_price_seconds: u64,

    /// What the account of a new user begins with, in cents; only with --account-mode cash. By default
    /// 10000000 (100,000 dollars) with --exchange sim, else 0.
    #[arg(long, env = "LONGBOW_OPENING_BALANCE_CENTS", value_name = "CENTS",
          value_parser = whole::<i64>(0..=MAX_CASH_MOVEMENT_CENTS.unsigned_abs()))]
    pub opening_balance_cents: Option<i64>,
}

/// What the account of a new user begins with in development: 100,000 dollars.
const DEVELOPMENT_BALANCE_CENTS: i64 = 10_000_000;

impl AccountArgs {
    /// The rules of the order engines, for a server alone or one of several nodes, with the
    /// simulated exchange or another one.
    pub(super) fn rules(&self, is_member: bool, is_simulated: bool) -> AccountRules {
        let opening = if is_simulated { DEVELOPMENT_BALANCE_CENTS } else { 0 };
        AccountRules {
            mode: match self.account_mode.unwrap_or(default_mode(is_member)) {
                AccountModeChoice::Unchecked => AccountMode::Unchecked,
                AccountModeChoice::Cash => AccountMode::Cash,
            },
            collar_percent: self.market_collar_percent,
            opening_cents: self.opening_balance_cents.unwrap_or(opening),
        }
    }

    /// Age after which a price says nothing about a market buy.
    pub fn market_price_age(&self) -> Duration {
        Duration::from_secs(self.market_price_seconds)
    }
}

/// The engines of nodes that share users keep no accounts yet.
const fn default_mode(is_member: bool) -> AccountModeChoice {
    if is_member { AccountModeChoice::Unchecked } else { AccountModeChoice::Cash }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> AccountArgs {
        AccountArgs {
            account_mode: None,
            market_collar_percent: 5,
            market_price_seconds: 10,
            opening_balance_cents: None,
        }
    }

    #[test]
    fn defaults_follow_the_cluster_and_the_exchange() {
        let development = arguments().rules(false, true);
        assert_eq!((development.mode, development.opening_cents), (AccountMode::Cash, 10_000_000));
        let other_exchange = arguments().rules(false, false);
        assert_eq!((other_exchange.mode, other_exchange.opening_cents), (AccountMode::Cash, 0));
        assert_eq!(arguments().rules(true, true).mode, AccountMode::Unchecked);
        let given = AccountArgs {
            account_mode: Some(AccountModeChoice::Cash),
            opening_balance_cents: Some(7),
            ..arguments()
        };
        let rules = given.rules(true, true);
        assert_eq!((rules.mode, rules.opening_cents), (AccountMode::Cash, 7));
    }
}

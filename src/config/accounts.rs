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
    /// With unchecked, accounts are kept and nothing is refused.
    #[arg(
        long,
        env = "LONGBOW_ACCOUNT_MODE",
        value_name = "MODE",
        value_enum,
        default_value = "unchecked"
    )]
    pub account_mode: AccountModeChoice,

    /// How far above the last price a market buy reserves, in percent.
    #[arg(long, env = "LONGBOW_MARKET_COLLAR_PERCENT", value_name = "N", default_value_t = 5,
          value_parser = whole::<u16>(0..=100))]
    pub market_collar_percent: u16,

    /// Seconds after its print in which a price says what a market buy needs. After them a market buy
    /// is refused until the next print.
    #[arg(long, env = "LONGBOW_MARKET_PRICE_SECONDS", value_name = "S", default_value_t = 10,
          value_parser = whole::<u64>(1..=MAX_PRICE_AGE_SECONDS))]
    pub market_price_seconds: u64,

    /// What the account of a new user begins with, in cents; only with --account-mode cash.
    #[arg(long, env = "LONGBOW_OPENING_BALANCE_CENTS", value_name = "CENTS", default_value_t = 0,
          value_parser = whole::<i64>(0..=MAX_CASH_MOVEMENT_CENTS.unsigned_abs()))]
    pub opening_balance_cents: i64,
}

impl AccountArgs {
    /// The rules of the order engines.
    pub fn rules(&self) -> AccountRules {
        AccountRules {
            mode: match self.account_mode {
                AccountModeChoice::Unchecked => AccountMode::Unchecked,
                AccountModeChoice::Cash => AccountMode::Cash,
            },
            collar_percent: self.market_collar_percent,
            opening_cents: self.opening_balance_cents,
        }
    }

    /// Age after which a price says nothing about a market buy.
    pub fn market_price_age(&self) -> Duration {
        Duration::from_secs(self.market_price_seconds)
    }
}

//! Terms of an order: side, type and time in force.

use serde::{Deserialize, Serialize};

/// Buy or sell. The client contract names the field `position`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Side {
    /// Buys shares.
    Buy,
    /// Sells shares, or sells short.
    Sell,
}

/// Market or limit.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum OrderType {
    /// Executes at the market price.
    Market,
    /// Executes at the limit price or better.
    Limit,
}

/// How long an order stays open at the exchange.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum TimeInForce {
    /// Expires at the end of the trading session.
    #[default]
    Day,
    /// Good till cancelled.
    Gtc,
}

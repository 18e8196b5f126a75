use serde::{Deserialize, Serialize};

/// Which way an order goes. Named as in the client contract; the exchange calls it `side`.
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
    /// Acquire shares.
    Buy,
    /// Dispose of shares, or go short.
    Sell,
}

/// Whether a price limits the order.
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
    /// At whatever the market pays.
    Market,
    /// At the limit price or better.
    Limit,
}

/// How long an order stays at the exchange.
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

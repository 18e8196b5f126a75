//! Ids: users, orders, and the ids that clients and the exchange choose.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{InvalidValue, TimestampMicros};

/// Number of user partitions; each has its own engine. Part of the record format: every record
/// names its partition, so a partition can move between nodes.
pub const USER_PARTITIONS: usize = 64;
/// Maximum length of a user id, in bytes.
pub const MAX_USER_ID_BYTES: usize = 64;
/// Maximum length of an id chosen by a client or by the exchange, in bytes.
pub const MAX_EXTERNAL_ID_BYTES: usize = 64;

// The partition takes the low bits of every order id and one byte of every record.
const PARTITION_BITS: u32 = USER_PARTITIONS.trailing_zeros();
const _: () = assert!(USER_PARTITIONS.is_power_of_two() && USER_PARTITIONS <= 256);

/// The partition of a user, and so the engine that owns the user's orders: 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserPartition(u8);

impl UserPartition {
    /// Returns `None` at or above [`USER_PARTITIONS`].
    pub fn new(partition: u8) -> Option<Self> {
        (usize::from(partition) < USER_PARTITIONS).then_some(Self(partition))
    }

    /// All partitions, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map_while(Self::new)
    }

    /// The partition number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The partition as an array index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn from_low_bits(low_byte: u8) -> Self {
        const MASK: u8 = (1 << PARTITION_BITS) - 1;
        Self(low_byte & MASK)
    }
}

/// The user of a request: the `sub` of a verified token. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Validates a user name.
    ///
    /// # Errors
    /// The name is empty, longer than [`MAX_USER_ID_BYTES`], or contains white space or control
    /// characters.
    pub fn new(name: &str) -> Result<Self, InvalidValue> {
        let printable = name.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if name.is_empty() || name.len() > MAX_USER_ID_BYTES || !printable {
            return Err(InvalidValue::new(
                name,
                "a user name of 1 to 64 bytes without white space",
            ));
        }
        Ok(Self(Arc::from(name)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition of this user: the low bits of the XXH3 hash of the name. Stable across
    /// releases.
    pub fn partition(&self) -> UserPartition {
        let [low_byte, ..] = xxhash_rust::xxh3::xxh3_64(self.0.as_bytes()).to_le_bytes();
        UserPartition::from_low_bits(low_byte)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Longbow's order id: a UUIDv7 (RFC 9562, section 5.7, method 3: `rand_a` continues the time below
/// the millisecond) whose last six bits are the user's partition. Ids sort by creation time, and an
/// id alone identifies the engine that owns the order. The exchange receives it as `clientOrderId`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct OrderId(u128);

impl OrderId {
    const NANOS_PER_MILLI: u128 = 1_000_000;
    /// RFC 9562: the 12 bits of `rand_a` carry the fraction of the millisecond.
    const FRACTION_STEPS: u128 = 1 << 12;

    /// Builds an id from a time and 64 random bits, both supplied by the caller.
    pub fn new(now_nanos: u128, random: u64, partition: UserPartition) -> Self {
        let millis = (now_nanos / Self::NANOS_PER_MILLI) & ((1 << 48) - 1);
        let fraction =
            (now_nanos % Self::NANOS_PER_MILLI) * Self::FRACTION_STEPS / Self::NANOS_PER_MILLI;
        let version = 0x7_u128;
        let variant = 0b10_u128;
        let random_bits = u128::from(random) & ((1 << (62 - PARTITION_BITS)) - 1);
        let low = (random_bits << PARTITION_BITS) | u128::from(partition.get());
        Self((millis << 80) | (version << 76) | (fraction << 64) | (variant << 62) | low)
    }

    /// No order that was created at this time or later has a lower id.
    pub fn first_at(at: TimestampMicros) -> Self {
        /// The last time that fits an id, which has 48 bits for the milliseconds.
        const LAST_MICROS: u64 = ((1 << 48) - 1) * 1_000;
        let nanos = u128::from(at.micros().min(LAST_MICROS)) * 1_000;
        Self::new(nanos, 0, UserPartition::from_low_bits(0))
    }

    /// The partition of the order's user.
    pub fn partition(self) -> UserPartition {
        let [low_byte, ..] = self.0.to_le_bytes();
        UserPartition::from_low_bits(low_byte)
    }

    /// The id as a number; sorts by creation time.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The id for a number from [`as_u128`](Self::as_u128).
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_u128(self.0), formatter)
    }
}

impl fmt::Debug for OrderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for OrderId {
    type Err = InvalidValue;

    /// Accepts only the canonical form: lower case with hyphens.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new(text, "an order id (a UUID in lower case with hyphens)");
        let id = Self(Uuid::try_parse(text).map_err(|_| invalid())?.as_u128());
        if id.to_string() == text { Ok(id) } else { Err(invalid()) }
    }
}

impl Serialize for OrderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = Uuid::encode_buffer();
        let uuid = Uuid::from_u128(self.0);
        serializer.serialize_str(uuid.hyphenated().encode_lower(&mut buffer))
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! external_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        #[serde(try_from = "CompactString", into = "CompactString")]
        pub struct $name(CompactString);

        impl $name {
            /// Validates an id chosen by a client or by the exchange.
            ///
            /// # Errors
            /// The id is empty, longer than [`MAX_EXTERNAL_ID_BYTES`], or not printable ASCII.
            pub fn new(id: &str) -> Result<Self, InvalidValue> {
                let printable = id.bytes().all(|byte| byte.is_ascii_graphic());
                if id.is_empty() || id.len() > MAX_EXTERNAL_ID_BYTES || !printable {
                    let allowed = "an id of 1 to 64 printable ASCII characters without spaces";
                    return Err(InvalidValue::new(id, allowed));
                }
                Ok(Self(CompactString::new(id)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<CompactString> for $name {
            type Error = InvalidValue;
            fn try_from(id: CompactString) -> Result<Self, InvalidValue> {
                Self::new(&id)
            }
        }

        impl From<$name> for CompactString {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

external_id! {
    /// The client's key for an order: names one order of that user, for good. Never leaves Longbow.
    ClientOrderId
}
external_id! {
    /// Names a deposit or withdrawal of a user, for good.
    CashMovementId
}
external_id! {
    /// The exchange's order id.
    ExternalOrderId
}
external_id! {
    /// The exchange's id of an execution; an id counts once per order.
    ExecutionId
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u8) -> UserPartition {
        UserPartition::new(number).unwrap_or(UserPartition(0))
    }

    #[test]
    fn order_ids_sort_by_time_and_carry_their_partition() {
        let earlier = OrderId::new(1_732_400_000_123_456_000, u64::MAX, partition(63));
        let later = OrderId::new(1_732_400_000_123_457_000, 0, partition(5));
        assert!(earlier < later, "one microsecond decides before the random bits");
        assert_eq!(earlier.partition(), partition(63));
        assert_eq!(later.partition(), partition(5));
    }

    #[test]
    fn order_ids_are_version_7_uuids_and_round_trip_as_text() {
        let id = OrderId::new(1_732_400_000_123_456_789, 0x1234_5678_9abc_def0, partition(17));
        let uuid = Uuid::from_u128(id.as_u128());
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<OrderId>().is_err());
        assert!("not-an-id".parse::<OrderId>().is_err());
    }

    #[test]
    fn the_partition_of_a_user_is_stable() {
        let of = |name: &str| UserId::new(name).map(|user| user.partition().get());
        assert_eq!(of("alice"), Ok(48), "XXH3 of the name, low six bits");
        let spread: std::collections::BTreeSet<u8> =
            (0..2_000).filter_map(|n| of(&format!("user-{n}")).ok()).collect();
        assert_eq!(spread.len(), USER_PARTITIONS, "2,000 users reach every partition");
    }

    #[test]
    fn external_ids_are_bounded_and_printable() {
        assert!(ClientOrderId::new("my-key.1").is_ok());
        assert!(ClientOrderId::new("").is_err());
        let spaced = ClientOrderId::new("a b").unwrap_err().to_string();
        assert!(spaced.ends_with("printable ASCII characters without spaces"), "{spaced}");
        let long = UserId::new(&"u".repeat(65)).unwrap_err().to_string();
        let quoted = format!("\"{}...\" (65 bytes) is not allowed", "u".repeat(64));
        assert!(long.starts_with(&quoted), "{long}");
        assert!(ClientOrderId::new(&"x".repeat(MAX_EXTERNAL_ID_BYTES + 1)).is_err());
        assert!(ExecutionId::new("with space").is_err());
        assert!(ExternalOrderId::new("line\nbreak").is_err());
    }
}

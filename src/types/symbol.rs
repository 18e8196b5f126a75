//! Names of traded instruments, and their indexes in the last-value table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// Maximum length of a symbol, in bytes.
pub const MAX_SYMBOL_BYTES: usize = 15;
/// Maximum symbols of a node; the last-value table has one slot for each.
pub const MAX_SYMBOLS: usize = 16_384;

// A symbol index takes 16 bits, once per subscription of every stream.
const _: () = assert!(MAX_SYMBOLS <= 1 << 16);

const ALLOWED: &str = "a symbol of 1 to 15 characters from A-Z, 0-9, '.', '-' and '/'";

/// Like [`ALLOWED`], for case-insensitive input.
const ALLOWED_IN_ANY_CASE: &str = "a symbol of 1 to 15 letters, digits, '.', '-' and '/'";

/// Symbol of a traded instrument, such as `IBM` or `BRK.A`. Stored inline, cheap to copy.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(try_from = "std::borrow::Cow<'_, str>", into = "String")]
pub struct Symbol {
    /// The name, padded with zeros: symbols sort like their names.
    bytes: [u8; MAX_SYMBOL_BYTES],
    length: u8,
}

impl Symbol {
    /// Validates a name.
    ///
    /// # Errors
    /// The name is empty, too long, or contains characters that symbols cannot have.
    pub fn new(name: &str) -> Result<Self, InvalidValue> {
        let valid_byte = |byte: u8| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'/')
        };
        if name.is_empty() || name.len() > MAX_SYMBOL_BYTES || !name.bytes().all(valid_byte) {
            return Err(InvalidValue::new(name, ALLOWED));
        }
        let mut bytes = [0; MAX_SYMBOL_BYTES];
        for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
        let length = u8::try_from(name.len()).map_err(|_| InvalidValue::new(name, ALLOWED))?;
        Ok(Self { bytes, length })
    }

    /// Parses a symbol in any case. For input from people and their programs; the exchange's
    /// symbols are taken literally.
    ///
    /// # Errors
    /// The upper-case name is not a symbol.
    pub fn in_any_case(name: &str) -> Result<Self, InvalidValue> {
        // Reject a long name before copying it.
        if name.len() > MAX_SYMBOL_BYTES {
            return Err(InvalidValue::new(name, ALLOWED_IN_ANY_CASE));
        }
        let refused = |_| InvalidValue::new(name, ALLOWED_IN_ANY_CASE);
        Self::new(&name.to_ascii_uppercase()).map_err(refused)
    }

    /// The name. Empty only in a damaged record whose checksum still matches.
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.length))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Symbol {
    type Err = InvalidValue;
    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        Self::new(name)
    }
}

impl TryFrom<std::borrow::Cow<'_, str>> for Symbol {
    type Error = InvalidValue;
    fn try_from(name: std::borrow::Cow<'_, str>) -> Result<Self, InvalidValue> {
        Self::new(&name)
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> Self {
        symbol.as_str().to_owned()
    }
}

/// Index of a symbol in this process's directory and last-value table. Never leaves the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolIndex(u16);

impl SymbolIndex {
    /// The first index.
    pub const FIRST: Self = Self(0);

    /// Returns `None` at or above [`MAX_SYMBOLS`].
    pub fn new(index: usize) -> Option<Self> {
        if index < MAX_SYMBOLS { u16::try_from(index).ok().map(Self) } else { None }
    }

    /// The array index.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_names_pass_and_others_fail() {
        for name in ["A", "IBM", "BRK.A", "SPY", "ABC-D/E.F012345"] {
            assert_eq!(
                Symbol::new(name).map(|symbol| symbol.as_str().to_owned()),
                Ok(name.to_owned())
            );
        }
        for name in ["", "ibm", "TOOLONGTOOLONG16", "A B", "Ä", "A\n"] {
            assert!(Symbol::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn symbols_parse_in_any_case() {
        for name in ["BRK.A", "brk.a", "Brk.a"] {
            assert_eq!(Symbol::in_any_case(name), Symbol::new("BRK.A"));
        }
        // Non-ASCII letters with an ASCII upper case are not symbol letters.
        for name in ["", "a b", "\u{17f}py", "ı", "toolongtoolong16"] {
            let error = Symbol::in_any_case(name).unwrap_err();
            assert_eq!(error.value, format!("{name:?}"), "the error repeats the input");
        }
    }

    #[test]
    fn symbols_sort_like_their_names() {
        let mut names = ["BB", "A", "B", "AA"].map(|name| Symbol::new(name).ok());
        names.sort();
        assert_eq!(
            names.map(|name| name.map(String::from).unwrap_or_default()),
            ["A", "AA", "B", "BB"]
        );
    }

    #[test]
    fn an_index_stays_inside_the_table() {
        assert_eq!(SymbolIndex::new(MAX_SYMBOLS - 1).map(SymbolIndex::get), Some(MAX_SYMBOLS - 1));
        assert_eq!(SymbolIndex::new(MAX_SYMBOLS), None);
    }
}

//! The universe: real tickers with the close and the volume of one day, the basis of the synthetic
//! symbols.

use super::SimError;
use super::codec::{Cursor, put_text, put_varint};
use super::container::Kind;
use crate::types::{MAX_SYMBOL_BYTES, MAX_SYMBOLS, PriceCents, Symbol};

/// Longest source text.
const MAX_SOURCE_BYTES: usize = 1_024;
const KIND: Kind = Kind {
    magic: *b"LBUNIV\r\n",
    name: "universe",
    // Name with its length, and two varints, for every symbol that a node can list.
    max_body_bytes: MAX_SYMBOLS * (1 + MAX_SYMBOL_BYTES + 20),
};

/// One real ticker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniverseEntry {
    /// Its name.
    pub symbol: Symbol,
    /// Real close of that day.
    pub close: PriceCents,
    /// Real volume of that day in shares, at least 1.
    pub volume: u64,
}

impl UniverseEntry {
    /// Value traded that day, in cents.
    pub fn dollar_volume_cents(&self) -> u128 {
        u128::from(self.close.cents().unsigned_abs()) * u128::from(self.volume)
    }
}

/// All tickers of one day, the most active by value traded first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Universe {
    source: String,
    day: u32,
    entries: Vec<UniverseEntry>,
}

impl Universe {
    /// Sorts the entries by activity.
    ///
    /// # Errors
    /// A symbol occurs twice, a volume is zero, or there are more symbols than a node can list.
    pub fn new(
        source: String,
        day: u32,
        mut entries: Vec<UniverseEntry>,
    ) -> Result<Self, SimError> {
        if source.len() > MAX_SOURCE_BYTES || entries.len() > MAX_SYMBOLS {
            return Err(KIND.bad("it has too many symbols, or its source text is too long"));
        }
        entries.sort_by_key(|entry| entry.symbol);
        let twice = entries
            .windows(2)
            .any(|pair| matches!(pair, [first, second] if first.symbol == second.symbol));
        if twice || entries.iter().any(|entry| entry.volume == 0) {
            return Err(KIND.bad("it lists a symbol twice, or one without volume"));
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.dollar_volume_cents()));
        Ok(Self { source, day, entries })
    }

    /// Parses a universe file.
    ///
    /// # Errors
    /// The file is invalid, its checksum included.
    pub fn decode(file: &[u8]) -> Result<Self, SimError> {
        let (header, body) = KIND.unpack(file)?;
        let damaged = || KIND.bad("it is damaged");
        let mut header = Cursor::new(header);
        let source = header.text(MAX_SOURCE_BYTES).ok_or_else(damaged)?.to_owned();
        let day = header.varint().and_then(|day| u32::try_from(day).ok()).ok_or_else(damaged)?;
        let mut body = Cursor::new(&body);
        let mut entries = Vec::new();
        while !body.is_empty() {
            entries.push(decode_entry(&mut body).ok_or_else(damaged)?);
        }
        Self::new(source, day, entries)
    }

    /// Serializes a universe file.
    ///
    /// # Errors
    /// The universe is larger than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, SimError> {
        let (mut header, mut body) = (Vec::new(), Vec::new());
        put_text(&mut header, &self.source);
        put_varint(&mut header, u64::from(self.day));
        let mut by_name: Vec<_> = self.entries.iter().collect();
        by_name.sort_by_key(|entry| entry.symbol); // names in alphabetical order deflate well
        for entry in by_name {
            put_text(&mut body, entry.symbol.as_str());
            put_varint(&mut body, entry.close.cents().unsigned_abs());
            put_varint(&mut body, entry.volume);
        }
        KIND.pack(&header, &body)
    }

    /// Where the data comes from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The day as `YYYYMMDD`.
    pub const fn day(&self) -> u32 {
        self.day
    }

    /// The tickers, most active first.
    pub fn entries(&self) -> &[UniverseEntry] {
        &self.entries
    }
}

fn decode_entry(body: &mut Cursor<'_>) -> Option<UniverseEntry> {
    let symbol = Symbol::new(body.text(MAX_SYMBOL_BYTES)?).ok()?;
    let close = PriceCents::new(i64::try_from(body.varint()?).ok()?).ok()?;
    Some(UniverseEntry { symbol, close, volume: body.varint()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, close: i64, volume: u64) -> UniverseEntry {
        let symbol = Symbol::new(name).unwrap();
        UniverseEntry { symbol, close: PriceCents::new(close).unwrap(), volume }
    }

    #[test]
    fn a_universe_round_trips_most_active_first() {
        let entries = vec![entry("AAA", 100, 10), entry("BBB", 50, 1_000), entry("CCC", 1, 1)];
        let universe = Universe::new("made up".to_owned(), 20_140_324, entries).unwrap();
        let names: Vec<_> = universe.entries().iter().map(|e| e.symbol.to_string()).collect();
        assert_eq!(names, ["BBB", "AAA", "CCC"]);
        assert_eq!(Universe::decode(&universe.encode().unwrap()).unwrap(), universe);
    }

    #[test]
    fn duplicates_and_symbols_without_volume_are_rejected() {
        let double = vec![entry("AAA", 100, 10), entry("AAA", 100, 10)];
        assert!(Universe::new(String::new(), 0, double).is_err());
        assert!(Universe::new(String::new(), 0, vec![entry("AAA", 100, 0)]).is_err());
    }
}

//! Parses the exchange's list of symbols. An invalid entry loses no other.

use std::io;
use std::sync::Arc;

use serde_json::Value;

use crate::market::{Listing, TradingSession};
use crate::types::{PriceCents, Symbol, TimestampMicros};

/// Longest `source` text that is kept.
const MAX_SOURCE_CHARS: usize = 1_024;
/// Longest part of a name in the log.
const MAX_LOGGED_CHARS: usize = 40;

/// The listed symbols, and the entries that could not be parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SymbolList {
    /// Every entry with a valid name.
    pub listings: Vec<Listing>,
    /// The entries left out, by name or by what stood in its place.
    pub unnamed: Vec<String>,
    /// Symbols listed without a previous close because the exchange sent an invalid one.
    pub without_close: Vec<Symbol>,
}

/// Parses the answer to `GET /v1/symbols`.
///
/// # Errors
/// The answer as a whole is not a list of symbols.
pub(super) fn read_symbols(answer: &[u8]) -> io::Result<SymbolList> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let answer: Value =
        serde_json::from_slice(answer).map_err(|error| invalid(format!("not JSON: {error}")))?;
    let Some(entries) = answer.get("symbols").and_then(Value::as_array) else {
        return Err(invalid("the answer has no list of symbols".to_owned()));
    };
    let mut list = SymbolList::default();
    // Listings share the text of their source: there are thousands of listings and few sources.
    let mut last_source: Arc<str> = Arc::from("");
    for entry in entries {
        let name = entry.get("symbol").and_then(Value::as_str);
        let Some(symbol) = name.and_then(|name| Symbol::new(name).ok()) else {
            let shown = entry.get("symbol").unwrap_or(entry).to_string();
            list.unnamed.push(shown.chars().take(MAX_LOGGED_CHARS).collect());
            continue;
        };
        let given = entry.get("previousCloseInCents");
        let previous_close = given.and_then(price);
        if previous_close.is_none() && given.is_some_and(|given| !given.is_null()) {
            list.without_close.push(symbol);
        }
        let source = entry.get("source").and_then(Value::as_str).unwrap_or("");
        if *last_source != *source {
            last_source = source.chars().take(MAX_SOURCE_CHARS).collect::<String>().into();
        }
        list.listings.push(Listing {
            symbol,
            previous_close,
            open: entry.get("openInCents").and_then(price),
            session: session(entry),
            source: Arc::clone(&last_source),
            synthetic: entry.get("synthetic").and_then(Value::as_bool).unwrap_or(false),
        });
    }
    Ok(list)
}

fn price(value: &Value) -> Option<PriceCents> {
    value.as_i64().and_then(|cents| PriceCents::new(cents).ok())
}

fn session(entry: &Value) -> Option<TradingSession> {
    let time = |name: &str| entry.get(name).and_then(Value::as_u64).map(TimestampMicros::new);
    let (open, close) = (time("sessionOpen")?, time("sessionClose")?);
    (open < close).then_some(TradingSession { open, close })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(entries: &Value) -> SymbolList {
        read_symbols(json!({"symbols": entries, "more": 1}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_invalid_entry_loses_no_other() {
        let good = json!({"symbol": "SPY", "previousCloseInCents": 16_740, "openInCents": 16_750,
            "sessionOpen": 10, "sessionClose": 20, "source": "tape", "synthetic": true});
        let list = read(&json!([
            {"symbol": "BRK A", "previousCloseInCents": 1},
            {"symbol": "AJAX="},
            {"symbol": 7},
            {"name": "no symbol"},
            null,
            "text",
            good,
        ]));
        assert_eq!(list.unnamed.len(), 6);
        let [spy] = list.listings.as_slice() else { panic!("{list:?}") };
        assert_eq!(spy.symbol, Symbol::new("SPY").unwrap());
        assert_eq!(spy.previous_close, PriceCents::new(16_740).ok());
        assert_eq!(spy.open, PriceCents::new(16_750).ok());
        assert_eq!(spy.session.map(|session| session.close.micros()), Some(20));
        assert!(spy.synthetic && &*spy.source == "tape");
    }

    #[test]
    fn a_symbol_without_a_valid_close_is_listed() {
        for close in [json!(null), json!(0), json!(-1), json!(1.5), json!("12"), json!([])] {
            let entry = json!({"symbol": "IPO", "previousCloseInCents": close});
            let list = read(&json!([entry, {"symbol": "NEW"}, {"symbol": "A", "source": 7}]));
            assert_eq!(list.listings.len(), 3, "{close}");
            assert!(list.listings.iter().all(|listing| listing.previous_close.is_none()));
            assert_eq!(list.without_close.len(), usize::from(!close.is_null()), "{close}");
        }
    }

    #[test]
    fn invalid_session_times_are_ignored() {
        for (open, close) in
            [(json!(20), json!(10)), (json!(null), json!(1)), (json!("1"), json!(2))]
        {
            let entry = json!({"symbol": "A", "sessionOpen": open, "sessionClose": close});
            assert_eq!(read(&json!([entry])).listings[0].session, None);
        }
    }

    #[test]
    fn an_answer_without_a_list_is_an_error() {
        for answer in ["", "{}", "[]", r#"{"symbols":{}}"#, r#"{"symbols":[{"#] {
            assert!(read_symbols(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}

//! Lists of symbols with unreadable entries.

use serde_json::{Value, json};

use crate::exchange::wire::SymbolInfo;

/// The list with invalid entries before its own; its last symbol has no previous close.
pub(in crate::sim_exchange) fn odd_listings(symbols: &[SymbolInfo]) -> Value {
    let mut entries = vec![
        json!({"symbol": "AJAX=", "previousCloseInCents": 1}),
        json!({"symbol": "BRK A", "previousCloseInCents": 1}),
        json!({"symbol": null}),
        json!("SPY"),
    ];
    entries.extend(symbols.iter().filter_map(|symbol| serde_json::to_value(symbol).ok()));
    if let Some(last) = entries.last_mut().and_then(Value::as_object_mut) {
        last.insert("previousCloseInCents".to_owned(), 0.into());
    }
    if let Some(first) = entries.get_mut(4).and_then(Value::as_object_mut) {
        first.remove("source");
    }
    json!({"symbols": entries, "more": true})
}

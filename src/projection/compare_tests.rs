use super::*;
use crate::order::test_events::created;

#[test]
fn values_that_postgres_cannot_store_are_no_difference() {
    let mut parts = OrderParts::of_tracked(&TrackedOrder::new(&created(1)));
    assert_eq!(as_storable(parts.clone()), parts, "most orders can be stored as they are");
    parts.reason = Some("a\0b".into());
    parts.submit_before = TimestampMicros::new(u64::MAX - 7);
    let kept = as_storable(parts);
    assert_eq!(kept.reason.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(kept.submit_before, TimestampMicros::new(u64::MAX), "infinity");
}

#[test]
fn members_that_differ_are_named_with_both_values() {
    let found = different_members(
        r#"{"a": 1, "b": "x", "c": null, "d": 5}"#,
        r#"{"a": 1, "b": "y", "c": 7}"#,
    );
    let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    let expected = [text("b", "\"x\"", "\"y\""), text("c", "none", "7"), text("d", "5", "none")];
    assert_eq!(found, expected);
    let extra = different_members(r#"{"a": 1}"#, r#"{"a": 1, "note": "z"}"#);
    assert_eq!(extra, [text("note", "none", "\"z\"")], "it is not a missing row");
    for odd in [r#"{"a": 1e999}"#, "", "[]"] {
        let whole = different_members(r#"{"a": 1}"#, odd);
        assert_eq!(whole, [text("row", r#"{"a": 1}"#, odd)], "one entry for the row");
    }
}

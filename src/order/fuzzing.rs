//! What the fuzz targets in `tests/fuzz/` call: the reader of event records, with what must hold whatever
//! the bytes are. A broken promise is a panic.

use super::codec::{EventEncoder, decode};

/// The first byte is the record's kind, the second its format version, the rest its payload.
///
/// # Panics
/// When what was read does not come back from what it is written as.
pub fn event(data: &[u8]) {
    let [kind, format_version, payload @ ..] = data else { return };
    let Ok(event) = decode(*kind, *format_version, payload) else { return };
    assert_eq!(event.kind(), *kind, "an event knows its kind");
    let _printable = format!("{event:?}");
    let mut encoder = EventEncoder::new();
    let written = encoder.encode(&event);
    assert!(written.is_ok(), "what was read can be written: {event:?}");
    let again = written.ok().and_then(|payload| decode(*kind, *format_version, payload).ok());
    assert_eq!(again, Some(event), "an event comes back");
}

/// Inputs: an event of every kind.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut encoder = EventEncoder::new();
    let mut seed = |event: super::Event| {
        let head = [event.kind(), super::RECORD_FORMAT_VERSION];
        [&head, encoder.encode(&event).unwrap_or_default()].concat()
    };
    super::codec::tests::examples().into_iter().map(&mut seed).collect()
}

//! Entry points of the fuzz targets in `tests/fuzz/`: decodes event records and checks what must
//! hold for any bytes. Panics on a violation.

use super::codec::{EventEncoder, RECORD_FORMAT_VERSION, decode};

/// Decodes one record: a byte of kind, a byte of format version, the payload.
///
/// # Panics
/// The decoded event does not survive encoding and decoding.
pub fn event(data: &[u8]) {
    let [kind, format_version, payload @ ..] = data else { return };
    let Ok(event) = decode(*kind, *format_version, payload) else { return };
    assert_eq!(event.kind(), *kind, "the event has the kind of its record");
    let _printable = format!("{event:?}");
    let mut encoder = EventEncoder::new();
    let written = encoder.encode(&event);
    assert!(written.is_ok(), "a decoded event can be encoded: {event:?}");
    // Whatever the format of the record, this version writes its own.
    let again = written.ok().and_then(|payload| decode(*kind, RECORD_FORMAT_VERSION, payload).ok());
    assert_eq!(again, Some(event), "an event round-trips");
}

/// Seed inputs: an event of every kind.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut encoder = EventEncoder::new();
    let mut seed = |event: super::Event| {
        let head = [event.kind(), RECORD_FORMAT_VERSION];
        [&head, encoder.encode(&event).unwrap_or_default()].concat()
    };
    super::codec::tests::examples().into_iter().map(&mut seed).collect()
}

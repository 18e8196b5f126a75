//! Bytes that earlier versions wrote, in `formats/`. They never change.

use super::super::codec::{RECORD_FORMAT_VERSION, decode, tests::older_events};
use super::super::stored::{StoredOrderEncoder, decode_stored};
use super::super::test_events::orders_of_every_kind;
use super::super::{Event, FeedPosition};
use super::super::{OrderParts, STORED_ORDER_FORMAT};
use crate::types::TimestampMicros;

/// Lines of: format, kind, payload in hexadecimal digits.
const RECORDS: &str = include_str!("formats/records.txt");
/// Lines of: format, bytes in hexadecimal digits.
const ORDERS: &str = include_str!("formats/orders.txt");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().map(|line| line.split(' ').collect())
}

#[test]
fn records_of_earlier_formats_are_read() {
    let mut expected = older_events();
    expected.push(Event::FeedPosition(FeedPosition {
        session: "7 again".into(),
        sequence: 9,
        at: TimestampMicros::new(7),
        past: Vec::new(),
    }));
    let mut read = Vec::new();
    for line in lines(RECORDS) {
        let [format, kind, payload] = line[..] else { panic!("{line:?}") };
        let (format, kind): (u8, u8) = (format.parse().unwrap(), kind.parse().unwrap());
        assert!(format < RECORD_FORMAT_VERSION);
        let payload = bytes(payload);
        let event = decode(kind, format, &payload).unwrap();
        let (is_position, is_adopted) = (kind == 4, kind == 5);
        // Formats before have the same layouts but that of feed positions, and adopted nothing.
        if !is_adopted && (!is_position || format == 2) {
            for earlier in 1..format {
                assert_eq!(decode(kind, earlier, &payload).unwrap(), event);
            }
        }
        read.push(event);
    }
    assert_eq!(read, expected);
}

#[test]
fn stored_orders_of_earlier_formats_are_read_and_written_anew() {
    let mut formats = Vec::new();
    for (line, expected) in lines(ORDERS).zip(orders_of_every_kind()) {
        let [format, stored] = line[..] else { panic!("{line:?}") };
        let stored = bytes(stored);
        let read = decode_stored(&stored).unwrap();
        assert_eq!(OrderParts::of_tracked(&read), OrderParts::of_tracked(&expected));
        assert_eq!(read.order(), expected.order());
        let mut encoder = StoredOrderEncoder::new();
        let again = encoder.encode(&read).unwrap();
        assert_ne!(again, stored);
        assert!(again.last().is_some_and(|format| *format > 2 && *format <= STORED_ORDER_FORMAT));
        formats.push(format.parse::<u8>().unwrap());
    }
    assert_eq!(formats, [1, 2]);
}

#[test]
fn damaged_bytes_of_earlier_formats_never_panic() {
    let stored = lines(ORDERS).map(|line| bytes(line[1]));
    for mut stored in stored {
        for at in 0..stored.len() - 1 {
            stored[at] ^= 0xff;
            drop(decode_stored(&stored));
            stored[at] ^= 0xff;
            drop(decode_stored(&[&stored[..at], &stored[stored.len() - 1..]].concat()));
        }
    }
    for line in lines(RECORDS) {
        let (format, kind) = (line[0].parse().unwrap(), line[1].parse().unwrap());
        let mut payload = bytes(line[2]);
        for at in 0..payload.len() {
            payload[at] ^= 0xff;
            drop(decode(kind, format, &payload));
            payload[at] ^= 0xff;
        }
    }
}

//! Tests with lines, numberings and sessions that break the contract.

use proptest::prelude::*;

use super::tests::{feed, resuming_feed};
use super::*;
use crate::sync::Receiver;

const ROOM: usize = 1_000;

fn trade(sequence: u64, order: &str, cents: i64) -> String {
    format!(
        r#"{{"sequence":{sequence},"type":"trade","executionId":"e{sequence}","symbol":"SPY","priceInCents":{cents},"numShares":10,"orderId":"{order}","timestamp":{sequence}}}"#
    )
}

fn beat(sequence: u64) -> String {
    format!(r#"{{"sequence":{sequence},"type":"heartbeat","timestamp":1}}"#)
}

fn session(name: &str, sequence: u64) -> String {
    format!(r#"{{"type":"session","session":"{name}","sequence":{sequence}}}"#)
}

/// One connection that requests `asked` and receives these lines.
fn connection(feed: &mut Feed, asked: Option<(&str, u64)>, lines: &[String]) -> Result<(), Ended> {
    let mut connection = Connection::new(asked.map(|(name, from)| (name.into(), from)));
    for line in lines {
        connection.body.extend_from_slice(line.as_bytes());
        connection.body.push(b'\n');
    }
    feed.take_lines(&mut connection)?;
    feed.end_batch()
}

fn handed_over(receiver: &mut Receiver<OrderFeedMessage>) -> Vec<OrderFeedMessage> {
    std::iter::from_fn(|| receiver.try_recv()).collect()
}

/// What was handed over, in short: sessions, lines and unreadable lines; no positions.
fn told(receiver: &mut Receiver<OrderFeedMessage>) -> Vec<String> {
    let told = handed_over(receiver).into_iter().filter_map(|message| match message {
        OrderFeedMessage::Session { session, sequence } => Some(format!("{session} {sequence}")),
        OrderFeedMessage::Renumbered { session, sequence } => {
            Some(format!("{session}~ {sequence}"))
        }
        OrderFeedMessage::Line(line) => Some(format!("line {}", line.sequence)),
        OrderFeedMessage::Unreadable(line) => {
            assert!(line.after == line.sequence || line.after + 1 == line.sequence);
            Some(format!("{} {}", line.cause, line.order_id))
        }
        OrderFeedMessage::Position { .. } => None,
    });
    told.collect()
}

#[derive(Debug, Clone)]
enum Between {
    Bytes(Vec<u8>),
    /// A numbered line with an invalid price.
    Odd,
    /// The same, cut short.
    Cut,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Between::Bytes),
        Just(Between::Odd),
        Just(Between::Cut),
        Just(Between::Bytes(b"\r\n\n  \n".to_vec())),
        Just(Between::Bytes(vec![b'x'; 5_000])),
        Just(Between::Bytes(br#"{"sequence":"#.to_vec())),
    ]
}

proptest! {
    #[test]
    fn junk_between_good_lines_loses_none_of_them(
        betweens in prop::collection::vec(between(), 0..40), piece_bytes in 1..400_usize,
    ) {
        let (mut feed, mut receiver) = feed(ROOM);
        let (mut bytes, mut good, mut odd) = (session("s", 0) + "\n", Vec::new(), 0);
        let mut bytes = std::mem::take(&mut bytes).into_bytes();
        let mut sequence = 0;
        for between in &betweens {
            match between {
                Between::Bytes(some) => bytes.extend_from_slice(some),
                Between::Odd | Between::Cut => {
                    (sequence, odd) = (sequence + 1, odd + 1);
                    let line = trade(sequence, "odd", 0);
                    let length = line.len() - usize::from(matches!(between, Between::Cut));
                    bytes.extend_from_slice(&line.as_bytes()[..length]);
                }
            }
            sequence += 1;
            good.push(sequence);
            bytes.extend_from_slice(format!("\n{}\r\n", trade(sequence, "good", 100)).as_bytes());
        }
        let mut connection = Connection::new(None);
        for piece in bytes.chunks(piece_bytes) {
            connection.body.extend_from_slice(piece);
            prop_assert!(feed.take_lines(&mut connection).is_ok());
        }
        let handed_over = handed_over(&mut receiver);
        let lines: Vec<u64> = handed_over.iter().filter_map(|message| match message {
            OrderFeedMessage::Line(line) => Some(line.sequence),
            _ => None,
        }).collect();
        prop_assert_eq!(lines, good);
        let unreadable = handed_over.iter().filter(|message| matches!(message,
            OrderFeedMessage::Unreadable(line) if line.order_id.as_str() == "odd"));
        prop_assert_eq!(unreadable.count(), odd);
        prop_assert_eq!(feed.next_sequence(), sequence + 1);
        prop_assert_eq!(feed.metrics.gaps.get(), 0);
        prop_assert_eq!(feed.metrics.renumberings.get(), 0);
    }
}

#[test]
fn an_odd_line_is_counted_by_cause_and_its_order_is_reconciled() {
    let (mut feed, mut receiver) = feed(ROOM);
    let lines = [
        session("s", 0),
        trade(1, "o1", 100),
        trade(2, "o2", 0),
        trade(3, "o3", 100).replace("trade", "quote"),
        "no json".into(),
        trade(5, "o5", 100),
        beat(5),
    ];
    connection(&mut feed, None, &lines).unwrap();
    for cause in [SkipCause::Price, SkipCause::UnknownType, SkipCause::NotJson] {
        assert_eq!(feed.metrics.skipped_by(cause), 1, "{cause}");
    }
    // The line that is not JSON may belong to any order: all are reconciled, at the next heartbeat.
    let expected = ["s 0", "line 1", "price o2", "unknown_type o3", "line 5", "s 5"];
    assert_eq!(told(&mut receiver), expected);
    // Not at each heartbeat: an exchange that sends nothing else must not keep all orders
    // reconciling.
    for _ in 1..BEATS_BETWEEN_RECONCILIATIONS {
        connection(&mut feed, Some(("s", 6)), &[session("s", 5), "no json".into(), beat(5)])
            .unwrap();
    }
    assert!(told(&mut receiver).is_empty());
    connection(&mut feed, Some(("s", 6)), &[session("s", 5), beat(5)]).unwrap();
    assert_eq!(told(&mut receiver), ["s 5"]);
}

#[test]
fn all_orders_are_reconciled_with_room_for_one_message_only() {
    let (mut feed, mut receiver) = feed(1);
    connection(&mut feed, None, &[session("s", 0)]).unwrap();
    assert_eq!(told(&mut receiver), ["s 0"]);
    connection(&mut feed, Some(("s", 1)), &[session("s", 0), "no json".into(), beat(0)]).unwrap();
    assert_eq!(told(&mut receiver), ["s 0"]);
}

#[test]
fn an_odd_line_that_finds_the_queue_full_is_read_again() {
    let (mut feed, mut receiver) = feed(1);
    let lines = [session("s", 0), trade(1, "o1", 0), trade(2, "o2", 100)];
    let ended = connection(&mut feed, None, &lines);
    assert!(ended.is_ok());
    assert_eq!((feed.next_sequence(), told(&mut receiver)), (1, vec!["s 0".into()]));
    let ended = connection(&mut feed, Some(("s", 1)), &lines);
    assert_eq!(told(&mut receiver), ["price o1"]);
    assert!(ended.is_ok() && feed.next_sequence() == 2);
}

#[test]
fn a_long_line_that_is_not_json_takes_the_feed_to_no_impossible_sequence() {
    let (mut feed, mut receiver) = feed(ROOM);
    let note = "x".repeat(5_000);
    let long = |sequence: u64| format!(r#"{{"orderId":"X1","sequence":{sequence},"note":"{note}"#);
    let lines = [session("s", 0), trade(1, "o1", 100), long(u64::MAX), long(MAX_SEQUENCE - 1)];
    connection(&mut feed, None, &lines).unwrap();
    assert_eq!((feed.last_read, feed.last_sequence, feed.next_sequence()), (1, 1, 2));
    assert_eq!(told(&mut receiver), ["s 0", "line 1", "too_long X1", "too_long X1"]);
    connection(&mut feed, Some(("s", 2)), &[session("s", 1), trade(2, "o1", 100)]).unwrap();
    assert_eq!(told(&mut receiver), ["line 2"]);
}

#[test]
fn a_logged_position_that_no_feed_reaches_is_not_requested() {
    for (from, is_used) in [(MAX_SEQUENCE, true), (MAX_SEQUENCE + 1, false), (u64::MAX, false)] {
        let resume = Some(("s".into(), from));
        let (feed, _receiver) = resuming_feed(ROOM, resume.clone());
        assert_eq!(feed.options.resume, resume.filter(|_| is_used), "{from}");
        assert_eq!(feed.previous.is_some(), is_used);
    }
}

#[test]
fn a_gap_longer_than_the_odd_lines_beside_it_counts() {
    let (mut feed, mut receiver) = feed(ROOM);
    let lines = [session("s", 0), trade(1, "o", 1), "odd".into(), trade(4, "o", 1)];
    connection(&mut feed, None, &lines).unwrap();
    assert_eq!(feed.metrics.gaps.get(), 1, "one odd line cannot stand for two missing ones");
    assert_eq!(told(&mut receiver), ["s 0", "line 1", "s 3", "line 4"]);
}

#[test]
fn a_line_lost_beside_an_unnumbered_one_is_reconciled() {
    let oops = || "no json".to_owned();
    let (mut feed, mut receiver) = feed(ROOM);
    let lines = [session("s", 0), trade(1, "o", 1), oops(), trade(3, "o", 1), beat(3)];
    connection(&mut feed, None, &lines).unwrap();
    assert_eq!(told(&mut receiver), ["s 0", "line 1", "line 3", "s 3"], "at the heartbeat");
    // An odd line before a heartbeat stands for no line lost after it.
    let lines = [session("s", 3), oops(), beat(3), trade(5, "o", 1)];
    connection(&mut feed, Some(("s", 4)), &lines).unwrap();
    assert_eq!(told(&mut receiver), ["s 4", "line 5"]);
    // A line of an unknown type without a number never had one.
    let status = r#"{"type":"status","text":"all is well"}"#.to_owned();
    let lines = [session("s", 5), status, trade(7, "o", 1)];
    connection(&mut feed, Some(("s", 6)), &lines).unwrap();
    assert_eq!(told(&mut receiver), ["s 6", "line 7"]);
}

#[test]
fn a_numbering_that_restarts_is_a_new_session() {
    let old: Vec<String> = (1..=500).map(|sequence| trade(sequence, "old", 100)).collect();
    let begun = [vec![session("s", 0)], old].concat();
    for (asked, lines, read_from) in [
        // On the same connection: other lines under the old numbers, or far below them.
        (None, vec![trade(499, "new", 200), trade(500, "new", 200)], 499),
        (None, vec![beat(500), beat(3), trade(4, "new", 200)], 4),
        // On the next connection, which begins below what was read.
        (Some(("s", 501)), vec![session("s", 2), trade(3, "new", 200)], 3),
        (Some(("s", 501)), vec![session("s", 500), beat(4), trade(5, "new", 200)], 5),
        (None, vec![session("s", 2), trade(3, "new", 200)], 3),
    ] {
        let (mut feed, mut receiver) = feed(ROOM);
        let is_same = asked.is_none() && !lines[0].contains("session");
        if is_same {
            connection(&mut feed, None, &[begun.clone(), lines.clone()].concat()).unwrap();
        } else {
            connection(&mut feed, None, &begun).unwrap();
            connection(&mut feed, asked, &lines).unwrap();
        }
        assert_eq!(feed.metrics.renumberings.get(), 1, "{lines:?}");
        let told = told(&mut receiver);
        let session = told.iter().rposition(|told| *told == format!("s~ {}", read_from - 1));
        assert!(session.is_some_and(|place| place > 500), "{lines:?}: {told:?}");
        assert!(told.last().unwrap().starts_with("line "));
        let last = feed.last_read;
        assert_eq!(feed.last_sequence, last, "prices go on: {lines:?}");
        assert_eq!(feed.next_sequence(), last + 1);
    }
}

#[test]
fn a_numbering_that_restarted_while_the_process_was_down_is_a_new_session() {
    let (mut feed, mut receiver) = feed(ROOM);
    feed.previous = Some(("s".into(), 900));
    connection(&mut feed, None, &[session("s", 4), trade(5, "o", 1)]).unwrap();
    assert_eq!(told(&mut receiver), ["s~ 4", "line 5"]);
    assert_eq!((feed.last_sequence, feed.metrics.renumberings.get()), (5, 1));
}

#[test]
fn repeated_and_late_lines_begin_no_numbering() {
    let (mut feed, _receiver) = feed(ROOM);
    let lines: Vec<String> = [1, 2, 5, 6, 3, 4, 2, 3, 7].map(|n| trade(n, "o", 1)).into();
    connection(&mut feed, None, &[vec![session("s", 0)], lines, vec![beat(7)]].concat()).unwrap();
    assert_eq!((feed.metrics.renumberings.get(), feed.last_read), (0, 7));
}

#[test]
fn lines_that_a_connection_repeats_begin_no_numbering() {
    let lines = |range: std::ops::RangeInclusive<u64>| range.map(|n| trade(n, "o", 100));
    for repeated in [1, 3, 30, 100] {
        let (mut feed, mut receiver) = feed(ROOM);
        let begun: Vec<String> = [session("s", 0)].into_iter().chain(lines(1..=100)).collect();
        connection(&mut feed, None, &begun).unwrap();
        told(&mut receiver);
        let first = 101 - repeated;
        let begun = [session("s", first - 1), trade(first, "o", 100), beat(first)];
        let more = begun.into_iter().chain(lines(first + 1..=102)).chain([beat(102)]);
        let more: Vec<String> = more.collect();
        connection(&mut feed, Some(("s", 101)), &more).unwrap();
        assert_eq!((feed.metrics.renumberings.get(), feed.last_sequence), (0, 102), "{repeated}");
        let told = told(&mut receiver);
        assert!(!told.iter().any(|told| told.starts_with("s~")), "{told:?}");
    }
    // One of them is another line: the numbering restarted.
    let (mut feed, mut receiver) = feed(ROOM);
    let begun: Vec<String> = [session("s", 0)].into_iter().chain(lines(1..=100)).collect();
    connection(&mut feed, None, &begun).unwrap();
    told(&mut receiver);
    let more = [session("s", 97), trade(98, "new", 1), trade(99, "new", 1)];
    connection(&mut feed, Some(("s", 101)), &more).unwrap();
    assert_eq!(told(&mut receiver), ["s~ 97", "line 98", "line 99"]);
    assert_eq!((feed.metrics.renumberings.get(), feed.last_sequence), (1, 99));
}

#[test]
fn another_session_than_requested_starts_where_it_says() {
    let (mut feed, mut receiver) = feed(ROOM);
    connection(&mut feed, None, &[session("a", 900), trade(901, "o", 1)]).unwrap();
    connection(&mut feed, Some(("a", 902)), &[session("b", 4), trade(5, "o", 1)]).unwrap();
    assert_eq!(told(&mut receiver), ["a 900", "line 901", "b 4", "line 5"]);
    assert_eq!((feed.last_sequence, feed.metrics.other_sessions.get()), (5, 1));
    // And a session that begins in the middle of a connection.
    connection(&mut feed, Some(("b", 6)), &[session("b", 5), session("c", 7), trade(8, "o", 1)])
        .unwrap();
    assert_eq!(told(&mut receiver), ["c 7", "line 8"]);
    assert_eq!(feed.last_sequence, 8);
}

#[test]
fn sessions_that_begin_on_one_connection_are_limited() {
    let begins = [
        // Under new names, and by a numbering that goes back again and again.
        (1..=9).map(|number| session(&format!("s{number}"), 0)).collect::<Vec<_>>(),
        (1..=9).rev().map(beat).collect(),
    ];
    for lines in begins {
        let (mut feed, mut receiver) = feed(ROOM);
        let ended = connection(&mut feed, None, &[vec![session("s", 0)], lines].concat());
        assert!(matches!(ended, Err(Ended::TooManySessions)));
        let begun = u32::try_from(told(&mut receiver).len()).unwrap();
        assert!((MAX_SESSIONS_PER_CONNECTION..=MAX_SESSIONS_PER_CONNECTION + 1).contains(&begun));
        // The next connection goes on with what the exchange has then.
        let next = feed.resume_after(&Ended::TooManySessions, None);
        let asked = next.as_ref().map(|(name, from)| (name.as_str(), *from));
        connection(&mut feed, asked, &[session("t", 4), trade(5, "o", 1)]).unwrap();
        assert_eq!(told(&mut receiver), ["t 4", "line 5"]);
    }
}

#[test]
fn lines_before_the_session_line_are_skipped() {
    let (mut feed, mut receiver) = feed(ROOM);
    let lines = ["oops".into(), String::new(), beat(3), session("s", 3), trade(4, "o", 1)];
    connection(&mut feed, None, &lines).unwrap();
    assert_eq!(feed.metrics.skipped_by(SkipCause::BeforeSession), 2);
    assert_eq!(told(&mut receiver), ["s 3", "line 4"]);
}

#[test]
fn sequences_that_no_feed_reaches_end_the_connection_unless_they_are_few() {
    let (mut feed, _receiver) = feed(ROOM);
    let beyond = || beat(MAX_SEQUENCE);
    let few: Vec<String> = std::iter::once(session("s", 0))
        .chain((1..=50).flat_map(|sequence| [beyond(), beyond(), trade(sequence, "X", 5)]))
        .collect();
    assert!(connection(&mut feed, None, &few).is_ok());
    let many: Vec<String> =
        std::iter::once(session("s", 50)).chain((0..8).map(|_| beyond())).collect();
    let ended = connection(&mut feed, Some(("s", 51)), &many).unwrap_err();
    assert!(ended.to_string().contains("which no feed reaches"), "{ended}");
}

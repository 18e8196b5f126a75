//! What the orders thread is handed when it has no room, and when lines are missing.

use super::*;
use crate::market::{Watchers, open_market};
use crate::sync::{Receiver, mailbox};

/// A feed whose connections are lines of text, before an orders thread with room for so many.
pub(super) fn feed(capacity: usize) -> (Feed, Receiver<OrderFeedMessage>) {
    let (orders, receiver) = mailbox(capacity);
    let options = FeedOptions {
        exchange: ExchangeAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9))),
        source: None,
        request_timeout: Duration::ZERO,
        silence_timeout: Duration::ZERO,
        resume: None,
        exchange_clock: ExchangeClock::default(),
    };
    let (market, _reader) = open_market(Watchers::default());
    (Feed::new(options, market, orders, Shutdown::new(), FeedMetrics::default()), receiver)
}

/// One connection that asked for `from`, up to where it ends.
fn connection(feed: &mut Feed, from: Option<u64>, sequences: &[u64]) -> Result<(), Ended> {
    let before = from.unwrap_or(1) - 1;
    let first = format!(r#"{{"type":"session","session":"s","sequence":{before}}}"#);
    let line = |sequence: &u64| {
        format!(
            r#"{{"sequence":{sequence},"type":"cancelled","symbol":"IBM","orderId":"o{sequence}","timestamp":1}}"#
        )
    };
    let lines: Vec<String> = [first].into_iter().chain(sequences.iter().map(line)).collect();
    let mut connection = Connection::new(from.map(|from| ("s".into(), from)));
    for line in lines {
        connection.body.extend_from_slice(format!("{line}\n").as_bytes());
        feed.take_lines(&mut connection)?;
    }
    feed.end_batch()
}

fn sessions(receiver: &mut Receiver<OrderFeedMessage>) -> Vec<u64> {
    let mut sequences = Vec::new();
    while let Some(message) = receiver.try_recv() {
        if let OrderFeedMessage::Session { sequence, .. } = message {
            sequences.push(sequence);
        }
    }
    sequences
}

fn lines(receiver: &mut Receiver<OrderFeedMessage>) -> Vec<u64> {
    let mut sequences = Vec::new();
    while let Some(message) = receiver.try_recv() {
        if let OrderFeedMessage::Line(line) = message {
            sequences.push(line.sequence);
        }
    }
    sequences
}

#[test]
fn a_connection_that_breaks_while_lines_are_read_again_goes_on_with_the_next_of_them() {
    let (mut feed, mut receiver) = feed(2);
    // Room for the session and the first line only.
    connection(&mut feed, None, &[1, 2, 3, 4]).unwrap();
    assert_eq!(feed.next_sequence(), 2);
    assert_eq!(lines(&mut receiver), [1]);
    connection(&mut feed, Some(2), &[2, 3]).unwrap();
    let broken = Ended::Unexpected("cut".into());
    assert_eq!(feed.resume_after(&broken, None), Some(("s".into(), 4)), "not behind line 4");
    assert_eq!(lines(&mut receiver), [2, 3]);
}

#[test]
fn a_gap_among_lines_that_are_read_again_is_noticed() {
    let (mut feed, mut receiver) = feed(2);
    connection(&mut feed, None, &[1, 2, 3, 4]).unwrap();
    assert_eq!(sessions(&mut receiver), [0]);
    connection(&mut feed, Some(2), &[4]).unwrap();
    assert_eq!(sessions(&mut receiver), [3], "lines 2 and 3 are missing");
}

#[test]
fn nothing_that_is_owed_is_passed_by_a_gap() {
    let (mut feed, mut receiver) = feed(1);
    assert!(matches!(connection(&mut feed, None, &[1]), Ok(())));
    assert_eq!(feed.orders_behind_from, Some(1));
    assert_eq!(sessions(&mut receiver), [0]);
    let line = r#"{"sequence":5,"type":"cancelled","symbol":"IBM","orderId":"o5","timestamp":1}"#;
    feed.take_line(line.as_bytes()).unwrap();
    assert!(sessions(&mut receiver).is_empty(), "line 1 has not been handed over");
    assert!(matches!(feed.end_batch(), Err(Ended::Reread(1))));
}

#[test]
fn a_session_that_was_not_taken_is_told_by_the_next_connection() {
    let (mut feed, mut receiver) = feed(1);
    connection(&mut feed, None, &[]).unwrap();
    // The position is gone at the exchange; what comes from now on has a hole before it.
    assert!(connection(&mut feed, None, &[]).is_err(), "no room");
    assert_eq!(sessions(&mut receiver), [0]);
    let next = feed.resume_after(&Ended::Unexpected("no room".into()), None);
    connection(&mut feed, next.map(|(_, from)| from), &[]).unwrap();
    assert_eq!(sessions(&mut receiver), [0], "told again");
}

#[test]
fn a_line_that_comes_twice_takes_the_feed_nowhere() {
    let (mut feed, mut receiver) = feed(3);
    connection(&mut feed, None, &[1, 2, 2]).unwrap();
    assert_eq!(feed.next_sequence(), 3, "there was no room for the second");
    assert_eq!(lines(&mut receiver), [1, 2]);
}

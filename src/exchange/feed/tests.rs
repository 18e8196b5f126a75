//! What the orders thread receives when its queue is full, and when lines are missing.

use super::*;
use crate::market::{MarketLimits, Watchers, open_market};
use crate::sync::{Receiver, mailbox};

/// A feed in front of an orders queue of this capacity.
pub(super) fn feed(capacity: usize) -> (Feed, Receiver<OrderFeedMessage>) {
    resuming_feed(capacity, None)
}

/// The same, where the log knows a position.
pub(super) fn resuming_feed(capacity: usize, resume: Resume) -> (Feed, Receiver<OrderFeedMessage>) {
    let (orders, receiver) = mailbox(capacity);
    let options = FeedOptions {
        exchange: ExchangeAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9))),
        source: None,
        request_timeout: Duration::ZERO,
        silence_timeout: Duration::ZERO,
        resume,
        exchange_clock: ExchangeClock::default(),
    };
    let (market, _reader) = open_market(Watchers::default(), MarketLimits::default());
    (Feed::new(options, market, orders, Shutdown::new(), FeedMetrics::default()), receiver)
}

/// One connection that requests `from` and receives these lines.
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
fn a_connection_that_breaks_during_a_reread_resumes_within_it() {
    let (mut feed, mut receiver) = feed(2);
    // Room for the session and the first line only.
    connection(&mut feed, None, &[1, 2, 3, 4]).unwrap();
    assert_eq!(feed.next_sequence(), 2);
    assert_eq!(lines(&mut receiver), [1]);
    connection(&mut feed, Some(2), &[2, 3]).unwrap();
    let broken = Ended::Unexpected("cut".into());
    assert_eq!(
        feed.resume_after(&broken, None),
        Some(("s".into(), 4)),
        "line 4 is still to be read again"
    );
    assert_eq!(lines(&mut receiver), [2, 3]);
}

#[test]
fn a_gap_among_reread_lines_is_noticed() {
    let (mut feed, mut receiver) = feed(2);
    connection(&mut feed, None, &[1, 2, 3, 4]).unwrap();
    assert_eq!(sessions(&mut receiver), [0]);
    connection(&mut feed, Some(2), &[4]).unwrap();
    assert_eq!(sessions(&mut receiver), [3], "lines 2 and 3 are missing");
}

#[test]
fn a_gap_skips_no_line_that_must_be_read_again() {
    let (mut feed, mut receiver) = feed(1);
    assert!(matches!(connection(&mut feed, None, &[1]), Ok(())));
    assert_eq!(feed.reread_from, Some(1));
    assert_eq!(sessions(&mut receiver), [0]);
    let line = r#"{"sequence":5,"type":"cancelled","symbol":"IBM","orderId":"o5","timestamp":1}"#;
    feed.take_line(line.as_bytes()).unwrap();
    assert!(sessions(&mut receiver).is_empty(), "line 1 has not been handed over");
    assert!(matches!(feed.end_batch(), Err(Ended::Reread(1))));
}

#[test]
fn a_session_that_found_the_queue_full_is_sent_by_the_next_connection() {
    let (mut feed, mut receiver) = feed(1);
    connection(&mut feed, None, &[]).unwrap();
    // The exchange no longer keeps the position, so there is a hole before what follows.
    assert!(connection(&mut feed, None, &[]).is_err(), "no room");
    assert_eq!(sessions(&mut receiver), [0]);
    let next = feed.resume_after(&Ended::Unexpected("no room".into()), None);
    connection(&mut feed, next.map(|(_, from)| from), &[]).unwrap();
    assert_eq!(sessions(&mut receiver), [0], "sent again");
}

#[test]
fn a_repeated_line_that_finds_the_queue_full_triggers_no_reread() {
    let (mut feed, mut receiver) = feed(3);
    connection(&mut feed, None, &[1, 2, 2]).unwrap();
    assert_eq!(feed.next_sequence(), 3, "there was no room for the second");
    assert_eq!(lines(&mut receiver), [1, 2]);
}

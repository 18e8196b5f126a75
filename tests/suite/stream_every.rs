//! `mode: "every"`: a stream with every print, not only the newest price.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::events::{Event, EventStream};
use crate::support::{self, Server};

/// Prints that are compared.
const PRINTS: usize = 400;

fn print(event: &Event) -> Option<(u64, i64)> {
    let price = event.data["priceInCents"].as_i64()?;
    Some((event.data["timestamp"].as_u64()?, price))
}

fn prints(stream: &mut EventStream, count: usize) -> Vec<(u64, i64)> {
    let mut prints = Vec::new();
    while prints.len() < count {
        let event = stream.next().expect("the stream goes on");
        assert_ne!(event.name, "gap", "a client that reads loses nothing");
        prints.extend(print(&event));
    }
    prints
}

#[test]
fn two_clients_see_the_same_prints_and_more_than_the_changes() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50", "--shards", "1"]);
    let token = support::token(data.path(), "alice");
    let mut first = EventStream::get(&server.address, &token, "symbols=SPY,IBM&mode=every", "");
    let mut second = EventStream::get(&server.address, &token, "symbols=SPY&mode=every", "");
    second.await_price("SPY");
    let of_second = prints(&mut second, PRINTS);
    let (begin, end) = (of_second.first().unwrap().0, of_second.last().unwrap().0);
    let mut of_first = Vec::new();
    while of_first.last().is_none_or(|&(timestamp, _)| timestamp <= end) {
        let event = first.next().expect("the stream goes on");
        if event.data["symbol"] == "SPY" {
            of_first.extend(print(&event));
        }
    }
    let between = |prints: &[(u64, i64)]| -> Vec<(u64, i64)> {
        prints.iter().copied().filter(|print| begin < print.0 && print.0 < end).collect()
    };
    assert_eq!(between(&of_first), between(&of_second));
    let repeats = of_second.windows(2).filter(|pair| pair[0].1 == pair[1].1).count();
    assert!(repeats > PRINTS / 4, "on the tape most prints leave the price as it is: {repeats}");
    assert_eq!(server.metric("stream_gaps_total"), 0);
}

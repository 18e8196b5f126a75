//! Streams that want every print, and changes of open streams, over real loopback sockets.

use std::net::TcpStream;
use std::time::Duration;

use crate::market::FollowedPrice;
use crate::types::{SymbolIndex, TimestampMicros};

use super::Next;
use super::tests::{World, has_sent_all, prices, read_now, read_until, user};
use crate::stream::{
    MAX_SYMBOLS_PER_STREAM, Mode, NotChanged, ResumePoint, StreamId, StreamLimits, StreamRequest,
    SubscriptionChange,
};

impl World {
    fn watch_every(&mut self, names: &[&str]) -> TcpStream {
        let request = StreamRequest { mode: Mode::Every, ..self.request(names) };
        self.open(request)
    }

    /// A price that another node has read from the feed.
    fn follow(&mut self, name: &str, price_cents: i64, sequence: u64) {
        let timestamp = TimestampMicros::new(sequence);
        let price = FollowedPrice { price_cents, timestamp, sequence };
        self.market.follow_price(self.index(name), &price);
        self.market.end_batch(sequence);
    }

    fn change(&mut self, id: StreamId, add: &[&str], remove: &[&str]) -> Result<(), NotChanged> {
        let indexes = |names: &[&str]| names.iter().map(|name| self.index(name)).collect();
        let change = SubscriptionChange { add: indexes(add), remove: indexes(remove) };
        self.hub.change(id, &user("alice"), &change)
    }
}

fn cents(text: &str) -> Vec<i64> {
    let after = |line: &&str| line.split("priceInCents\":").nth(1).map(str::to_owned);
    let number = |rest: String| rest.split(',').next().unwrap().parse().unwrap();
    prices(text).iter().filter_map(after).map(number).collect()
}

/// The id that a stream's `open` event tells.
fn stream_id(text: &str) -> StreamId {
    let id = text.split("\"streamId\":\"").nth(1).unwrap().split('"').next().unwrap();
    StreamId::parse(id).unwrap()
}

#[test]
fn every_print_comes_in_order_also_when_the_price_stays() {
    let mut world = World::new(StreamLimits::default());
    world.print("SPY", 99);
    let mut client = world.watch_every(&["SPY", "IBM"]);
    let mut other = world.watch(&["SPY"]);
    world.run_idle();
    read_until(&mut client, "\"priceInCents\":99");
    for cents in [100, 100, 101, 101, 101] {
        world.print("SPY", cents);
    }
    world.print("IBM", 7);
    world.run_idle();
    let text = read_until(&mut client, "\"timestamp\":6}");
    let of_spy: Vec<&str> = text.lines().filter(|line| line.contains("SPY")).collect();
    assert_eq!(cents(&of_spy.join("\n")), [100, 100, 101, 101, 101]);
    assert_eq!(cents(&text).len(), 6, "and one of IBM");
    let text = read_until(&mut other, "\"priceInCents\":101");
    assert_eq!(cents(&text), [99, 101], "beside one that wants the newest");
    assert_eq!(world.hub.metrics.gaps.get(), 0);
}

#[test]
fn a_client_that_falls_too_far_behind_is_told_of_the_gap_and_gets_the_newest() {
    let limits = StreamLimits { kept_prints: 100, ..StreamLimits::default() };
    let mut world = World::new(limits);
    let mut client = world.watch_every(&["SPY", "IBM"]);
    world.run_idle();
    let (mut last, mut since_last_send) = (0, 0);
    // Full for good once a thousand prints in a row leave nothing to send.
    while since_last_send < 1_000 {
        let sends = world.hub.metrics.sends.get();
        last += 1;
        world.print("SPY", last);
        world.run_idle();
        since_last_send =
            if world.hub.metrics.sends.get() > sends { 0 } else { since_last_send + 1 };
        assert!(last < 200_000, "the socket never fills");
    }
    world.print("IBM", 900_000);
    let newest = format!("\"priceInCents\":{last},");
    let reader = std::thread::spawn(move || {
        let mut text = read_until(&mut client, "event: gap\n");
        while !(text.contains(&newest) && text.contains("\"priceInCents\":900000,")) {
            text.push_str(&read_until(&mut client, "\n\n"));
        }
        text
    });
    world.run_until(has_sent_all);
    let text = reader.join().unwrap();
    let gaps: Vec<(i64, i64)> = text
        .split("event: gap\ndata: {\"from\":")
        .skip(1)
        .map(|gap| gap.split_once('}').unwrap().0.split_once(",\"to\":").unwrap())
        .map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()))
        .collect();
    assert_eq!(usize::try_from(world.hub.metrics.gaps.get()).unwrap(), gaps.len());
    let seen: Vec<i64> = cents(&text).into_iter().filter(|&cents| cents != 900_000).collect();
    // Prints carry the sequences as prices here: whatever is missing lies in a gap.
    let is_told = |print: i64| gaps.iter().any(|&(from, to)| (from..=to).contains(&print));
    let mut unexplained = (1..=last).filter(|&print| !seen.contains(&print) && !is_told(print));
    assert_eq!(unexplained.next(), None, "{gaps:?}, newest {last}");
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "never back, nothing twice");
    assert_eq!(seen.last(), Some(&last));
}

#[test]
fn a_send_that_was_cut_goes_on_with_the_very_next_byte() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch_every(&["SPY", "IBM"]);
    world.run_idle();
    read_until(&mut client, "event: open");
    let mut last = 0;
    // Bursts, so that sends hold many frames of both symbols when the socket fills.
    while !world.is_any_blocked() {
        for _ in 0..50 {
            last += 1;
            world.print(if last % 3 == 0 { "IBM" } else { "SPY" }, last);
        }
        world.run_idle();
        assert!(last < 50_000, "the socket never fills");
    }
    let wanted = format!("id: 7-{last}\n\n");
    world.make_ids_due();
    let reader = std::thread::spawn(move || read_until(&mut client, &wanted));
    world.run_until(has_sent_all);
    let text = reader.join().unwrap();
    let of = |name: &str| -> Vec<i64> {
        let lines = text.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
        cents(&lines.join("\n"))
    };
    let expected = |ibm: bool| (1..=last).filter(|n| (n % 3 == 0) == ibm).collect::<Vec<_>>();
    assert_eq!((of("SPY"), of("IBM")), (expected(false), expected(true)));
    assert_eq!(world.hub.metrics.prices.get(), u64::try_from(last).unwrap());
}

#[test]
fn a_lap_and_a_new_session_are_told() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch_every(&["SPY"]);
    world.print("SPY", 1);
    world.run_idle();
    read_until(&mut client, "id: 7-1\n\n");
    for cents in 2..i64::try_from(crate::market::RING_SLOTS).unwrap() + 12 {
        world.print("IBM", cents);
    }
    world.print("SPY", 4);
    world.run_idle();
    let text = read_until(&mut client, "\"priceInCents\":4,");
    assert!(text.starts_with("event: gap\ndata: {\"from\":2,\"to\":"), "{text}");
    world.market.begin_session("8", 1);
    world.sequence = 0;
    world.print("SPY", 5);
    world.run_idle();
    let text = read_until(&mut client, "\"priceInCents\":5,");
    assert!(text.starts_with("event: reset\n"), "{text}");
    assert_eq!(cents(&text), [5]);
}

#[test]
fn a_resumed_stream_is_told_what_it_missed() {
    let mut world = World::new(StreamLimits::default());
    world.watch_every(&["SPY"]);
    for cents in 1..=3 {
        world.print("SPY", cents);
    }
    world.run_idle();
    let resume = |world: &World, id: &str| StreamRequest {
        mode: Mode::Every,
        resume: ResumePoint::parse(id),
        ..world.request(&["SPY"])
    };
    let (behind, level) = (resume(&world, "7-1"), resume(&world, "7-3"));
    let (mut behind, mut level) = (world.open(behind), world.open(level));
    world.print("SPY", 4);
    world.run_idle();
    let text = read_until(&mut behind, "\"priceInCents\":4,");
    assert!(text.contains("event: gap\ndata: {\"from\":2,\"to\":3}\n\n"), "{text}");
    let text = read_until(&mut level, "\"priceInCents\":4,");
    assert!(!text.contains("gap") && !text.contains("reset"), "{text}");
    assert_eq!(cents(&text), [4]);
}

#[test]
fn a_stream_changes_what_it_watches() {
    for mode in [Mode::Latest, Mode::Every] {
        let mut world = World::new(StreamLimits::default());
        world.print("AIG", 30);
        let request = StreamRequest { mode, ..world.request(&["SPY", "IBM"]) };
        let mut client = world.open(request);
        world.run_idle();
        let id = stream_id(&read_until(&mut client, "event: open"));
        assert_eq!(id.shard, 3);
        world.change(id, &["AIG", "IBM"], &["SPY"]).unwrap();
        world.run_idle();
        assert_eq!(cents(&read_until(&mut client, "\"AIG\"")), [30], "the added one's newest");
        world.print("SPY", 10);
        world.print("IBM", 20);
        world.print("AIG", 31);
        world.run_idle();
        let mut seen = cents(&read_until(&mut client, "}\n\n"));
        seen.sort_unstable();
        assert_eq!(seen, [20, 31], "{mode:?}, in one send");
        let watched = |world: &World, name| world.watch.is_watched(world.index(name));
        assert!(!watched(&world, "SPY") && watched(&world, "AIG"));
        world.change(id, &[], &["AIG", "IBM"]).unwrap();
        world.print("AIG", 32);
        world.run_idle();
        assert_eq!(read_now(&mut client), "");
        drop(client);
        world.run_until(super::Hub::is_empty);
    }
}

#[test]
fn only_its_own_user_changes_a_stream_and_not_beyond_the_limit() {
    let mut world = World::new(StreamLimits::default());
    let mut client = world.watch(&["SPY"]);
    world.run_idle();
    let id = stream_id(&read_until(&mut client, "event: open"));
    let change = SubscriptionChange { add: vec![world.index("IBM")], remove: vec![] };
    let as_bob = world.hub.change(id, &user("bob"), &change);
    assert_eq!(as_bob, Err(NotChanged::Unknown));
    let many = (0..MAX_SYMBOLS_PER_STREAM + 1).filter_map(SymbolIndex::new).collect();
    let change = SubscriptionChange { add: many, remove: vec![] };
    let too_many = world.hub.change(id, &user("alice"), &change);
    assert_eq!(too_many, Err(NotChanged::TooMany { symbols: MAX_SYMBOLS_PER_STREAM + 1 }));
    drop(client);
    world.run_until(super::Hub::is_empty);
    assert_eq!(world.change(id, &["IBM"], &[]), Err(NotChanged::Unknown));
}

#[test]
fn a_window_merges_what_comes_during_a_rest_and_lets_new_streams_in() {
    let window = Duration::from_secs(60);
    let mut world = World::new(StreamLimits { window, ..StreamLimits::default() });
    let mut client = world.watch(&["SPY"]);
    world.run_idle();
    world.print("SPY", 1);
    let rest = world.hub.run_slice();
    assert!(matches!(rest, Next::Rest(rest) if rest < window), "as long as the pass: {rest:?}");
    read_until(&mut client, "\"priceInCents\":1,");
    let mut cents_now = 1;
    // A pass of one send is microseconds long, and so is its rest: catch one that still rests.
    loop {
        cents_now += 2;
        world.print("SPY", cents_now - 1);
        world.run_until(|hub| !hub.feed.has_ticks());
        world.print("SPY", cents_now);
        if matches!(world.hub.run_slice(), Next::Rest(_)) && world.hub.feed.has_ticks() {
            break;
        }
        assert!(cents_now < 100_000, "it never rests");
    }
    let mut late = world.watch(&["SPY"]);
    assert!(world.hub.has_urgent_work());
    world.run_idle();
    read_until(&mut late, "event: open");
    read_until(&mut client, &format!("\"priceInCents\":{cents_now},"));
}

/// A client that counts: prints carry their sequences as prices, so it knows what it lacks.
fn assert_nothing_is_missing(text: &str, known: i64) {
    let mut covered = known;
    for block in text.split("\n\n") {
        if let Some(gap) = block.split_once("event: gap\ndata: {\"from\":").map(|(_, gap)| gap) {
            let (from, to) = gap.split_once('}').unwrap().0.split_once(",\"to\":").unwrap();
            let (from, to): (i64, i64) = (from.parse().unwrap(), to.parse().unwrap());
            assert!(from <= covered + 1, "{covered} before {block} in {text}");
            covered = covered.max(to);
        }
        for print in cents(block) {
            assert!(print <= covered + 1, "{covered} before {block} in {text}");
            covered = covered.max(print);
        }
    }
    assert!(cents(text).windows(2).all(|pair| pair[0] < pair[1]), "back or twice: {text}");
}

#[test]
fn a_shard_that_is_behind_its_table_or_its_client_loses_nothing_in_silence() {
    // How far the client, the shard and the table are, and how much comes before the first slice.
    let cases = [(2, 5, 9), (2, 5, 5), (5, 5, 9), (7, 5, 9), (9, 5, 9), (2, 2, 3)];
    let cases = cases.iter().flat_map(|&case| [(case, false), (case, true)]);
    for ((known, read, written), reads_first) in cases {
        let mut world = World::new(StreamLimits::default());
        let print_up_to = |world: &mut World, last: u64| {
            while world.sequence < last {
                let next = i64::try_from(world.sequence).unwrap() + 1;
                world.print("SPY", next);
            }
        };
        print_up_to(&mut world, read);
        world.run_idle();
        print_up_to(&mut world, written);
        let request = StreamRequest {
            mode: Mode::Every,
            resume: ResumePoint::parse(&format!("7-{known}")),
            ..world.request(&["SPY", "IBM"])
        };
        let mut client = world.open(request);
        // Composed before or after the shard has read what the table tells.
        if reads_first {
            world.run_idle();
        }
        world.hub.serve_ready();
        let mut text = read_until(&mut client, "event: open");
        world.run_idle();
        print_up_to(&mut world, written + 3);
        world.make_ids_due();
        world.run_idle();
        text.push_str(&read_until(&mut client, &format!("id: 7-{}\n\n", written + 3)));
        let case = format!("{known} {read} {written}: {text}");
        assert!(!text.contains("reset"), "{case}");
        assert_eq!(text.contains("event: gap"), known < read, "{case}");
        assert_nothing_is_missing(&text, i64::try_from(known).unwrap());
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: 7-"));
        assert!(ids.map(|id| id.parse::<u64>().unwrap()).all(|id| id >= known), "{case}");
    }
}

#[test]
fn a_stream_that_begins_on_a_shard_that_is_behind_never_goes_back() {
    for resume in [None, Some("6-1")] {
        let mut world = World::new(StreamLimits::default());
        for cents in 1..=9 {
            world.print("SPY", cents);
        }
        let resume = resume.and_then(ResumePoint::parse);
        let request = StreamRequest { mode: Mode::Every, resume, ..world.request(&["SPY", "IBM"]) };
        let mut client = world.open(request);
        world.hub.serve_ready();
        let mut text = read_until(&mut client, "\"priceInCents\":9,");
        assert!(!text.contains("\nid: "), "the shard is not there yet: {text}");
        world.run_idle();
        world.print("SPY", 10);
        world.run_idle();
        text.push_str(&read_until(&mut client, "id: 7-10\n\n"));
        assert_eq!(cents(&text), [9, 10]);
        assert!(!text.contains("event: gap"), "{text}");
    }
}

fn gaps(text: &str) -> Vec<&str> {
    let gaps = text.split("event: gap\ndata: ").skip(1);
    gaps.map(|gap| gap.split_once('\n').unwrap().0).collect()
}

#[test]
fn a_stream_has_lost_no_print_from_before_it_was_opened() {
    let mut world = World::new(StreamLimits::default());
    world.follow("IBM", 5, 1);
    let mut other = world.watch(&["IBM"]);
    world.run_idle();
    read_until(&mut other, "\"IBM\"");
    // Nobody here watches SPY: the first of its prices that comes says that others may lie before it.
    world.market.end_batch(100);
    let mut client = world.watch_every(&["SPY", "AIG"]);
    world.run_idle();
    world.follow("SPY", 10, 150);
    world.run_idle();
    let mut text = read_until(&mut client, "\"priceInCents\":10,");
    assert_eq!(gaps(&text), [""; 0], "{text}");
    world.follow("SPY", 11, 160);
    world.run_idle();
    let id = stream_id(&text);
    text = read_until(&mut client, "\"priceInCents\":11,");
    assert_eq!(gaps(&text), ["{\"from\":151,\"to\":159}"], "{text}");
    world.change(id, &["IBM"], &["AIG"]).unwrap();
    world.run_idle();
    read_until(&mut client, "\"IBM\"");
    world.change(id, &["AIG"], &[]).unwrap();
    world.follow("AIG", 30, 200);
    world.run_idle();
    text = read_until(&mut client, "\"priceInCents\":30,");
    assert_eq!(gaps(&text), [""; 0], "nor of a symbol from before it was added: {text}");
    world.follow("AIG", 31, 210);
    world.run_idle();
    text = read_until(&mut client, "\"priceInCents\":31,");
    assert_eq!(gaps(&text), ["{\"from\":201,\"to\":209}"], "{text}");
}

#[test]
fn a_shard_that_slept_through_a_lap_tells_a_new_stream_of_no_gap_before_it() {
    let mut world = World::new(StreamLimits::default());
    world.print("SPY", 1);
    world.run_idle();
    let opened = i64::try_from(crate::market::RING_SLOTS).unwrap() + 12;
    for cents in 2..=opened {
        world.print("SPY", cents);
    }
    // One is sent its first price before the shard reads on, the other one after that.
    let mut early = world.watch_every(&["SPY"]);
    world.hub.serve_ready();
    let mut late = world.watch_every(&["SPY"]);
    world.print("SPY", opened + 1);
    world.run_idle();
    let last = format!("\"priceInCents\":{},", opened + 1);
    for client in [&mut early, &mut late] {
        let text = read_until(client, &last);
        let from =
            |gap: &&str| gap.split_once(',').unwrap().0.split_once(':').unwrap().1.to_owned();
        let from: Vec<i64> = gaps(&text).iter().map(|gap| from(gap).parse().unwrap()).collect();
        assert!(from.iter().all(|from| *from > opened), "{from:?}, opened at {opened}");
    }
}

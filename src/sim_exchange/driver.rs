//! Replays the session against the clock, over and over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::options::Speed;
use super::replay::{Pace, Replay};
use super::state::{Shared, State};
use crate::types::TimestampMicros;

/// Prints per reading of the clock, journal write and chunk. A slice takes about 0.1 ms, so a
/// print's timestamp is at most that old when it is sent.
const SLICE_PRINTS: usize = 256;
/// Day orders that expire per slice.
const SLICE_EXPIRES: usize = 1_024;
/// How late a print may be before the session clock is set back.
const MAX_LATE_MICROS: u64 = 250_000;

// Bounds a slice's chunk: every print may fill everything that rests, and a line takes less than
// 300 bytes. Even a million fills at once stay below the 4 GiB that a line mark can address.
const _: () = assert!((super::orders::MAX_OPEN_ORDERS + SLICE_PRINTS) * 300 < u32::MAX as usize);

/// Replays until the exchange ends. While the journal cannot be written, it stands still.
pub(super) async fn drive(shared: Arc<Shared>, mut replay: Replay, speed: Speed) {
    loop {
        replay_once(&shared, &mut replay, speed).await;
        replay.restart();
        shared.writable().await;
        let _published_later = shared.change(State::begin_day);
    }
}

/// Replays one session and expires its day orders.
async fn replay_once(shared: &Shared, replay: &mut Replay, speed: Speed) {
    let beginning = Instant::now();
    let beginning_on_the_wall = shared.now();
    let mut pace = Pace::new(0, replay.start(), speed.factor());
    loop {
        shared.writable().await;
        let clock = micros_since(beginning);
        if let Some(due) = replay.next_due() {
            pace.slip(clock, due, MAX_LATE_MICROS);
        }
        let session = pace.session_at(clock).min(replay.close());
        let mut printed = 0;
        // A change that cannot be written is published once it can be.
        let _published_later = shared.change(|state, now| {
            state.calendar.pace = pace.on_clock(beginning_on_the_wall.micros());
            while printed < SLICE_PRINTS
                && let Some(print) = replay.pop(session)
            {
                state.venue.print(print, now);
                printed += 1;
            }
        });
        if printed == SLICE_PRINTS {
            tokio::task::yield_now().await; // let the sockets run
        } else if let Some(due) = replay.next_due() {
            sleep_until(beginning, pace.clock_at(due)).await;
        } else {
            break;
        }
    }
    sleep_until(beginning, pace.clock_at(replay.close())).await;
    let keys = shared.look(|state| state.venue.open_day_orders());
    for slice in keys.chunks(SLICE_EXPIRES) {
        shared.writable().await;
        let _published_later =
            shared.change(|state, now: TimestampMicros| state.venue.expire(slice, now));
        tokio::task::yield_now().await;
    }
}

fn micros_since(beginning: Instant) -> u64 {
    u64::try_from(beginning.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Sleeps until that many microseconds after `beginning`. The timer's resolution is one
/// millisecond: denser prints come in bursts.
async fn sleep_until(beginning: Instant, micros: u64) {
    match beginning.checked_add(Duration::from_micros(micros)) {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await, // beyond the end of time
    }
}

//! Faults of the feed, applied line by line.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::Faults;
use crate::sim_exchange::line::Lines;

/// Bytes of a garbage line that is too long.
const GARBAGE_BYTES: usize = 5_000;

/// What the feed does next for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sim_exchange) enum Step {
    /// Send these whole lines.
    Send(Bytes),
    /// Send nothing for a while.
    Stall(Duration),
    /// Close the connection.
    Cut,
}

/// The faults between the feed and one reader.
#[derive(Debug, Default)]
pub(in crate::sim_exchange) struct Distortion {
    /// Lines held back, each with the number of lines it lets pass first. At most as many as the
    /// largest window.
    held: Vec<(u32, Vec<u8>)>,
    steps: VecDeque<Step>,
}

impl Distortion {
    /// The next step.
    pub(in crate::sim_exchange) fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Adds whole lines.
    pub(in crate::sim_exchange) fn put(&mut self, faults: &Faults, lines: &[u8]) {
        let manner = faults.manner();
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if manner.only_order_lines && !is_of_order(line) {
                self.send(line, &mut out);
                continue;
            }
            if faults.hits(|dice| &mut dice.feed.cut) {
                self.flush(&mut out);
                self.steps.push_back(Step::Cut);
                return;
            }
            if faults.hits(|dice| &mut dice.feed.stall) {
                self.flush(&mut out);
                self.steps.push_back(Step::Stall(faults.draw_time(manner.stall_ms)));
            }
            if faults.hits(|dice| &mut dice.feed.skip) {
                continue;
            }
            let has_room = self.held.len() < manner.reorder_window as usize;
            if has_room && faults.hits(|dice| &mut dice.feed.reorder) {
                let late_by = faults.draw(1, u64::from(manner.reorder_window));
                self.held.push((u32::try_from(late_by).unwrap_or(1), line.to_vec()));
                continue;
            }
            if faults.hits(|dice| &mut dice.feed.blank) {
                out.extend_from_slice(if faults.draw(0, 1) == 0 { b"\n" } else { b" \r\n" });
            }
            if faults.hits(|dice| &mut dice.feed.garbage) {
                out.extend_from_slice(&garbage(line, faults.draw(0, 4)));
            }
            if faults.hits(|dice| &mut dice.feed.odd) {
                self.send(&odd(line, faults.draw(0, 4)), &mut out);
                continue;
            }
            self.send(line, &mut out);
            if faults.hits(|dice| &mut dice.feed.repeat) {
                self.send(line, &mut out);
            }
        }
        self.flush(&mut out);
    }

    /// Releases the lines held back: the feed is quiet, or the faults are off.
    pub(in crate::sim_exchange) fn release(&mut self) {
        let mut out: Vec<u8> = self.held.drain(..).flat_map(|(_, line)| line).collect();
        self.flush(&mut out);
    }

    pub(in crate::sim_exchange) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.steps.is_empty()
    }

    /// Appends a line, and the held lines that are now due.
    fn send(&mut self, line: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(line);
        self.held.retain_mut(|(late_by, held)| {
            *late_by -= 1;
            if *late_by == 0 {
                out.extend_from_slice(held);
            }
            *late_by > 0
        });
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            self.steps.push_back(Step::Send(Bytes::from(std::mem::take(out))));
        }
    }
}

/// An invalid line.
fn garbage(line: &[u8], which: u64) -> Vec<u8> {
    let mut garbage = match which {
        0 => b"oops".to_vec(),
        1 => b"\xff\xfe{\"type\":\"trade\"".to_vec(),
        2 => vec![b'x'; GARBAGE_BYTES],
        3 => br#"{"type":"quote","symbol":"SPY"}"#.to_vec(),
        // Without its sequence, which is not used up.
        _ => line.split(|&byte| byte == b',').skip(1).flatten().copied().collect(),
    };
    garbage.retain(|&byte| byte != b'\n');
    garbage.push(b'\n');
    garbage
}

/// The line with one invalid field.
fn odd(line: &[u8], which: u64) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(line) else {
        return line.to_vec();
    };
    if let Some(members) = value.as_object_mut() {
        match which {
            0 => members.insert("priceInCents".to_owned(), 0.into()),
            1 => members.insert("numShares".to_owned(), 0.5.into()),
            2 => members.insert("symbol".to_owned(), "AJAX=".into()),
            3 => members.insert("type".to_owned(), "quote".into()),
            _ => members.remove("timestamp"),
        };
    }
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Whether the line names an order. Only a field name can look like this: symbols and ids contain
/// no quotation marks.
fn is_of_order(line: &[u8]) -> bool {
    memchr::memmem::find(line, br#""orderId":"#).is_some()
}

/// Repeats some of the lines that are about to be published, under sequences of their own.
pub(in crate::sim_exchange) fn repeat_renumbered(faults: &Faults, lines: &mut Lines) {
    let only_order_lines = faults.manner().only_order_lines;
    for index in 0..lines.marks.len() {
        let of_order = lines.marks.get(index).is_some_and(|mark| mark.of_order);
        if (of_order || !only_order_lines) && faults.hits(|dice| &mut dice.feed.repeat_renumbered) {
            lines.repeat(index);
        }
    }
}

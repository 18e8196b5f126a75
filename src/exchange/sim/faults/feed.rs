//! Faults of the feed, line by line.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::Faults;
use crate::exchange::sim::line::Lines;

/// What a reader does next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::exchange::sim) enum Step {
    /// Sends these whole lines.
    Send(Bytes),
    /// Sends nothing for a while.
    Stall(Duration),
    /// Closes the connection.
    Cut,
}

/// One reader's lines on their way through the faults.
#[derive(Debug, Default)]
pub(in crate::exchange::sim) struct Distortion {
    /// Lines that wait to be late, with how many lines each lets pass first. At most as many as the
    /// largest window.
    held: Vec<(u32, Vec<u8>)>,
    steps: VecDeque<Step>,
}

impl Distortion {
    /// The next step of what was put in.
    pub(in crate::exchange::sim) fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Puts whole lines in.
    pub(in crate::exchange::sim) fn put(&mut self, faults: &Faults, lines: &[u8]) {
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
            self.send(line, &mut out);
            if faults.hits(|dice| &mut dice.feed.repeat) {
                self.send(line, &mut out);
            }
        }
        self.flush(&mut out);
    }

    /// Lets go of lines that wait to be late: the feed has gone quiet, or no fault is set any more.
    pub(in crate::exchange::sim) fn release(&mut self) {
        let mut out: Vec<u8> = self.held.drain(..).flat_map(|(_, line)| line).collect();
        self.flush(&mut out);
    }

    pub(in crate::exchange::sim) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.steps.is_empty()
    }

    /// Appends a line and those whose time that brings.
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

/// No text of a line but its own name has this: symbols and ids have no quotation marks.
fn is_of_order(line: &[u8]) -> bool {
    memchr::memmem::find(line, br#""orderId":"#).is_some()
}

/// Makes further lines of some that are about to be published.
pub(in crate::exchange::sim) fn repeat_renumbered(faults: &Faults, lines: &mut Lines) {
    let only_order_lines = faults.manner().only_order_lines;
    for index in 0..lines.marks.len() {
        let of_order = lines.marks.get(index).is_some_and(|mark| mark.of_order);
        if (of_order || !only_order_lines) && faults.hits(|dice| &mut dice.feed.repeat_renumbered) {
            lines.repeat(index);
        }
    }
}

//! The halts of a node that shares them with others. Postgres has them. What operators change here is in
//! force here at once, and goes to Postgres as soon as that takes it.

use std::collections::VecDeque;

use super::halts::{HaltChange, Halts, TooManyHalts};
use crate::types::TimestampMicros;

/// What this node knew when a look at Postgres began.
#[derive(Debug, Clone, Copy)]
pub struct HaltsLook {
    /// The version that it has; `None` before the first look.
    pub version: Option<i64>,
    updates: u64,
}

/// Halts to be written to Postgres.
#[derive(Debug)]
pub struct HaltsDraft {
    /// The version in Postgres that they change; 0 if there is none yet.
    pub version: i64,
    /// They, as JSON.
    pub text: String,
    halts: Halts,
    /// The last change in them.
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct SharedHalts {
    /// As Postgres has them.
    base: Halts,
    /// Their version there; 0 before the first change of all, `None` before the first look.
    version: Option<i64>,
    /// How often `base` was replaced.
    updates: u64,
    unwritten: VecDeque<Unwritten>,
    last_number: u64,
    /// Why Postgres has not taken them.
    error: Option<String>,
}

/// A change that Postgres does not have yet.
#[derive(Debug)]
struct Unwritten {
    number: u64,
    wish: Wish,
}

#[derive(Debug)]
enum Wish {
    /// An operator waits for it.
    Prompt(HaltChange, TimestampMicros, oneshot::Sender<()>),
    /// The operator was told that it is not durable. What others have changed since then stays.
    Late(HaltChange, TimestampMicros),
    /// Halts from a time without others.
    Keep(Box<Halts>),
}

impl Wish {
    fn onto(&self, halts: &Halts) -> Halts {
        match self {
            Self::Prompt(change, at, _) => halts.changed(change.clone(), *at),
            Self::Late(change, at) => match halts.not_overtaken(change, *at) {
                Some(left) => halts.changed(left, *at),
                None => halts.clone(),
            },
            Self::Keep(kept) => halts.joined(kept),
        }
    }
}

impl SharedHalts {
    /// Those of all nodes, as far as they are known, with what was changed here.
    pub(super) fn in_force(&self) -> Halts {
        let onto = |halts: Halts, unwritten: &Unwritten| unwritten.wish.onto(&halts);
        self.unwritten.iter().fold(self.base.clone(), onto)
    }

    /// Whether Postgres was ever read.
    pub(super) fn is_known(&self) -> bool {
        self.version.is_some()
    }

    /// Whether Postgres lacks anything.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Adds a change. Gives its number, and what tells that it is durable.
    ///
    /// # Errors
    /// It exceeds a limit; nothing has changed.
    pub(super) fn begin(
        &mut self,
        change: HaltChange,
        now: TimestampMicros,
    ) -> Result<(u64, oneshot::Receiver<()>), TooManyHalts> {
        self.in_force().changed(change.clone(), now).check()?;
        let (reply, written) = oneshot::channel();
        Ok((self.add(Wish::Prompt(change, now, reply)), written))
    }

    /// Adds halts to those of all nodes.
    pub(super) fn keep(&mut self, halts: Halts) {
        self.add(Wish::Keep(Box::new(halts)));
    }

    fn add(&mut self, wish: Wish) -> u64 {
        self.last_number += 1;
        self.unwritten.push_back(Unwritten { number: self.last_number, wish });
        self.last_number
    }

    /// The operator waits no longer for a change.
    pub(super) fn give_up(&mut self, number: u64) {
        let Some(place) = self.unwritten.iter_mut().find(|unwritten| unwritten.number == number)
        else {
            return;
        };
        if let Wish::Prompt(change, at, _) = &place.wish {
            place.wish = Wish::Late(change.clone(), *at);
        }
    }

    /// Why a restart may not find all that is in force.
    pub(super) fn warning(&self) -> Option<String> {
        let is_late = |unwritten: &Unwritten| matches!(unwritten.wish, Wish::Late(..));
        let why = self.error.as_deref().unwrap_or("Postgres does not answer");
        if self.unwritten.iter().any(is_late) {
            return Some(format!(
                "The change is in force on this node, but it is not durable, and the other nodes have not heard \
                 of it: {why}. It is tried again until Postgres has it, unless this process ends before."
            ));
        }
        (!self.is_known()).then(|| {
            format!(
                "This node does not know yet what is halted on the others: {why}. It serves no users before it \
                 does."
            )
        })
    }

    pub(super) fn begin_look(&self) -> HaltsLook {
        HaltsLook { version: self.version, updates: self.updates }
    }

    /// Takes on what Postgres has. Returns whether that is news.
    ///
    /// # Errors
    /// The text is not one of halts.
    pub(super) fn found(
        &mut self,
        look: HaltsLook,
        version: i64,
        document: Option<&str>,
    ) -> serde_json::Result<bool> {
        // While it was looked for a newer one came, or it is the one that is known.
        if look.updates != self.updates || self.version == Some(version) {
            return Ok(false);
        }
        self.base = document.map_or_else(|| Ok(Halts::default()), serde_json::from_str)?;
        self.version = Some(version);
        self.updates += 1;
        Ok(true)
    }

    /// What is to be written; nothing before Postgres was read. Drops what makes no difference any more.
    pub(super) fn draft(&mut self) -> Option<HaltsDraft> {
        let (version, number) = (self.version?, self.unwritten.back()?.number);
        let halts = self.in_force();
        if halts == self.base {
            self.drop_unwritten(number);
            return None;
        }
        let Ok(text) = serde_json::to_string(&halts) else {
            unreachable!("halts have a text: their keys are names, and they are not nested")
        };
        Some(HaltsDraft { version, text, halts, number })
    }

    /// Postgres has a draft, under this version.
    pub(super) fn written(&mut self, draft: HaltsDraft, version: i64) {
        self.base = draft.halts;
        self.version = Some(version);
        self.updates += 1;
        self.drop_unwritten(draft.number);
    }

    fn drop_unwritten(&mut self, last: u64) {
        self.error = None;
        while let Some(unwritten) = self.unwritten.pop_front_if(|first| first.number <= last) {
            if let Wish::Prompt(_, _, reply) = unwritten.wish {
                // The operator may be gone.
                let _gone = reply.send(());
            }
        }
    }

    /// Postgres has not taken them.
    pub(super) fn not_written(&mut self, error: String) {
        self.error = Some(error);
    }
}

#[cfg(test)]
#[path = "shared_halts_tests.rs"]
mod tests;

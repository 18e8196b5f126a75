//! One order's history of requests and answers, for the check and for error messages.

use std::fmt::Write as _;

use crate::{
    api::{Order, Terms},
    linear::{Observed, Operation, Outcome, Register, Request},
};

/// Most lines of a history in a message; the last ones are shown.
const SHOWN_LINES: usize = 80;
/// Client number of the checks' own reads.
pub(crate) const CHECKER: usize = usize::MAX;

/// A user and an idempotency key.
pub(crate) type Name = (usize, String);

/// One order's history.
#[derive(Debug)]
pub(crate) struct Record {
    /// The terms of the order.
    pub terms: Terms,
    /// The order id, once an answer contained it.
    pub order_id: Option<String>,
    /// The newest version shown.
    pub newest: Option<Order>,
    /// Whether an answer to a create promised the order.
    pub acknowledged: bool,
    /// The state known before `operations`.
    pub register: Register,
    /// The operations since.
    pub operations: Vec<Operation>,
    /// Operations already summed up in `register`.
    past: Vec<Operation>,
}

impl Record {
    /// The history of a new order.
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            order_id: None,
            newest: None,
            acknowledged: false,
            register: Register::default(),
            operations: Vec::new(),
            past: Vec::new(),
        }
    }

    /// Drops a checked history up to its last operation that ran alone and showed the order: every
    /// later operation comes after that one.
    pub(crate) fn put_past(&mut self) {
        let Some((last, others)) = self.operations.split_last() else { return };
        let Outcome::Showed(observed) = last.outcome else { return };
        let is_alone = others.iter().all(|other| other.responded < last.invoked);
        if !is_alone {
            return;
        }
        let cancels = || self.operations.iter().filter(|o| o.request == Request::Cancel);
        let cancel_confirmed = self.register.cancel_confirmed
            || cancels().any(|cancel| cancel.outcome == Outcome::Cancelled);
        self.register = Register {
            exists: true,
            cancel_asked: self.register.cancel_asked || cancels().next().is_some(),
            least_version: observed.version,
            last: Some(observed),
            cancel_confirmed,
            reopened: cancel_confirmed && !observed.status.is_terminal(),
        };
        self.past.append(&mut self.operations);
    }

    /// The history as text, oldest first.
    pub(crate) fn history(&self, (user, key): &Name) -> String {
        let mut text = format!("  order {key} of user {user}, {:?}\n", self.order_id);
        let _ = writeln!(text, "  asked for: {:?}", self.terms);
        if let Some(newest) = &self.newest {
            let _ = writeln!(text, "  newest seen: {newest:?}");
        }
        let mut lines = Vec::new();
        let (mut before, mut repeats) = (None, 0_usize);
        for (place, operation) in self.past.iter().chain(&self.operations).enumerate() {
            let Operation { request, outcome, invoked, responded, client } = operation;
            // The checks read often; a repeated answer adds nothing.
            if *request == Request::Read && before == Some(outcome) {
                repeats += 1;
                continue;
            }
            if repeats > 0 {
                lines.push(format!("        and {repeats} more reads of the same"));
            }
            (before, repeats) = (Some(outcome), 0);
            let number = place.checked_sub(self.past.len());
            let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let client = if *client == CHECKER { "check".to_owned() } else { client.to_string() };
            let request = format!("{request:?}");
            let outcome = describe(outcome);
            lines.push(format!(
                "  [{number:>3}] {invoked:>9} - {responded:>9}  client {client:<5} {request:<7} {outcome}"
            ));
        }
        if repeats > 0 {
            lines.push(format!("        and {repeats} more reads of the same"));
        }
        for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Showed(Observed { version, status, filled_shares, .. }) => {
            let mark = if status.is_terminal() { " (terminal)" } else { "" };
            format!("version {version} {status:?}{mark}, {filled_shares} filled")
        }
        Outcome::Absent => "no such order".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Unknown => "no answer".to_owned(),
    }
}

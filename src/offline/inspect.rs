//! `longbow wal inspect`: prints the log as lines for people and programs.

use std::collections::HashSet;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::data_dir::DataDir;
use crate::order::{Event, decode};
use crate::types::{OrderId, UserId, steers, within_line};
use crate::wal::{self, Lsn, RecordView, VisitError, WalError};

/// Options of `wal inspect`.
#[derive(Debug, Clone)]
pub struct InspectOptions {
    pub data_dir: DataDir,
    /// First record; by default the oldest.
    pub from: Option<u64>,
    /// Most records.
    pub count: Option<u64>,
    /// Only records of this order.
    pub order: Option<OrderId>,
    /// Only records of this user's orders, as far as their creation is still in the log.
    pub user: Option<UserId>,
    /// Only records of these kinds, by name; all kinds if empty.
    pub kinds: Vec<String>,
    /// Output format.
    pub format: LineFormat,
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object per line.
    Json,
    /// `name=value` pairs.
    Text,
}

impl InspectOptions {
    /// Whether only some records are wanted.
    fn has_filter(&self) -> bool {
        self.order.is_some() || self.user.is_some() || !self.kinds.is_empty()
    }
}

/// Why the log was not printed to the end.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The log cannot be read.
    #[error("the log cannot be printed")]
    Log(#[from] WalError),
    /// The lines could not be written.
    #[error("cannot write the lines")]
    Output(#[source] io::Error),
    /// The log ends before the first wanted record.
    #[error("--from {from} is past the end of the log, which is at record {last}")]
    BehindEnd {
        /// The wanted record.
        from: u64,
        /// The newest record.
        last: Lsn,
    },
    /// The log was cut past the first wanted record.
    #[error("--from {from} is no longer in the log, which begins at record {first}")]
    BeforeStart {
        /// The wanted record.
        from: u64,
        /// The oldest record.
        first: Lsn,
    },
}

/// Ends the visit.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("enough records were printed")]
    Enough,
    #[error("cannot write the lines")]
    Output(#[from] io::Error),
}

/// Prints the wanted records, one per line, oldest first. Works beside a running server.
///
/// # Errors
/// The log cannot be read, or lacks the first wanted record. Lines printed before stay.
pub fn inspect_log(options: &InspectOptions, out: &mut impl Write) -> Result<(), InspectError> {
    let mut lines = Lines { options, out: &mut *out, left: options.count, orders: HashSet::new() };
    // The orders of a user are known by their creation, which may be much earlier.
    let from = options.from.filter(|_| options.user.is_none()).unwrap_or(1);
    let after = (from > 1).then(|| Lsn(from - 1));
    let outcome = wal::inspect(&options.data_dir.wal(), after, &mut |record| {
        lines.visit(record).map_err(VisitError::from)
    });
    match outcome {
        Err(WalError::LostTail { last, .. }) => Err(InspectError::BehindEnd { from, last }),
        Err(WalError::CutOff { first, .. }) => Err(InspectError::BeforeStart { from, first }),
        Err(WalError::Visit { lsn, source }) => match source.downcast::<Stop>().map(|stop| *stop) {
            Ok(Stop::Enough) => written(out.flush()),
            Ok(Stop::Output(error)) => written(Err(error)),
            Err(source) => Err(WalError::Visit { lsn, source }.into()),
        },
        outcome => written(out.flush()).and(outcome.map_err(InspectError::from)),
    }
}

/// A closed pipe is no error: the reader has seen enough.
fn written(outcome: io::Result<()>) -> Result<(), InspectError> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(InspectError::Output(error)),
        _ => Ok(()),
    }
}

struct Lines<'a, W> {
    options: &'a InspectOptions,
    out: &'a mut W,
    /// Lines that may still be printed.
    left: Option<u64>,
    /// Orders of the wanted user.
    orders: HashSet<OrderId>,
}

impl<W: Write> Lines<'_, W> {
    fn visit(&mut self, record: RecordView<'_>) -> Result<(), Stop> {
        if self.left == Some(0) {
            return Err(Stop::Enough);
        }
        let event = decode(record.kind, record.format_version, record.payload);
        let (name, members) = match &event {
            Ok(event) if self.is_wanted(record.lsn, event) => (event.name(), event.members()),
            Ok(_) => return Ok(()),
            // Unreadable records are printed unless there is a filter.
            Err(_) if self.options.has_filter() => return Ok(()),
            Err(error) => {
                let mut members = Map::new();
                members.insert("error".into(), json!(error.to_string()));
                ("unreadable", members)
            }
        };
        self.left = self.left.map(|left| left - 1);
        let mut line = Map::new();
        line.insert("lsn".into(), json!(record.lsn.0));
        line.insert("kind".into(), json!(name));
        line.insert("partition".into(), json!(record.partition));
        line.insert("epoch".into(), json!(record.epoch));
        line.extend(members);
        let line = match self.options.format {
            LineFormat::Json => Value::Object(line).to_string(),
            LineFormat::Text => text(&line),
        };
        // JSON escapes fewer characters than terminals interpret.
        writeln!(self.out, "{}", within_line(&line))?;
        Ok(())
    }

    fn is_wanted(&mut self, lsn: Lsn, event: &Event) -> bool {
        let InspectOptions { from, order, user, kinds, .. } = self.options;
        if let (Some(user), Event::Created(created)) = (user, event)
            && created.user == *user
        {
            self.orders.insert(created.order_id);
        }
        let order_id = event.order_id();
        let is_theirs = || order_id.is_some_and(|order_id| self.orders.contains(&order_id));
        from.is_none_or(|from| lsn.0 >= from)
            && (order.is_none() || *order == order_id)
            && (kinds.is_empty() || kinds.iter().any(|kind| kind == event.name()))
            && (user.is_none() || is_theirs())
    }
}

fn is_plain(character: char) -> bool {
    !matches!(character, ' ' | '"' | '=') && !steers(character)
}

/// The members as `name=value` pairs, without nulls.
fn text(line: &Map<String, Value>) -> String {
    let words =
        line.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
            // Quoted if it would not stay one word.
            Value::String(text) if text.chars().all(is_plain) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        });
    words.collect::<Vec<_>>().join(" ")
}

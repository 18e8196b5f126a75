//! `longbow wal inspect`: the log as lines that people and programs can read.

use std::collections::HashSet;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::data_dir::DataDir;
use crate::order::{Event, decode};
use crate::types::{OrderId, UserId, steers, within_line};
use crate::wal::{self, Lsn, RecordView, VisitError, WalError};

/// Which records are shown, and how.
#[derive(Debug, Clone)]
pub struct InspectOptions {
    /// Where the log is.
    pub data_dir: DataDir,
    /// The first record; without it the oldest that there is.
    pub from: Option<u64>,
    /// Most records.
    pub count: Option<u64>,
    /// Only records of this order.
    pub order: Option<OrderId>,
    /// Only records of this user's orders, as far as their creation is still in the log.
    pub user: Option<UserId>,
    /// Only records of these kinds, by name; of all where there are none.
    pub kinds: Vec<String>,
    /// How each is printed.
    pub format: LineFormat,
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// A JSON object a line.
    Json,
    /// `name=value` words.
    Text,
}

impl InspectOptions {
    /// Whether only some records are wanted.
    fn has_filter(&self) -> bool {
        self.order.is_some() || self.user.is_some() || !self.kinds.is_empty()
    }
}

/// Why the log, or the rest of it, is not shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The log cannot be read.
    #[error("the log cannot be shown")]
    Log(#[from] WalError),
    /// The lines have no place to go.
    #[error("the lines cannot be written")]
    Output(#[source] io::Error),
    /// Nothing is that far.
    #[error("--from {from} is behind the end of the log, which is at record {last}")]
    BehindEnd {
        /// What was asked for.
        from: u64,
        /// The newest record.
        last: Lsn,
    },
    /// The log was cut up to there.
    #[error("--from {from} is no longer in the log, which begins at record {first}")]
    BeforeStart {
        /// What was asked for.
        from: u64,
        /// The oldest record.
        first: Lsn,
    },
}

/// Ends the visit: the reader of the lines wants no more of them.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("enough was shown")]
    Enough,
    #[error("the lines cannot be written")]
    Output(#[from] io::Error),
}

/// Prints the records that were asked for, a line each, oldest first. Works beside a running server.
///
/// # Errors
/// The log cannot be read, or does not have the record to begin at. Lines before that are printed.
pub fn inspect_log(options: &InspectOptions, out: &mut impl Write) -> Result<(), InspectError> {
    let mut lines = Lines { options, out: &mut *out, left: options.count, orders: HashSet::new() };
    // Which orders are a user's is told by records that may come long before.
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

/// Whoever reads the lines and has seen enough closes the pipe.
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
    /// Orders of the user that was asked for.
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
            // What cannot be read is shown unless something else was asked for.
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
        // JSON escapes less than a terminal would obey.
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

fn is_of_words(character: char) -> bool {
    !matches!(character, ' ' | '"' | '=') && !steers(character)
}

/// The members as words, without those that say nothing.
fn text(line: &Map<String, Value>) -> String {
    let words =
        line.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
            // Quoted where a word would not stay one.
            Value::String(text) if text.chars().all(is_of_words) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        });
    words.collect::<Vec<_>>().join(" ")
}

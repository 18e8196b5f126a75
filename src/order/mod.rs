//! Orders: the order as clients see it, the transition table, the executions that count, and the
//! log records of all of these. Pure: no I/O, no clock, no random numbers.

mod account_event;
pub mod booking;
mod case;
mod change;
mod codec;
mod describe;
mod earlier;
mod event;
mod execution_list;
mod executions;
mod fill;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod page;
mod parts;
mod payload;
mod record;
mod status;
mod stored;
mod stored_error;
mod table;
#[cfg(test)]
pub(crate) mod test_events;
mod tracked;
mod transition;
mod user_field;

pub use account_event::{
    AccountAdopted, AccountSource, AccountsBegun, CashMoved, CashMovementKind, CashTerms,
};
pub use case::{
    Case, CaseCause, CaseDecision, CaseOutcome, MAX_CASE_TEXT_BYTES, MAX_OPEN_CASES, OpenCase,
    OperatorAct, case_text,
};
pub use change::{
    CancelCause, Change, Changed, Created, FeedPosition, ReportKind, UnmatchedReport,
};
pub use codec::{EventEncoder, NODE_PARTITION, RECORD_FORMAT_VERSION, RecordError, decode};
pub use describe::event_names;
pub use event::{Adopted, Event};
pub use execution_list::{ListedExecution, list_executions};
pub use executions::{Execution, Executions};
pub use fill::Fill;
pub use page::{OrderFilter, PageRequest, Sequence, StatusSet};
pub use parts::{ExecutionPart, OrderParts};
pub use record::Order;
pub use status::{Ending, Facts, Status, reported_status};
pub use stored::{StoredOrderEncoder, decode_stored, decode_version};
pub use stored_error::{STORED_ORDER_FORMAT, StoredOrderError};
pub use table::{Anomaly, Ruling, Step, ruling};
pub use tracked::{Applied, ExecutionEffect, TrackedOrder};

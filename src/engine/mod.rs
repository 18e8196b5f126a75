//! The order engine: commands and exchange messages in, events and effects out. Pure: no clock, no
//! I/O, no random numbers. Its decisions depend on its inputs alone, and replaying its events
//! restores its state.
//!
//! Each user partition has one [`Engine`]. [`Engines`] holds all of them and the state of the node:
//! the index from exchange ids to orders, reports about unknown ids, and the feed position. The
//! driver appends the events to the log and releases no effect before every event ahead of it is
//! durable.

mod account_start;
mod accounts;
mod adoption;
mod answers;
mod cash;
mod commands;
mod day_end;
mod engines;
mod entry;
mod evidence;
mod external_ids;
mod feed_progress;
mod forgotten_ids;
mod funding;
mod inputs;
mod mass_cancel;
mod news;
mod order_map;
mod outbox;
mod partition;
mod quarantine;
mod reconcile;
mod repair;
mod repair_cause;
mod resident;
mod round_progress;
mod rounds;
mod spread_map;
mod turns;
mod unclaimed;
mod unmatched;

pub use adoption::EndedOrder;
pub use cash::{CashReply, MoveCash};
pub use engines::Engines;
pub use entry::cancel_answer;
pub use external_ids::ID_REUSE_MICROS;
pub use funding::OPENING_ID;
pub use inputs::{
    AccountMode, AccountRules, CancelOutcome, CancelRefusal, CreateOrder, DayFinding,
    EngineOptions, ExchangeOrderState, ExchangeRecord, FeedPlace, QueryAnswer, RELOOKS, Report,
    SubmitOutcome,
};
pub use mass_cancel::{CancelScope, CancelSweep};
pub use outbox::{Alert, CancelReply, CreateReply, Effect, HaltScope, Outbox, ReplyTo};
pub use partition::{Engine, UnknownOrder};
pub use quarantine::OperatorReply;
pub use repair_cause::RepairCause;
pub use unmatched::MAX_UNMATCHED_REPORTS;

#[cfg(test)]
mod cancel_tests;
#[cfg(test)]
mod cash_tests;
#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod funding_tests;
#[cfg(test)]
mod late_record_tests;
#[cfg(test)]
mod numbering_tests;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod resident_tests;
#[cfg(test)]
mod reuse_tests;
#[cfg(test)]
mod silence_tests;
#[cfg(test)]
mod test_rig;
#[cfg(test)]
mod unsure_tests;

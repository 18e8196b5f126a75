//! Longbow: a brokerage engine.
//!
//! Grows into the map of the crate as its rooms are built.

pub mod exchange;
pub mod types;

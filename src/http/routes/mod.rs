//! The routes of the contract, one per file: validate, ask, answer.

pub(super) mod accounts;
pub(super) mod activities;
pub(super) mod cancel_all;
pub(super) mod candles;
pub(super) mod clock;
pub(super) mod executions;
pub(super) mod order_list;
pub(super) mod order_stream;
pub(super) mod orders;
pub(super) mod page;
pub(super) mod preview;
pub(super) mod session;
pub(super) mod subscribe;
pub(super) mod subscription_change;
pub(super) mod symbols;
pub(super) mod webhook;

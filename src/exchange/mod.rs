//! The exchange as Longbow sees it: what travels over its wire, the sessions that carry orders to
//! it, the reader of its feed, and (in [`sim`]) a real server that plays it.

pub mod wire;

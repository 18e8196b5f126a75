//! The lock-free folder of Longbow under loom, which runs each of its models through every
//! interleaving and every value that the memory model lets a load return.
//!
//! A crate of its own because `--cfg loom` is read by other crates too: tokio, for one,
//! changes its innards. Here nothing but the folder and its few dependencies is compiled.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --target-dir target/loom -p loom-models
//! ```
//!
//! Without `--cfg loom`, and outside of tests, this crate is empty.

#[cfg(all(loom, test))]
#[path = "../../src/sync/mod.rs"]
pub mod sync;

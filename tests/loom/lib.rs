//! Longbow's `sync` folder under loom, which runs each model through every interleaving and every value
//! that the memory model lets a load return.
//!
//! This is a separate crate because `--cfg loom` affects other crates, too: tokio, for one, changes its
//! internals. Here only the folder and its few dependencies are compiled.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --target-dir target/loom -p loom-models
//! ```
//!
//! Without `--cfg loom`, and outside tests, this crate is empty.

#[cfg(all(loom, test))]
#[path = "../../src/sync/mod.rs"]
pub mod sync;

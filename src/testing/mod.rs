//! Disks, stores and hand-driven threads for tests, the simulation and the fuzz targets. The module
//! is in no build of the product, so tests of every layer may import it.

mod faulty_disk;
mod manual_feed;
mod manual_writer;
mod memory_store;

pub use faulty_disk::{Crash, Fault, FaultyDisk};
pub use manual_feed::ManualFeed;
pub use manual_writer::ManualWriter;
pub use memory_store::MemoryStore;

/// Waits until something is so that other threads bring about and do not announce. They have the cores meanwhile.
#[cfg(test)]
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

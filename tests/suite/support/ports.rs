//! Ports for servers that must come back on the same port: outside the range of ephemeral ports, so
//! that none is taken while its server is down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A free port of 127.0.0.1, a different one each time.
pub(crate) fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Concurrent tests begin at different ports.
    let start = std::process::id().wrapping_mul(37);
    let count = u32::from(PORTS.end - PORTS.start);
    let free = (0..count).find_map(|_| {
        let step = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(step).expect("within the range");
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    });
    free.expect("a free port")
}

/// A free port with its address.
pub(crate) fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

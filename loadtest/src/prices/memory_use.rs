//! Memory of a process, and of the kernel for sockets. The kernel reports its part only for the whole
//! machine; figures for one side of the connections are derived, and the reports say how.

use std::{collections::BTreeMap, fs, io};

use procfs::{Current, Meminfo, process::Process};

use crate::error::{Context, Result};

/// Name prefixes of the slab caches that a TCP connection and its file use. Other caches grow with
/// other activity, including the readings of `/proc`.
const SOCKET_SLABS: [&str; 12] = [
    "TCP",
    "sock_inode_cache",
    "dentry",
    "filp",
    "eventpoll_",
    "ep_head",
    "lsm_",
    "tcp_bind",
    "request_sock_TCP",
    "skbuff_",
    "kmalloc-",
    "inet_",
];

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ProcessMemory {
    /// Heap, stacks and other private memory.
    pub anonymous: u64,
    /// Shared memory, where nginx keeps messages.
    pub shared: u64,
}

impl ProcessMemory {
    /// Reads the memory use of a process.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn read(pid: i32) -> Result<Self> {
        let status = Process::new(pid).and_then(|process| process.status());
        let status = status.map_err(io::Error::other).context("reading a process")?;
        let bytes = |kib: Option<u64>| kib.unwrap_or(0) * 1_024;
        Ok(Self { anonymous: bytes(status.rssanon), shared: bytes(status.rssshmem) })
    }

    /// The sum.
    #[must_use]
    pub(super) const fn total(self) -> u64 {
        self.anonymous + self.shared
    }
}

/// Kernel memory of the whole machine, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KernelMemory {
    /// Pages of TCP's send and receive queues (`/proc/net/sockstat`).
    pub queues: u64,
    /// Pages of each slab cache (`/proc/slabinfo`, which only root may read).
    pub slabs: BTreeMap<String, u64>,
    /// All slabs together (`/proc/meminfo`).
    pub all_slabs: u64,
}

impl KernelMemory {
    /// Reads the figures.
    ///
    /// # Errors
    /// A world-readable file of `/proc` cannot be read.
    pub(super) fn read() -> Result<Self> {
        let sockstat = fs::read_to_string("/proc/net/sockstat").context("reading sockstat")?;
        let meminfo = Meminfo::current().map_err(io::Error::other).context("reading meminfo")?;
        let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        Ok(Self {
            queues: queue_pages(&sockstat) * procfs::page_size(),
            slabs: slabs(&slabinfo, procfs::page_size()),
            all_slabs: meminfo.slab,
        })
    }

    /// Growth since `earlier` of the slab caches of sockets, or of all caches if this process may not
    /// read them separately.
    #[must_use]
    pub(super) fn socket_slab_growth(&self, earlier: &Self) -> u64 {
        if self.slabs.is_empty() {
            return self.all_slabs.saturating_sub(earlier.all_slabs);
        }
        let of = |memory: &Self| -> u64 {
            let sockets = memory
                .slabs
                .iter()
                .filter(|(name, _)| SOCKET_SLABS.iter().any(|start| name.starts_with(start)));
            sockets.map(|(_, bytes)| bytes).sum()
        };
        of(self).saturating_sub(of(earlier))
    }

    /// The slab caches that grew since `earlier` by at least the given number of bytes.
    #[must_use]
    pub(super) fn grown_slabs(&self, earlier: &Self, least: u64) -> Vec<(String, u64)> {
        let grown = self.slabs.iter().map(|(name, bytes)| {
            let before = earlier.slabs.get(name).copied().unwrap_or(0);
            (name.clone(), bytes.saturating_sub(before))
        });
        grown.filter(|(_, bytes)| *bytes >= least).collect()
    }
}

/// The `mem` figure of the TCP line.
fn queue_pages(sockstat: &str) -> u64 {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
    let mut words = line.unwrap_or_default().split_whitespace();
    words.find(|word| *word == "mem");
    words.next().and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Columns: name, active objects, objects, object size, objects per slab, pages per slab, three
/// tunables, and after `slabdata` active slabs, slabs.
fn slabs(slabinfo: &str, page_bytes: u64) -> BTreeMap<String, u64> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let pages: u64 = words.nth(4)?.parse().ok()?;
        words.find(|word| *word == "slabdata")?;
        let slabs: u64 = words.nth(1)?.parse().ok()?;
        Some((name, pages * slabs * page_bytes))
    };
    slabinfo.lines().filter_map(of_line).collect()
}

/// Bytes queued in the sockets between a server and its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Queued {
    /// Unsent or unacknowledged, in the server's sockets.
    pub by_server: u64,
    /// Unread, in the clients' sockets.
    pub at_clients: u64,
}

impl Queued {
    /// Reads the kernel's list of connections for a server's port. Counts payload only; the kernel's
    /// memory for it is larger.
    ///
    /// # Errors
    /// The list cannot be read.
    pub(super) fn read(server_port: u16) -> Result<Self> {
        let connections = procfs::net::tcp().map_err(io::Error::other);
        let mut queued = Self::default();
        for connection in connections.context("listing connections")? {
            if connection.local_address.port() == server_port {
                queued.by_server += u64::from(connection.tx_queue);
            } else if connection.remote_address.port() == server_port {
                queued.at_clients += u64::from(connection.rx_queue);
            }
        }
        Ok(queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn memory_is_read_from_what_the_kernel_prints() {
        let sockstat = "sockets: used 11\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 9\nUDP: mem 5\n";
        assert_eq!(queue_pages(sockstat), 9);
        let slabinfo = "slabinfo - version: 2.1\n# name\n\
            TCP 120 130 2432 13 8 : tunables 0 0 0 : slabdata 10 10 0\n";
        assert_eq!(
            slabs(slabinfo, 4_096).into_iter().collect::<Vec<_>>(),
            [("TCP".to_owned(), 327_680)]
        );
    }

    #[test]
    fn queues_are_told_apart_by_their_side() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"thirteen byte").unwrap();
        // Peeking leaves the data in the queue.
        let mut arrived = [0; 13];
        while client.peek(&mut arrived).unwrap() < arrived.len() {}
        assert_eq!(Queued::read(address.port()).unwrap().at_clients, 13);
    }

    #[test]
    fn the_memory_of_this_process_is_seen() {
        let memory = ProcessMemory::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(memory.anonymous > 0 && memory.total() >= memory.anonymous);
    }
}

//! How much memory a process has, and what the kernel holds for sockets. The kernel tells its part
//! for the whole machine only: what is said of one side of the connections is derived, and the
//! reports say how.

use std::{collections::BTreeMap, fs};

use crate::error::{Context, Result};

/// Beginnings of the names of the slab caches that a TCP connection and its file take from. Others
/// grow by what else goes on, the readings of `/proc` included.
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
/// Bytes of a page: 4 KiB on every machine that this runs on.
const PAGE_BYTES: u64 = 4_096;

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Heap, stacks and whatever else is its own.
    pub anonymous: u64,
    /// Shared with others: nginx keeps messages there.
    pub shared: u64,
}

impl ProcessMemory {
    /// Reads `/proc/PID/status`.
    ///
    /// # Errors
    /// The process is gone.
    pub fn read(pid: i32) -> Result<Self> {
        let file = format!("/proc/{pid}/status");
        Ok(Self::parse(&fs::read_to_string(&file).context(&format!("reading {file}"))?))
    }

    fn parse(text: &str) -> Self {
        Self { anonymous: kib(text, "RssAnon:") * 1_024, shared: kib(text, "RssShmem:") * 1_024 }
    }

    /// All of it.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.anonymous + self.shared
    }
}

/// The figure of a line `NAME   123 kB`.
fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What the kernel holds, on the whole machine, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Pages of TCP's send and receive queues (`/proc/net/sockstat`).
    pub queues: u64,
    /// Pages of each slab cache (`/proc/slabinfo`, which only root may read).
    pub slabs: BTreeMap<String, u64>,
    /// All slabs together (`/proc/meminfo`).
    pub all_slabs: u64,
}

impl KernelMemory {
    /// Reads them.
    ///
    /// # Errors
    /// A file of `/proc` that everybody may read cannot be read.
    pub fn read() -> Result<Self> {
        let sockstat = fs::read_to_string("/proc/net/sockstat").context("reading sockstat")?;
        let meminfo = fs::read_to_string("/proc/meminfo").context("reading meminfo")?;
        let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        Ok(Self {
            queues: queue_pages(&sockstat) * PAGE_BYTES,
            slabs: slabs(&slabinfo),
            all_slabs: kib(&meminfo, "Slab:") * 1_024,
        })
    }

    /// Growth since `earlier` of the slab caches that sockets take from; of all of them where this
    /// process may not tell them apart.
    #[must_use]
    pub fn socket_slab_growth(&self, earlier: &Self) -> u64 {
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

    /// The slab caches that grew since `earlier` by at least so many bytes.
    #[must_use]
    pub fn grown_slabs(&self, earlier: &Self, least: u64) -> Vec<(String, u64)> {
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

/// Columns: name, active objects, objects, object size, objects a slab, pages a slab, three
/// tunables, and behind `slabdata` active slabs, slabs.
fn slabs(slabinfo: &str) -> BTreeMap<String, u64> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let pages: u64 = words.nth(4)?.parse().ok()?;
        words.find(|word| *word == "slabdata")?;
        let slabs: u64 = words.nth(1)?.parse().ok()?;
        Some((name, pages * slabs * PAGE_BYTES))
    };
    slabinfo.lines().filter_map(of_line).collect()
}

/// Bytes that wait in the sockets between a server and its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued {
    /// Not sent or not acknowledged, in the server's sockets.
    pub by_server: u64,
    /// Not read, in the clients' sockets.
    pub at_clients: u64,
}

impl Queued {
    /// Reads `/proc/net/tcp` for a server's port. Payload only: what the kernel takes for it is
    /// more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(server_port: u16) -> Result<Self> {
        let text = fs::read_to_string("/proc/net/tcp").context("reading /proc/net/tcp")?;
        Ok(Self::parse(&text, server_port))
    }

    /// Columns: number, local address, remote address, state, queues as `sent:received`, all in
    /// hexadecimal.
    fn parse(text: &str, server_port: u16) -> Self {
        let mut queued = Self::default();
        let port = |address: &str| u16::from_str_radix(address.split(':').nth(1)?, 16).ok();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (Some(local), Some(remote)) = (words.next(), words.next()) else { continue };
            let Some((sent, received)) = words.nth(1).and_then(|queues| queues.split_once(':'))
            else {
                continue;
            };
            let bytes = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            if port(local) == Some(server_port) {
                queued.by_server += bytes(sent);
            } else if port(remote) == Some(server_port) {
                queued.at_clients += bytes(received);
            }
        }
        queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_the_kernel_prints() {
        let status = "VmRSS:\t  300 kB\nRssAnon:\t  200 kB\nRssFile:\t 60 kB\nRssShmem:\t 40 kB\n";
        let memory = ProcessMemory::parse(status);
        assert_eq!((memory.anonymous, memory.total()), (200 * 1_024, 240 * 1_024));
        let sockstat = "sockets: used 11\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 9\nUDP: mem 5\n";
        assert_eq!(queue_pages(sockstat), 9);
        let slabinfo = "slabinfo - version: 2.1\n# name\n\
            TCP 120 130 2432 13 8 : tunables 0 0 0 : slabdata 10 10 0\n";
        assert_eq!(slabs(slabinfo).into_iter().collect::<Vec<_>>(), [("TCP".to_owned(), 327_680)]);
    }

    #[test]
    fn queues_are_told_apart_by_their_side() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:1F90 0100007F:A001 01 00000010:00000001 00:00000000\n\
             1: 0100007F:A001 0100007F:1F90 01 00000002:00000020 00:00000000\n\
             2: 0100007F:0016 0100007F:A003 01 00000400:00000400 00:00000000\n";
        assert_eq!(Queued::parse(text, 8_080), Queued { by_server: 16, at_clients: 32 });
    }
}

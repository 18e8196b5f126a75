//! CPU time from the kernel: of each thread of a process, of the host, and stolen by the
//! hypervisor.

use std::{collections::BTreeMap, fmt, fs, io, str::FromStr};

use procfs::{CpuInfo, CpuTime, Current, CurrentSI, KernelStats, process::Process};
use rustix::{
    process::{Pid, Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{
    clock::Moment,
    error::{Context, Error, Result},
};

/// Pins the calling thread to one core.
///
/// # Errors
/// [`Error::Flag`] when there is no such core.
pub(crate) fn pin(core: usize, flag: &'static str) -> Result<()> {
    let refuse = || Error::Flag {
        flag,
        value: core.to_string(),
        allowed: format!("0 to {}", core_count().saturating_sub(1)),
    };
    if core >= core_count() {
        return Err(refuse());
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|_| refuse())
}

/// Runs `work` with the calling thread pinned to one core; threads that it starts inherit that.
/// Afterwards the thread may use every core again.
///
/// # Errors
/// [`Error::Flag`] when there is no such core, or what `work` returns.
pub(crate) fn on_core<T>(
    core: usize,
    flag: &'static str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    on_cores(&Cores(vec![core]), flag, work)
}

/// Like [`on_core`], with several cores.
///
/// # Errors
/// [`Error::Flag`] when one of them is not there, or what `work` returns.
pub(crate) fn on_cores<T>(
    cores: &Cores,
    flag: &'static str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = sched_getaffinity(None).context("reading the allowed cores")?;
    cores.allow(flag)?;
    let done = work();
    sched_setaffinity(None, &before).context("allowing all cores again")?;
    done
}

/// A list of core numbers, as in a flag: `0,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// Every core of this machine.
    #[must_use]
    pub(crate) fn all() -> Self {
        Self((0..core_count()).collect())
    }

    fn allow(&self, flag: &'static str) -> Result<()> {
        let refuse = || Error::Flag {
            flag,
            value: self.to_string(),
            allowed: format!("some of 0 to {}", core_count().saturating_sub(1)),
        };
        let mut set = CpuSet::new();
        for &core in &self.0 {
            if core >= core_count() {
                return Err(refuse());
            }
            set.set(core);
        }
        sched_setaffinity(None, &set).map_err(|_| refuse())
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let cores: std::result::Result<Vec<usize>, _> =
            text.split(',').map(|core| core.trim().parse()).collect();
        cores.map(Self).map_err(|_| format!("{text:?} is no list of cores such as 0,1"))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&cores.join(","))
    }
}

/// Pins every thread of a process whose name `wanted` accepts to one core.
///
/// # Errors
/// [`Error::Io`] when the process is gone.
pub(crate) fn place_threads(pid: i32, core: usize, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    for (id, (name, _)) in ProcessCpu::read(pid)?.threads {
        if wanted(&name) {
            // A thread may have ended since.
            let _ = sched_setaffinity(Pid::from_raw(id), &set);
        }
    }
    Ok(())
}

/// Number of cores of this machine.
#[must_use]
pub(crate) fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Raises this process's soft limit of open files to the hard limit and returns it.
#[must_use]
pub(crate) fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    // `None` means unlimited.
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

/// CPU time of every thread of a process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct ProcessCpu {
    /// Name and CPU nanoseconds by thread id.
    threads: BTreeMap<i32, (String, u64)>,
    at: Moment,
}

impl ProcessCpu {
    /// Reads all threads of the process. A running thread's figure is at most a scheduler tick old.
    ///
    /// # Errors
    /// [`Error::Io`] when the process is gone or belongs to somebody else.
    pub(crate) fn read(pid: i32) -> Result<Self> {
        let at = Moment::now();
        let tasks = Process::new(pid).and_then(|process| process.tasks());
        let tasks = tasks.map_err(io::Error::other).context("listing threads")?;
        let mut threads = BTreeMap::new();
        for task in tasks {
            // A thread may end between the listing and the reading.
            let Ok(task) = task else { continue };
            if let (Ok(stat), Ok(schedstat)) = (task.stat(), task.schedstat()) {
                threads.insert(task.tid, (stat.comm, schedstat.sum_exec_runtime));
            }
        }
        Ok(Self { threads, at })
    }

    /// CPU nanoseconds of all threads that still run.
    #[must_use]
    pub(crate) fn nanos(&self) -> u64 {
        self.threads.values().map(|(_, nanos)| nanos).sum()
    }

    /// CPU use by thread name since `earlier`.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> CpuUse {
        let mut nanos_by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (id, (name, nanos)) in &self.threads {
            let before = earlier.threads.get(id).map_or(0, |(_, nanos)| *nanos);
            *nanos_by_name.entry(name.clone()).or_default() += nanos.saturating_sub(before);
        }
        CpuUse { nanos_by_name, wall_nanos: self.at.nanos_since(earlier.at) }
    }

    /// The single core that all threads whose name starts with `prefix` are pinned to, if there is one.
    /// A thread that has ended since the reading does not count: a new thread has its parent's name
    /// until it sets its own.
    #[must_use]
    pub(crate) fn pinned_core(&self, prefix: &str) -> Option<usize> {
        let ids = self.threads.iter().filter(|(_, (name, _))| name.starts_with(prefix));
        let mut cores = ids.filter_map(|(id, _)| allowed_cores(*id)).map(|set| only_core(&set));
        let core = cores.next()??;
        cores.all(|other| other == Some(core)).then_some(core)
    }
}

/// The cores that a thread may run on; `None` if it has ended.
fn allowed_cores(thread_id: i32) -> Option<CpuSet> {
    sched_getaffinity(Some(Pid::from_raw(thread_id)?)).ok()
}

fn only_core(set: &CpuSet) -> Option<usize> {
    if set.count() != 1 {
        return None;
    }
    (0..CpuSet::MAX_CPU).find(|core| set.is_set(*core))
}

/// CPU time that a process used in a window.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuUse {
    /// Nanoseconds by thread name.
    pub nanos_by_name: BTreeMap<String, u64>,
    /// Length of the window in nanoseconds.
    pub wall_nanos: u64,
}

impl CpuUse {
    /// CPU seconds per second of the threads whose name `wanted` accepts.
    pub(crate) fn cores(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let threads = self.nanos_by_name.iter().filter(|(name, _)| wanted(name));
        let nanos: u64 = threads.map(|(_, nanos)| nanos).sum();
        if self.wall_nanos == 0 { 0.0 } else { nanos as f64 / self.wall_nanos as f64 }
    }

    /// CPU seconds per second by thread name.
    #[must_use]
    pub(crate) fn cores_by_name(&self) -> BTreeMap<String, f64> {
        self.nanos_by_name.keys().map(|name| (name.clone(), self.cores(|n| n == name))).collect()
    }
}

/// The host's CPU counters at one moment, in clock ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostCpu {
    total: Ticks,
    cores: Vec<Ticks>,
}

/// Counters of one `cpu` line of `/proc/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
    steal: u64,
}

/// How the host's cores spent a window, as fractions of 1.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostUse {
    /// Share of all cores' time that the hypervisor gave to other machines.
    pub steal: f64,
    /// Share of each core's time that it was not idle, steal included.
    pub busy_by_core: Vec<f64>,
}

impl HostCpu {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read.
    pub(crate) fn read() -> Result<Self> {
        let stats = KernelStats::current().map_err(io::Error::other);
        let stats = stats.context("reading the host's CPU counters")?;
        Ok(Self {
            total: Ticks::of(&stats.total),
            cores: stats.cpu_time.iter().map(Ticks::of).collect(),
        })
    }

    /// How the time since `earlier` was spent.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> HostUse {
        let total = self.total.minus(earlier.total);
        let cores = self.cores.iter().zip(&earlier.cores);
        HostUse {
            steal: share(total.steal, total.all),
            busy_by_core: cores
                .map(|(now, before)| now.minus(*before))
                .map(|ticks| share(ticks.all.saturating_sub(ticks.idle), ticks.all))
                .collect(),
        }
    }
}

impl Ticks {
    /// Guest time is part of `user` and `nice`.
    fn of(time: &CpuTime) -> Self {
        let CpuTime { user, nice, system, idle, iowait, irq, softirq, steal, .. } = time;
        let [iowait, irq, softirq, steal] =
            [iowait, irq, softirq, steal].map(|ticks| ticks.unwrap_or(0));
        let idle = idle + iowait;
        Self { all: user + nice + system + idle + irq + softirq + steal, idle, steal }
    }

    fn minus(self, earlier: Self) -> Self {
        Self {
            all: self.all.saturating_sub(earlier.all),
            idle: self.idle.saturating_sub(earlier.idle),
            steal: self.steal.saturating_sub(earlier.steal),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// One line about this machine: CPU model, cores, kernel.
#[must_use]
pub(crate) fn machine() -> String {
    let cpu = CpuInfo::current().ok();
    let model = cpu.as_ref().and_then(|cpu| cpu.model_name(0)).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {} cores, Linux {}", core_count(), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_list_of_numbers() {
        let cores: Cores = "0, 1".parse().unwrap();
        assert_eq!(cores.to_string(), "0,1");
        for text in ["", "0-1", "all", "0,"] {
            assert!(text.parse::<Cores>().is_err(), "{text}");
        }
        let none = on_cores(&Cores(vec![100_000]), "postgres-cores", || Ok(()));
        assert!(none.unwrap_err().to_string().contains("postgres-cores"));
    }

    #[test]
    fn steal_and_busy_shares_come_from_the_difference() {
        let host = |ticks| HostCpu { total: ticks, cores: vec![ticks] };
        let before = host(Ticks { all: 1_000, idle: 800, steal: 0 });
        let after = host(Ticks { all: 1_200, idle: 910, steal: 10 });
        let spent = after.since(&before);
        assert!((spent.steal - 0.05).abs() < 1e-9, "10 of 200 ticks");
        assert_eq!(spent.busy_by_core.len(), 1);
        assert!(spent.busy_by_core.iter().all(|busy| (busy - 0.45).abs() < 1e-9));
    }

    #[test]
    fn the_time_of_a_busy_thread_shows_under_its_name() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = ProcessCpu::read(own).unwrap();
        let busy = std::thread::Builder::new().name("busy-1".to_owned()).spawn(|| {
            pin(0, "core").unwrap();
            while crate::clock::thread_cpu_nanos() < 50_000_000 {}
            let own = i32::try_from(std::process::id()).unwrap();
            ProcessCpu::read(own).unwrap()
        });
        let after = busy.unwrap().join().unwrap();
        let used = after.since(&before);
        // The kernel updates a running thread's CPU time only at each tick.
        assert!(used.nanos_by_name.get("busy-1").is_some_and(|nanos| *nanos > 20_000_000));
        assert!(used.cores(|_| true) > 0.0);
    }
}

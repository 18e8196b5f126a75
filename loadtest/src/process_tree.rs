//! CPU time of a process and its children, such as Postgres with a process per connection, which may
//! begin and end within a window.

use std::{collections::BTreeMap, io};

use procfs::process::Process;

use crate::{
    clock::Moment,
    cpu::ProcessCpu,
    error::{Context, Result},
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// CPU time at one moment.
#[derive(Debug, Clone)]
pub(crate) struct TreeCpu {
    /// Nanoseconds of the process and of each running child, by process id.
    running: BTreeMap<i32, u64>,
    /// Nanoseconds of all ended children, each over its whole life.
    ended: u64,
    at: Moment,
}

impl TreeCpu {
    /// Reads the process and its children.
    ///
    /// # Errors
    /// [`Error::Io`] when the process is gone.
    pub(crate) fn read(pid: i32) -> Result<Self> {
        let at = Moment::now();
        let process = Process::new(pid).map_err(io::Error::other).context("finding a process")?;
        let children = process.task_main_thread().and_then(|thread| thread.children());
        let children = children.map_err(io::Error::other).context("listing child processes")?;
        let mut running = BTreeMap::from([(pid, ProcessCpu::read(pid)?.nanos())]);
        for child in children.into_iter().filter_map(|child| i32::try_from(child).ok()) {
            // A child that ends meanwhile is counted among the ended ones at the next reading.
            if let Ok(cpu) = ProcessCpu::read(child) {
                running.insert(child, cpu.nanos());
            }
        }
        let stat = process.stat().map_err(io::Error::other).context("reading a process")?;
        let ended = stat.cutime.unsigned_abs() + stat.cstime.unsigned_abs();
        let ended = ended * NANOS_PER_SECOND / procfs::ticks_per_second().max(1);
        Ok(Self { running, ended, at })
    }

    /// CPU seconds per second since `earlier`.
    #[must_use]
    pub(crate) fn cores_since(&self, earlier: &Self) -> f64 {
        let mut nanos = self.ended.saturating_sub(earlier.ended);
        for (pid, now) in &self.running {
            nanos += now.saturating_sub(earlier.running.get(pid).copied().unwrap_or(0));
        }
        // An ended child counts with its whole life; subtract what it had used before.
        let gone = earlier.running.iter().filter(|(pid, _)| !self.running.contains_key(pid));
        let nanos = nanos.saturating_sub(gone.map(|(_, nanos)| nanos).sum());
        let wall_nanos = self.at.nanos_since(earlier.at);
        if wall_nanos == 0 { 0.0 } else { nanos as f64 / wall_nanos as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Interrupt;
    use rustix::process::{Pid, Signal, kill_process};
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    #[test]
    fn children_count_while_they_run_and_when_they_have_ended() {
        let at = Moment::now();
        let second = NANOS_PER_SECOND;
        let tree = |running: &[(i32, u64)], ended, at| TreeCpu {
            running: running.iter().copied().collect(),
            ended,
            at,
        };
        let before = tree(&[(1, second), (2, 5 * second), (3, 7 * second)], second, at);
        // 2 has ended after another second; 3 went on for two; 4 is new.
        let now =
            tree(&[(1, second), (3, 9 * second), (4, second)], 7 * second, at.plus_seconds(4.0));
        assert!((now.cores_since(&before) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_time_of_a_busy_child_shows_while_it_runs_and_after_it() {
        const BUSY_NANOS: u64 = 50_000_000;
        // The shell has one thread, like Postgres; its child works until it is told to end.
        let script = "sh -c 'while :; do :; done' & echo $!; wait; read line";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child: i32 = line.trim().parse().unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let before = TreeCpu::read(pid).unwrap();
        let is_busy = || TreeCpu::read(pid).unwrap().running.get(&child) > Some(&BUSY_NANOS);
        assert!(Interrupt::never().wait_until(60.0, || Ok(is_busy())).unwrap());
        assert!(TreeCpu::read(pid).unwrap().cores_since(&before) > 0.0);
        kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
        let has_ended = || TreeCpu::read(pid).unwrap().ended > BUSY_NANOS / 2;
        assert!(Interrupt::never().wait_until(60.0, || Ok(has_ended())).unwrap());
        assert!(TreeCpu::read(pid).unwrap().cores_since(&before) > 0.0);
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}

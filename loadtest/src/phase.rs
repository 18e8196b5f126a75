//! Control of a load thread by the main thread: when the measured window starts and ends.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    clock::{Moment, seconds_between},
    error::{Error, Result},
};

/// Longest sleep between two checks of the interrupt flag.
const SLICE: Duration = Duration::from_millis(20);

/// What a load thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connect and run without counting.
    Warm,
    /// Count.
    Measure,
    /// The window is over: keep the counts, and leave the connections open so that neither side
    /// notices an end.
    Counted,
    /// Close everything and return the counts.
    Stop,
}

/// Shared between the main thread and one load thread.
#[derive(Debug, Default)]
pub(crate) struct Control {
    phase: AtomicU8,
    ready: AtomicUsize,
    counted: AtomicBool,
    /// How often all connections have been told to reconnect.
    generation: AtomicUsize,
    /// Whether the odd connections are not read.
    stalled: AtomicBool,
    /// The last generation in which every connection had a price, and the seconds until then.
    settled: Mutex<Option<(usize, f64)>>,
}

impl Control {
    /// A control in [`Phase::Warm`].
    #[must_use]
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The current phase.
    #[must_use]
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Warm,
            1 => Phase::Measure,
            2 => Phase::Counted,
            _ => Phase::Stop,
        }
    }

    /// Changes the phase. Several windows may follow each other.
    pub(crate) fn set(&self, phase: Phase) {
        if phase == Phase::Measure {
            self.counted.store(false, Ordering::Relaxed);
        }
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Reports how many connections are usable.
    pub(crate) fn set_ready(&self, connections: usize) {
        self.ready.store(connections, Ordering::Relaxed);
    }

    /// Reports that the window has been closed.
    pub(crate) fn set_counted(&self) {
        self.counted.store(true, Ordering::Relaxed);
    }

    /// Whether the window has been closed.
    #[must_use]
    pub(crate) fn has_counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    /// Makes all connections reconnect at once; returns the generation to pass to [`Self::settled`].
    pub(crate) fn reconnect(&self) -> usize {
        // The count of the old connections is void.
        self.ready.store(0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The current generation of connections.
    #[must_use]
    pub(crate) fn generation(&self) -> usize {
        self.generation.load(Ordering::Relaxed)
    }

    /// Seconds from the disconnect until each connection of this generation had a price.
    #[must_use]
    pub(crate) fn settled(&self, generation: usize) -> Option<f64> {
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.filter(|(of, _)| *of == generation).map(|(_, seconds)| seconds)
    }

    /// Reports that every connection of a generation has a price.
    pub(crate) fn set_settled(&self, generation: usize, start: Moment, end: Moment) {
        let settled = Some((generation, seconds_between(start, end)));
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = settled;
    }

    /// Sets whether the odd connections are read.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Whether the odd connections are not read.
    #[must_use]
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// How many connections are usable.
    #[must_use]
    pub(crate) fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }
}

/// Stops a load thread when dropped, also on an early error.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub Arc<Control>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set(Phase::Stop);
    }
}

/// Set by Ctrl-C.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT and SIGTERM set the flag instead of ending the process, so that everything
    /// started is also stopped.
    ///
    /// # Errors
    /// [`Error::Io`] when the handler cannot be installed.
    pub(crate) fn install() -> Result<Self> {
        use crate::error::Context;
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("signal handler")?;
        }
        Ok(Self(flag))
    }

    /// A flag that no signal sets.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn never() -> Self {
        Self(Arc::default())
    }

    /// Fails once Ctrl-C was pressed.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Sleeps; Ctrl-C ends the sleep early.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn sleep(&self, seconds: f64) -> Result<()> {
        let start = Moment::now();
        loop {
            self.check()?;
            let left = seconds - seconds_between(start, Moment::now());
            if left <= 0.0 {
                return Ok(());
            }
            thread::sleep(SLICE.min(Duration::from_secs_f64(left)));
        }
    }

    /// Sleeps until `done` returns `true`; returns `false` after `seconds`.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what `done` returns.
    pub(crate) fn wait_until(
        &self,
        seconds: f64,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        let start = Moment::now();
        while seconds_between(start, Moment::now()) < seconds {
            self.check()?;
            if done()? {
                return Ok(true);
            }
            thread::sleep(SLICE);
        }
        done()
    }
}

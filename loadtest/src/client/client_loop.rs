//! The loop that opens the connections and reads them.

use std::sync::mpsc;

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
    io::Errno,
};

use super::connection::{Connection, Look, watch};
use super::counts::Counts;
use super::{ClientOptions, ClientReport};
use crate::{
    clock::{Moment, seconds_between, thread_cpu_nanos},
    cpu,
    error::{Context, Result},
    frames::FrameParser,
    phase::{Control, Phase},
};

/// Bytes per read: far more than a socket receives between two polls, so that one read empties it.
const READ_BYTES: usize = 64 * 1024;
/// Events per poll.
const EVENTS: usize = 1024;
/// Longest sleep without an event, so that a phase change is noticed in time.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Connections opened between two polls of the open ones.
const CONNECT_BATCH: usize = 32;

/// The loop of the client thread.
pub(super) struct ClientLoop {
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    parser: FrameParser,
    buffer: Vec<u8>,
    counts: Counts,
    windows: mpsc::Sender<ClientReport>,
    ready: usize,
    priced: usize,
    closed: u64,
    all_prices: u64,
    /// How often all connections were replaced, and when last.
    generation: usize,
    reconnected: Moment,
    stalled: bool,
}

impl ClientLoop {
    pub(super) fn new(
        options: &ClientOptions,
        windows: mpsc::Sender<ClientReport>,
    ) -> Result<Self> {
        cpu::pin(options.core, "client-core")?;
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?,
            connections: Vec::with_capacity(options.connections),
            parser: FrameParser::default(),
            buffer: vec![0; READ_BYTES],
            counts: Counts::start(options.ordered)?,
            windows,
            ready: 0,
            priced: 0,
            closed: 0,
            all_prices: 0,
            generation: 0,
            reconnected: Moment::now(),
            stalled: false,
        })
    }

    pub(super) fn run(
        mut self,
        options: &ClientOptions,
        control: &Control,
    ) -> Result<ClientReport> {
        let mut events = Vec::with_capacity(EVENTS);
        let (mut measuring, mut counted) = (false, None);
        let pause = if options.spin { Timespec::default() } else { IDLE };
        loop {
            match control.phase() {
                Phase::Measure if !measuring => {
                    measuring = true;
                    self.start_counts(options)?;
                }
                Phase::Counted if measuring => {
                    measuring = false;
                    let report = self.report();
                    // Callers that do not read single windows get the last one from the join.
                    let _ = self.windows.send(report.clone());
                    counted = Some(report);
                    control.set_counted();
                }
                Phase::Warm | Phase::Measure | Phase::Counted => {}
                Phase::Stop => return Ok(counted.unwrap_or_else(|| self.report())),
            }
            self.obey(control)?;
            if self.connections.len() < options.connections {
                self.connect_some(options)?;
            }
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&pause)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in events.drain(..) {
                let gone =
                    epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                // The kernel's record is packed: fields are copied, not borrowed.
                let (data, flags) = (event.data, event.flags);
                self.look(data.u64(), flags.intersects(gone))?;
            }
            self.tell(options, control);
        }
    }

    fn start_counts(&mut self, options: &ClientOptions) -> Result<()> {
        self.all_prices += self.counts.prices;
        self.counts = Counts::start(options.ordered)?;
        for connection in self.connections.iter_mut().flatten() {
            connection.prices = 0;
        }
        Ok(())
    }

    /// Applies the settings of [`Control`] other than the phase.
    fn obey(&mut self, control: &Control) -> Result<()> {
        let generation = control.generation();
        if generation != self.generation {
            self.generation = generation;
            self.reconnected = Moment::now();
            self.connections.clear();
            (self.ready, self.priced) = (0, 0);
        }
        let stalled = control.is_stalled();
        if stalled != self.stalled {
            self.stalled = stalled;
            let odd = self.connections.iter().enumerate().skip(1).step_by(2);
            for (index, connection) in odd.filter_map(|(i, c)| Some((i, c.as_ref()?))) {
                if stalled {
                    epoll::delete(&self.epoll, &connection.socket).context("epoll_ctl")?;
                } else {
                    watch(&self.epoll, &connection.socket, index)?;
                }
            }
        }
        Ok(())
    }

    fn tell(&self, options: &ClientOptions, control: &Control) {
        control.set_ready(self.ready);
        if self.priced == options.connections && control.settled(self.generation).is_none() {
            control.set_settled(self.generation, self.reconnected, Moment::now());
        }
    }

    /// Opens the next few connections, if any are missing.
    fn connect_some(&mut self, options: &ClientOptions) -> Result<()> {
        let missing = options.connections - self.connections.len().min(options.connections);
        for _ in 0..missing.min(CONNECT_BATCH) {
            let index = self.connections.len();
            let connection = Connection::open(options, index)?;
            watch(&self.epoll, &connection.socket, index)?;
            self.connections.push(Some(connection));
        }
        Ok(())
    }

    /// Reads one connection; with `to_the_end` if the peer has closed it.
    fn look(&mut self, index: u64, to_the_end: bool) -> Result<()> {
        let Some(slot) = usize::try_from(index).ok().and_then(|at| self.connections.get_mut(at))
        else {
            return Ok(());
        };
        let Some(connection) = slot else { return Ok(()) };
        let (was_ready, was_priced) = (connection.ready, connection.priced);
        let look = connection.read(&self.parser, &mut self.buffer, &mut self.counts, to_the_end)?;
        if connection.ready && !was_ready {
            self.ready += 1;
        }
        if connection.priced && !was_priced {
            self.priced += 1;
        }
        if matches!(look, Look::Closed) {
            self.closed += 1;
            self.ready -= usize::from(connection.ready);
            self.priced -= usize::from(connection.priced);
            *slot = None;
        }
        Ok(())
    }

    fn report(&self) -> ClientReport {
        let nanos = Moment::now().nanos_since(self.counts.started).max(1);
        let cpu_nanos = thread_cpu_nanos() - self.counts.cpu_nanos_at_start;
        let prices = || self.connections.iter().map(|c| c.as_ref().map_or(0, |c| c.prices));
        ClientReport {
            seconds: seconds_between(self.counts.started, Moment::now()),
            prices: self.counts.prices,
            other_blocks: self.counts.other_blocks,
            gaps: self.counts.gaps,
            all_prices: self.all_prices + self.counts.prices,
            reads: self.counts.reads,
            bytes: self.counts.bytes,
            cpu_share: cpu_nanos as f64 / nanos as f64,
            prices_per_connection: (prices().min().unwrap_or(0), prices().max().unwrap_or(0)),
            out_of_order: self.counts.out_of_order,
            closed: self.closed,
            ages: self.counts.ages.clone(),
        }
    }
}

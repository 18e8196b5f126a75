//! Requests for comparisons, and their reports on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::Deserialize;

use super::report::DayReport;
use crate::exchange::DayPart;
use crate::types::{TimestampMicros, TradeDate};

/// Requests that wait.
const QUEUE_CAPACITY: usize = 4;

/// A request for a comparison.
pub(super) struct Request {
    pub(super) date: TradeDate,
    /// The list, if an operator hands it over.
    pub(super) list: Option<DayPart>,
}

/// How far the comparison of a day is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DayState {
    /// Nobody has asked for it.
    Unknown,
    /// It goes on.
    Running,
    /// It could not be done, and why. There may be an earlier report.
    Failed(String),
    /// The report: JSON.
    Done(Vec<u8>),
}

/// The comparisons at the ends of days. Clones share them.
#[derive(Debug, Clone)]
pub struct DayEnds {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    directory: PathBuf,
    unfinished: Mutex<BTreeMap<TradeDate, Unfinished>>,
}

/// What is known of a day beside its report.
#[derive(Debug, Default)]
struct Unfinished {
    /// Comparisons that wait or are under way.
    wanted: usize,
    /// Why the last one failed.
    failed: Option<String>,
}

/// What of a report says whether another one is due.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    compared_at: TimestampMicros,
}

impl DayEnds {
    /// Comparisons whose reports are in a directory, and the requests for the thread.
    pub(super) fn new(directory: PathBuf) -> (Self, Receiver<Request>, Arc<Shared>) {
        let (requests, wanted) = bounded(QUEUE_CAPACITY);
        let shared = Arc::new(Shared { directory, unfinished: Mutex::default() });
        (Self { requests, shared: Arc::clone(&shared) }, wanted, shared)
    }

    /// Asks for a comparison; with a list, of that instead of the exchange's. `false`: too many wait.
    pub fn request(&self, date: TradeDate, list: Option<DayPart>) -> bool {
        self.shared.begin(date);
        match self.requests.try_send(Request { date, list }) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.lock().entry(date).or_default().wanted -= 1;
                false
            }
        }
    }

    /// How far the comparison of a day is.
    ///
    /// # Errors
    /// The report cannot be read.
    pub fn state(&self, date: TradeDate) -> io::Result<DayState> {
        let unfinished = {
            let unfinished = self.shared.lock();
            unfinished.get(&date).map(|day| (day.wanted > 0, day.failed.clone()))
        };
        match unfinished {
            Some((true, _)) => Ok(DayState::Running),
            Some((false, Some(why))) => Ok(DayState::Failed(why)),
            Some((false, None)) | None => match fs::read(self.shared.path(date, "json")) {
                Ok(report) => Ok(DayState::Done(report)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DayState::Unknown),
                Err(error) => Err(error),
            },
        }
    }

    /// The report of a day as text; `None`: there is none.
    ///
    /// # Errors
    /// The report cannot be read.
    pub fn text(&self, date: TradeDate) -> io::Result<Option<String>> {
        match fs::read_to_string(self.shared.path(date, "txt")) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TradeDate, Unfinished>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, date: TradeDate, kind: &str) -> PathBuf {
        self.directory.join(format!("{date}.{kind}"))
    }

    /// Notes that a comparison of a day is wanted.
    pub(super) fn begin(&self, date: TradeDate) {
        self.lock().entry(date).or_default().wanted += 1;
    }

    /// Notes that a comparison of a day has ended, and why without a report.
    pub(super) fn end(&self, date: TradeDate, failed: Option<String>) {
        let mut unfinished = self.lock();
        let day = unfinished.entry(date).or_default();
        assert!(day.wanted > 0, "a comparison ends once it has begun");
        day.wanted -= 1;
        day.failed = failed;
    }

    /// When the list of a day was last compared, by the exchange's clock.
    pub(super) fn compared_at(&self, date: TradeDate) -> Option<TimestampMicros> {
        let report = fs::read(self.path(date, "json")).ok()?;
        Some(serde_json::from_slice::<Head>(&report).ok()?.compared_at)
    }

    /// Writes a report for programs and for people.
    pub(super) fn write(&self, report: &DayReport) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let date = report.trade_date;
        self.replace(date, "txt", report.text().as_bytes())?;
        self.replace(date, "json", &serde_json::to_vec_pretty(report)?)
    }

    fn replace(&self, date: TradeDate, kind: &str, content: &[u8]) -> io::Result<()> {
        let (path, new) = (self.path(date, kind), self.path(date, "new"));
        let mut file = fs::File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_running_until_all_of_its_comparisons_have_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (ends, wanted, shared) = DayEnds::new(folder.path().join("day-ends"));
        let date: TradeDate = "2026-11-27".parse().unwrap();
        assert_eq!(ends.state(date).unwrap(), DayState::Unknown);
        shared.begin(date);
        assert!(ends.request(date, None));
        shared.end(date, None);
        assert_eq!(
            ends.state(date).unwrap(),
            DayState::Running,
            "the one that was asked for waits"
        );
        assert!(wanted.try_recv().is_ok());
        shared.end(date, Some("no".to_owned()));
        assert_eq!(ends.state(date).unwrap(), DayState::Failed("no".to_owned()));
        // What cannot wait is refused, and leaves all as it was.
        for _ in 0..QUEUE_CAPACITY {
            assert!(ends.request(date, None));
        }
        assert!(!ends.request(date, None));
        (0..QUEUE_CAPACITY).for_each(|_| shared.end(date, None));
        assert_eq!(ends.state(date).unwrap(), DayState::Unknown);
    }
}

//! The operators' kill switch: refuses new orders of everybody, of some users or in some symbols
//! until it is lifted. Cancels and reads go on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::engine::HaltScope;
use crate::types::{Symbol, TimestampMicros, UserId};

/// Most users halted one by one. Beyond that, halt everybody.
pub const MAX_HALTED_USERS: usize = 1_000;
/// Most symbols halted one by one.
pub const MAX_HALTED_SYMBOLS: usize = 1_000;
/// Longest operator name and longest reason, in bytes.
pub const MAX_HALT_TEXT_BYTES: usize = 200;
/// Longest file that is read: both lists full of the longest names, as JSON.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The halts in force: whose new orders are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Halts {
    /// Everybody's orders.
    pub all: bool,
    /// The orders of these users.
    #[serde(with = "user_names")]
    pub users: BTreeSet<UserId>,
    /// The orders in these symbols.
    pub symbols: BTreeSet<Symbol>,
    /// Who made the last change, as given.
    pub by: Option<String>,
    /// The reason for it, as given.
    pub reason: Option<String>,
    /// Time of the last change; `None` before the first.
    pub changed_at: Option<TimestampMicros>,
    /// The last change of each part.
    #[serde(default)]
    pub last_changes: LastChanges,
}

/// The last change of each part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LastChanges {
    /// Of the halt of everybody.
    pub all: LastChange,
    /// Of the users.
    pub users: LastChange,
    /// Of the symbols.
    pub symbols: LastChange,
}

/// Who made a change, and why, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LastChange {
    /// The operator's name, as given.
    pub by: Option<String>,
    /// The operator's reason, as given.
    pub reason: Option<String>,
    /// Wall-clock time of the change.
    pub changed_at: Option<TimestampMicros>,
}

impl LastChange {
    /// A change as it was given: nobody is named for it who did not make it.
    fn of(change: &HaltChange, now: TimestampMicros) -> Self {
        let HaltChange { by, reason, .. } = change;
        Self { by: by.clone(), reason: reason.clone(), changed_at: Some(now) }
    }
}

/// A change by an operator. Parts that are not given stay as they are, so that nobody lifts a halt
/// by omission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HaltChange {
    /// Whether everybody is halted.
    pub all: Option<bool>,
    /// The complete list of users to halt one by one.
    pub users: Option<BTreeSet<UserId>>,
    /// The complete list of symbols to halt one by one.
    pub symbols: Option<BTreeSet<Symbol>>,
    /// The operator's name, as given.
    pub by: Option<String>,
    /// The operator's reason, as given.
    pub reason: Option<String>,
}

/// Too many users or symbols are to be halted one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{given} {what} are too many: at most {allowed} are allowed; halt all instead")]
pub struct TooManyHalts {
    /// `users` or `symbols`.
    pub what: &'static str,
    /// How many were given.
    pub given: usize,
    /// How many are allowed.
    pub allowed: usize,
}

/// Why a start cannot restore the halts of the previous run.
#[derive(Debug, thiserror::Error)]
pub enum KillSwitchError {
    /// The file cannot be read.
    #[error("the kill switch's file {path} cannot be read", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The contents are invalid.
    #[error(
        "the kill switch's file {path} cannot be read: {problem}; fix it, or remove it to lift every halt",
        path = path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// It halts too many users or symbols one by one.
    #[error(transparent)]
    TooMany(#[from] TooManyHalts),
}

/// The kill switch of the process, usable from any thread.
#[derive(Debug, Clone)]
pub struct KillSwitch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    halts: ArcSwap<Halts>,
    /// Why a restart may not find the halts: the file could not be written.
    unwritten: ArcSwapOption<String>,
    path: PathBuf,
    /// Held while a change is written, so that changes do not overtake each other.
    writing: Mutex<()>,
}

impl KillSwitch {
    /// Restores the halts from the file; nothing is halted if there is none.
    ///
    /// # Errors
    /// The file cannot be read. Whether orders may be taken is then unknown, so none are.
    pub fn open(path: PathBuf) -> Result<Self, KillSwitchError> {
        let halts = read(&path)?;
        if halts.any() {
            let (users, symbols) = (halts.user_list(), halts.symbol_list());
            let (by, reason) = (halts.by.as_deref(), halts.reason.as_deref());
            let all = halts.all;
            tracing::warn!(all, %users, %symbols, by, reason, "the kill switch is on");
        }
        Ok(Self::with(halts, path))
    }

    /// A switch with these halts, whose changes go to the file.
    pub(crate) fn with(halts: Halts, path: PathBuf) -> Self {
        let halts = ArcSwap::from_pointee(halts);
        let unwritten = ArcSwapOption::empty();
        Self(Arc::new(Inner { halts, unwritten, path, writing: Mutex::new(()) }))
    }

    /// The halts in force.
    pub fn halts(&self) -> Arc<Halts> {
        self.0.halts.load_full()
    }

    /// The scope of the halt that applies to a new order of this user in this symbol, if any.
    pub fn halted(&self, user: &UserId, symbol: Symbol) -> Option<HaltScope> {
        let halts = self.0.halts.load();
        if halts.all {
            Some(HaltScope::All)
        } else if halts.users.contains(user) {
            Some(HaltScope::User)
        } else if halts.symbols.contains(&symbol) {
            Some(HaltScope::Symbol)
        } else {
            None
        }
    }

    /// Why a restart may not find the halts in force, if so: the file could not be written. The
    /// next change that is written clears this.
    pub fn unwritten(&self) -> Option<Arc<String>> {
        self.0.unwritten.load_full()
    }

    /// Applies a change. It is in force at once: an emergency does not wait for a disk that is full
    /// or hangs. When this returns it is durable too, or [`unwritten`](Self::unwritten) says why
    /// not. Blocks on the disk.
    ///
    /// # Errors
    /// The change exceeds a limit; nothing has changed.
    pub fn change(
        &self,
        change: HaltChange,
        now: TimestampMicros,
    ) -> Result<Arc<Halts>, TooManyHalts> {
        // A thread that panicked here has changed nothing.
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.halts();
        let halts = before.changed(change, now);
        halts.check()?;
        let halts = Arc::new(halts);
        self.put_in_force(Arc::clone(&halts));
        let written = write(&self.0.path, &halts);
        let unwritten = written.err().map(|error| Arc::new(not_durable(&self.0.path, &error)));
        self.0.unwritten.store(unwritten);
        Ok(halts)
    }

    /// Replaces the halts in force, not those in the file.
    pub(crate) fn put_in_force(&self, halts: Arc<Halts>) {
        self.0.halts.store(halts);
    }
}

impl Halts {
    /// Whether anything is halted.
    pub fn any(&self) -> bool {
        self.count() > 0
    }

    /// The number of halts; that of everybody counts as one.
    pub fn count(&self) -> usize {
        usize::from(self.all) + self.users.len() + self.symbols.len()
    }

    /// The users halted one by one, for logs.
    pub fn user_list(&self) -> String {
        self.users.iter().map(UserId::as_str).collect::<Vec<_>>().join(",")
    }

    /// The symbols halted one by one, for logs.
    pub fn symbol_list(&self) -> String {
        self.symbols.iter().map(Symbol::as_str).collect::<Vec<_>>().join(",")
    }

    /// Applies a change.
    fn changed(&self, change: HaltChange, now: TimestampMicros) -> Self {
        let LastChanges { all, users, symbols } = &self.last_changes;
        let of = |before: &LastChange, is_named: bool| {
            if is_named { LastChange::of(&change, now) } else { before.clone() }
        };
        let last_changes = LastChanges {
            all: of(all, change.all.is_some()),
            users: of(users, change.users.is_some()),
            symbols: of(symbols, change.symbols.is_some()),
        };
        let LastChange { by, reason, changed_at } = LastChange::of(&change, now);
        Self {
            all: change.all.unwrap_or(self.all),
            users: change.users.unwrap_or_else(|| self.users.clone()),
            symbols: change.symbols.unwrap_or_else(|| self.symbols.clone()),
            by,
            reason,
            changed_at,
            last_changes,
        }
    }

    fn check(&self) -> Result<(), TooManyHalts> {
        let lists = [
            ("users", self.users.len(), MAX_HALTED_USERS),
            ("symbols", self.symbols.len(), MAX_HALTED_SYMBOLS),
        ];
        for (what, given, allowed) in lists {
            if given > allowed {
                return Err(TooManyHalts { what, given, allowed });
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Halts, KillSwitchError> {
    let unusable = |source| KillSwitchError::File { path: path.to_owned(), source };
    let content = |problem| KillSwitchError::Content { path: path.to_owned(), problem };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Halts::default()),
        Err(error) => return Err(unusable(error)),
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(content(format!("it has {} bytes", found.len())));
        }
        Ok(_) => {}
    }
    let text = fs::read(path).map_err(unusable)?;
    serde_json::from_slice(&text).map_err(|error| content(unreadable(&error)))
}

/// Describes the problem of a file that this program did not write.
fn unreadable(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Eof if line <= 1 && column == 0 => "it is empty".to_owned(),
        Category::Eof => format!("it ends early, in line {line}"),
        Category::Data => {
            format!("a field is missing or has the wrong type in line {line}, column {column}")
        }
        Category::Syntax | Category::Io => {
            format!("it is not valid JSON in line {line}, column {column}")
        }
    }
}

/// Why a change in force may be lost by a restart, and what to do about it.
fn not_durable(path: &Path, error: &io::Error) -> String {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let remedy = if is_full { "free space on the disk" } else { "fix the cause" };
    let path = path.display();
    format!(
        "The change is in force, but may not survive a restart: {path} cannot be written ({error}). \
         To make it durable, {remedy} and send the same request again."
    )
}

/// Atomic and durable: a new file replaces the old one, and the directory is synced.
fn write(path: &Path, halts: &Halts) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let text = serde_json::to_vec_pretty(halts)?;
    let drafted = File::create(&draft).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    if let Err(error) = drafted {
        // A partial draft is useless and takes up space.
        let _gone = fs::remove_file(&draft);
        return Err(error);
    }
    fs::rename(&draft, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Users as their names.
mod user_names {
    use super::{BTreeSet, UserId};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        users: &BTreeSet<UserId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(users.iter().map(UserId::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<UserId>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().map(|name| UserId::new(name).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).unwrap()
    }

    const NOW: TimestampMicros = TimestampMicros::new(7);

    #[test]
    fn halts_are_persisted_and_only_the_given_parts_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kill-switch.json");
        let switch = KillSwitch::open(path.clone()).unwrap();
        assert_eq!(switch.halted(&user("bob"), symbol("IBM")), None);
        let users = Some([user("bob")].into());
        switch.change(HaltChange { users, ..HaltChange::default() }, NOW).unwrap();
        let symbols = Some([symbol("SPY")].into());
        let by = Some("carol".to_owned());
        let halts =
            switch.change(HaltChange { symbols, by, ..HaltChange::default() }, NOW).unwrap();
        assert_eq!(halts.users, [user("bob")].into(), "a part that is not given is not lifted");

        let switch = KillSwitch::open(path.clone()).unwrap();
        assert_eq!(switch.halts(), halts, "over a restart");
        assert_eq!(switch.halted(&user("bob"), symbol("IBM")), Some(HaltScope::User));
        assert_eq!(switch.halted(&user("alice"), symbol("SPY")), Some(HaltScope::Symbol));
        assert_eq!(switch.halted(&user("alice"), symbol("IBM")), None);
        switch.change(HaltChange { all: Some(true), ..HaltChange::default() }, NOW).unwrap();
        assert_eq!(switch.halted(&user("alice"), symbol("IBM")), Some(HaltScope::All));
        let lifted = HaltChange {
            all: Some(false),
            users: Some(BTreeSet::new()),
            symbols: Some(BTreeSet::new()),
            ..HaltChange::default()
        };
        assert!(!switch.change(lifted, NOW).unwrap().any());
        assert!(!KillSwitch::open(path).unwrap().halts().any());
    }

    #[test]
    fn operator_and_reason_of_unchanged_parts_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kill-switch.json");
        let switch = KillSwitch::open(path.clone()).unwrap();
        let said = |by: &str, reason: &str| HaltChange {
            by: Some(by.to_owned()),
            reason: Some(reason.to_owned()),
            ..HaltChange::default()
        };
        let users = Some([user("bob")].into());
        let runaway = HaltChange { users, ..said("carol", "a runaway program") };
        let carols = switch.change(runaway, NOW).unwrap().last_changes.users.clone();
        let symbols = Some([symbol("SPY")].into());
        let unsaid = HaltChange { symbols: symbols.clone(), ..HaltChange::default() };
        let halts = switch.change(unsaid, NOW).unwrap();
        assert_eq!((&halts.by, &halts.reason), (&None, &None), "no operator was given");
        assert_eq!((&halts.last_changes.symbols.by, &halts.last_changes.users), (&None, &carols));
        let later = TimestampMicros::new(8);
        let news = HaltChange { symbols, ..said("dave", "news are to come") };
        let halts = switch.change(news, later).unwrap();
        assert_eq!(halts.by.as_deref(), Some("dave"));
        assert_eq!(halts.last_changes.users, carols);
        assert_eq!(halts.last_changes.symbols.reason.as_deref(), Some("news are to come"));
        assert_eq!(halts.last_changes.symbols.changed_at, Some(later));
        assert_eq!(KillSwitch::open(path).unwrap().halts(), halts, "over a restart");
        let lifted = HaltChange { users: Some(BTreeSet::new()), ..HaltChange::default() };
        let lifted = switch.change(lifted, later).unwrap();
        let unnamed = LastChange { by: None, reason: None, changed_at: Some(later) };
        assert_eq!(lifted.last_changes.users, unnamed, "carol did not lift it");
    }

    #[test]
    fn a_file_of_an_older_version_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kill-switch.json");
        let text =
            r#"{"all":true,"users":[],"symbols":["SPY"],"by":"carol","reason":null,"changedAt":7}"#;
        fs::write(&path, text).unwrap();
        let halts = KillSwitch::open(path).unwrap().halts();
        assert!(halts.all && halts.last_changes == LastChanges::default());
    }

    #[test]
    fn a_halt_that_cannot_be_written_is_in_force_and_reported() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let path = missing.join("kill-switch.json");
        let switch = KillSwitch::open(path.clone()).unwrap();
        let all = |all| HaltChange { all: Some(all), ..HaltChange::default() };
        switch.change(all(true), NOW).unwrap();
        assert_eq!(switch.halted(&user("bob"), symbol("IBM")), Some(HaltScope::All));
        let told = switch.unwritten().unwrap();
        assert!(told.contains("kill-switch.json") && told.contains("restart"), "{told}");
        fs::create_dir(missing).unwrap();
        switch.change(all(true), NOW).unwrap();
        assert_eq!(switch.unwritten(), None);
        assert!(KillSwitch::open(path).unwrap().halts().all);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(not_durable(Path::new("x"), &full).contains("free space on the disk"));
    }

    #[test]
    fn an_invalid_file_is_an_error_with_its_problem() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kill-switch.json");
        for (broken, said) in [
            ("", "empty"),
            ("{", "ends early, in line 1"),
            (r#"{"all":"yes"}"#, "has the wrong type in line 1"),
            (r#"{"all":true}x"#, "in line 1"),
            ("{]", "not valid JSON in line 1, column 2"),
        ] {
            fs::write(&path, broken).unwrap();
            let error = KillSwitch::open(path.clone()).unwrap_err().to_string();
            assert!(error.contains("kill-switch.json") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn lists_are_limited_and_the_file_has_room_for_full_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kill-switch.json");
        let switch = KillSwitch::open(path.clone()).unwrap();
        let users = |count: usize| {
            let name = |number: usize| user(&format!("{number:064}"));
            Some((0..count).map(name).collect())
        };
        let symbols = Some((0..MAX_HALTED_SYMBOLS).map(|n| symbol(&format!("S{n}"))).collect());
        let full = HaltChange { users: users(MAX_HALTED_USERS), symbols, ..HaltChange::default() };
        switch.change(full, NOW).unwrap();
        assert_eq!(KillSwitch::open(path).unwrap().halts(), switch.halts());
        let more = HaltChange { users: users(MAX_HALTED_USERS + 1), ..HaltChange::default() };
        let error = switch.change(more, NOW).unwrap_err().to_string();
        assert!(error.contains("1001 users") && error.contains("1000"), "{error}");
    }
}

//! Whose new orders are refused, and changes of that by operators.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::types::{Symbol, TimestampMicros, UserId};

/// Most users halted one by one. Beyond that, halt everybody.
pub const MAX_HALTED_USERS: usize = 1_000;
/// Most symbols halted one by one.
pub const MAX_HALTED_SYMBOLS: usize = 1_000;
/// Longest operator name and longest reason, in bytes.
pub const MAX_HALT_TEXT_BYTES: usize = 200;

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

impl LastChange {
    /// A change as it was given: nobody is named for it who did not make it.
    fn of(change: &HaltChange, now: TimestampMicros) -> Self {
        let HaltChange { by, reason, .. } = change;
        Self { by: by.clone(), reason: reason.clone(), changed_at: Some(now) }
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
    pub(super) fn changed(&self, change: HaltChange, now: TimestampMicros) -> Self {
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

    /// What of a change is still to be made that was made at that time, and is applied only now: of
    /// each part the last change counts. `None` if nothing is left of it.
    pub(super) fn not_overtaken(
        &self,
        change: &HaltChange,
        at: TimestampMicros,
    ) -> Option<HaltChange> {
        let LastChanges { all, users, symbols } = &self.last_changes;
        let is_last = |part: &LastChange| part.changed_at.is_none_or(|changed| changed <= at);
        let left = HaltChange {
            all: change.all.filter(|_| is_last(all)),
            users: change.users.clone().filter(|_| is_last(users)),
            symbols: change.symbols.clone().filter(|_| is_last(symbols)),
            by: change.by.clone(),
            reason: change.reason.clone(),
        };
        let is_any = left.all.is_some() || left.users.is_some() || left.symbols.is_some();
        is_any.then_some(left)
    }

    /// These halts and those: whatever either refuses is refused. More than can be halted one by one
    /// halt everybody.
    pub(super) fn joined(&self, others: &Self) -> Self {
        let later =
            |ours: Option<TimestampMicros>, theirs| if theirs > ours { others } else { self };
        let last = later(self.changed_at, others.changed_at);
        let of = |part: fn(&LastChanges) -> &LastChange| {
            let (ours, theirs) = (part(&self.last_changes), part(&others.last_changes));
            part(&later(ours.changed_at, theirs.changed_at).last_changes).clone()
        };
        let joined = Self {
            all: self.all || others.all,
            users: self.users.union(&others.users).cloned().collect(),
            symbols: self.symbols.union(&others.symbols).copied().collect(),
            by: last.by.clone(),
            reason: last.reason.clone(),
            changed_at: last.changed_at,
            last_changes: LastChanges {
                all: of(|parts| &parts.all),
                users: of(|parts| &parts.users),
                symbols: of(|parts| &parts.symbols),
            },
        };
        match joined.check() {
            Ok(()) => joined,
            Err(TooManyHalts { .. }) => Self { all: true, ..self.clone() },
        }
    }

    pub(super) fn check(&self) -> Result<(), TooManyHalts> {
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

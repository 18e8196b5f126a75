//! The register model of an order, and which answers it allows.

/// The status of an order, as in the client contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Status {
    /// Recorded; the exchange has not answered.
    Pending,
    /// The exchange accepted it.
    Submitted,
    /// Some shares are filled.
    PartiallyFilled,
    /// All shares are filled.
    Filled,
    /// Its user asked to cancel it.
    PendingCancel,
    /// It ended with shares left.
    Cancelled,
    /// It was never accepted by the exchange.
    Failed,
}

impl Status {
    /// Whether nothing more is expected to happen.
    pub(crate) const fn is_terminal(self) -> bool {
        matches!(self, Self::Filled | Self::Cancelled | Self::Failed)
    }
}

/// An order as an answer showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Observed {
    /// Increases with every change.
    pub version: u64,
    /// Its status.
    pub status: Status,
    /// Shares filled.
    pub filled_shares: u64,
    /// A hash of all members: each version has one content.
    pub content: u64,
}

/// Optional rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rules {
    /// Executions may be busted: filled shares can decrease and a terminal order can reopen.
    pub busts: bool,
}

/// The known state of an order at one point of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Register {
    /// Whether it was created.
    pub exists: bool,
    /// Whether a cancel was requested.
    pub cancel_asked: bool,
    /// Lowest version that it can have now.
    pub least_version: u64,
    /// As it was last shown.
    pub last: Option<Observed>,
    /// Whether a cancel was confirmed.
    pub cancel_confirmed: bool,
    /// Whether it was shown open again after that, through a fill from before the cancel. From then
    /// on it can be cancelled like any other order.
    pub reopened: bool,
}

/// A moment at which a request takes effect. A create or cancel has two: it is accepted, and its
/// answer is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Create,
    AskCancel,
    Show(Observed),
    ShowAbsent,
    ConfirmCancel,
}

impl Register {
    /// The register after an effect; `None` if the effect is impossible.
    pub(super) fn after(self, effect: Effect, rules: Rules) -> Option<Self> {
        match effect {
            Effect::Create => {
                let least_version = self.least_version.max(1);
                Some(Self { exists: true, least_version, ..self })
            }
            Effect::AskCancel => Some(Self { cancel_asked: true, ..self }),
            Effect::ShowAbsent => (!self.exists).then_some(self),
            Effect::Show(observed) => self.show(observed, rules),
            Effect::ConfirmCancel => self.confirm_cancel(rules),
        }
    }

    fn show(self, observed: Observed, rules: Rules) -> Option<Self> {
        let is_asked = self.cancel_asked || observed.status != Status::PendingCancel;
        let is_new_enough = self.exists && observed.version >= self.least_version;
        let follows = self.last.is_none_or(|last| may_follow(last, observed, rules));
        let filled_before = self.last.map_or(0, |last| last.filled_shares);
        let agrees_with_cancel = !self.cancel_confirmed
            || match observed.status {
                Status::Cancelled => true,
                // A fill from before the cancel may be shown after it, and reopens the order
                // until the exchange repeats that it is cancelled.
                Status::Filled | Status::PartiallyFilled | Status::PendingCancel => {
                    rules.busts || self.reopened || observed.filled_shares > filled_before
                }
                Status::Submitted => rules.busts,
                Status::Pending | Status::Failed => false,
            }
            || self.last == Some(observed);
        let is_open_again = self.cancel_confirmed && observed.filled_shares > filled_before;
        (is_asked && is_new_enough && follows && agrees_with_cancel).then_some(Self {
            least_version: observed.version,
            last: Some(observed),
            reopened: !observed.status.is_terminal() && (self.reopened || is_open_again),
            ..self
        })
    }

    fn confirm_cancel(self, rules: Rules) -> Option<Self> {
        if !self.exists || !self.cancel_asked {
            return None;
        }
        if self.cancel_confirmed && !self.reopened {
            return Some(self);
        }
        // Becoming cancelled is a change, so any version shown as not cancelled is older.
        let is_change = match self.last.map(|last| last.status) {
            Some(Status::Cancelled) => false,
            Some(Status::Failed) => return None,
            Some(Status::Filled) if !rules.busts => return None,
            Some(_) | None => true,
        };
        let least_version = self.least_version + u64::from(is_change);
        Some(Self { least_version, cancel_confirmed: true, reopened: false, ..self })
    }
}

/// Whether `after` can be shown later than `before`.
fn may_follow(before: Observed, after: Observed, rules: Rules) -> bool {
    if before.version == after.version {
        return before == after;
    }
    let has_more = after.filled_shares > before.filled_shares;
    let has_fewer = after.filled_shares < before.filled_shares;
    let status_follows = match before.status {
        Status::Failed => after.status == Status::Failed,
        Status::Cancelled => after.status == Status::Cancelled || has_more || rules.busts,
        Status::Filled => after.status == Status::Filled || rules.busts,
        Status::Pending => true,
        Status::Submitted | Status::PartiallyFilled | Status::PendingCancel => {
            after.status != Status::Pending || rules.busts
        }
    };
    status_follows && (rules.busts || !has_fewer)
}

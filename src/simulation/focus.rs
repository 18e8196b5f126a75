//! Groups of faults that a seed may concentrate on. In an ordinary seed a fault is rare, and
//! something soon makes up for it: a restart, a new session, the next reconciliation. A seed with a
//! focus repeats one group of faults many times, and leaves out what would hide them.

use super::action::Action;
use super::dice::Dice;

/// One seed in this many has a focus.
const ONE_OF: usize = 4;

/// The focus of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    /// None: every fault at its ordinary odds.
    Nothing,
    /// Feed lines cut within the id of their order. No other odd lines: an unreadable line
    /// makes us query all orders, which hides this fault.
    CutLines,
    /// Lines lost beside junk that is about no order.
    LostLines,
    /// Numberings that restart under the same name while records lag.
    Renumbering,
    /// Ids that a restarted exchange reuses.
    ReusedIds,
    /// Records with unreadable parts, of over-filled orders.
    OddRecords,
    /// Lost answers to submits while records lag, and restarts before a record shows the order.
    LateRecords,
    /// Execution lists cut short, in records that say how complete they are.
    CutLists,
    /// Submits that stay in flight past their deadline, while nothing tells of the exchange's
    /// clock, which is as far behind as it may be.
    SlowSubmits,
    /// Lines lost while records lag without saying so: the first record may be from before the gap.
    OldRecords,
    /// Orders that end, leave memory and are reopened, while the store is slow to answer.
    ReopenedOrders,
}

impl Focus {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        if dice.below(ONE_OF) > 0 {
            return Self::Nothing;
        }
        let all = [
            Self::CutLines,
            Self::LostLines,
            Self::Renumbering,
            Self::ReusedIds,
            Self::OddRecords,
            Self::LateRecords,
            Self::CutLists,
            Self::SlowSubmits,
            Self::OldRecords,
            Self::ReopenedOrders,
        ];
        all[dice.below(all.len())]
    }

    /// Whether only lines of orders are worth garbling.
    pub(super) const fn is_about_lines_of_orders(self) -> bool {
        matches!(self, Self::CutLines | Self::LostLines)
    }

    /// The factor on an action's ordinary weight. `None`: as drawn.
    pub(super) const fn weight_factor(self, action: Action) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::CutLines => cut_lines(action),
            Self::LostLines => lost_lines(action),
            Self::Renumbering => renumbering(action),
            Self::ReusedIds => reused_ids(action),
            Self::OddRecords => odd_records(action),
            Self::LateRecords => late_records(action),
            Self::CutLists => cut_lists(action),
            Self::SlowSubmits => slow_submits(action),
            Self::OldRecords => old_records(action),
            Self::ReopenedOrders => reopened_orders(action),
        }
    }
}

const fn cut_lines(action: Action) -> Option<u64> {
    match action {
        Action::FeedGarble => Some(8),
        Action::FeedJunk => Some(0),
        _ => without_repairs(action),
    }
}

const fn lost_lines(action: Action) -> Option<u64> {
    match action {
        Action::FeedGarble => Some(0),
        Action::FeedJunk => Some(16),
        _ => without_repairs(action),
    }
}

const fn old_records(action: Action) -> Option<u64> {
    match action {
        Action::FeedGap => Some(8),
        Action::FeedLines | Action::Slice => Some(16),
        Action::SendControl | Action::Arrive | Action::Answer => Some(16),
        Action::FeedGarble | Action::FeedJunk => Some(0),
        _ => without_repairs(action),
    }
}

/// Leaves out whatever has all orders queried, or repeats lines.
const fn without_repairs(action: Action) -> Option<u64> {
    match action {
        Action::Print => Some(10),
        Action::FeedGap
        | Action::FeedSwap
        | Action::FeedAgain
        | Action::FeedCut
        | Action::FeedForget
        | Action::Webhook
        | Action::Cancel
        | Action::MassCancel
        | Action::Bust
        | Action::ExchangeRestart
        | Action::RenameSession
        | Action::StepExchangeClock
        | Action::SetClock
        | Action::DiskFault
        | Action::Kill
        | Action::PowerLoss
        | Action::Stop => Some(0),
        _ => None,
    }
}

/// The exchange and the process restart again and again, and orders are filled in between.
const fn renumbering(action: Action) -> Option<u64> {
    match action {
        Action::ExchangeRestart => Some(60),
        Action::Kill => Some(6),
        Action::Print => Some(16),
        Action::Start | Action::FeedLines | Action::FeedBeat | Action::Create => Some(8),
        Action::FeedGap => Some(4),
        Action::RenameSession | Action::Bust => Some(0),
        _ => None,
    }
}

/// Orders end, the exchange restarts, and new orders come.
const fn reused_ids(action: Action) -> Option<u64> {
    match action {
        Action::ExchangeRestart => Some(60),
        Action::Print => Some(16),
        Action::Cancel | Action::Create | Action::FeedLines | Action::FeedBeat => Some(8),
        Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are over-filled, and queried for that.
const fn odd_records(action: Action) -> Option<u64> {
    match action {
        Action::LateFill => Some(40),
        Action::Print => Some(10),
        Action::ExchangeRestart | Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are called failed that the exchange accepted, and the process restarts before it knows
/// better.
const fn late_records(action: Action) -> Option<u64> {
    match action {
        Action::Kill => Some(16),
        Action::Create | Action::Start | Action::Arrive | Action::SendControl => Some(8),
        // The feed goes on meanwhile.
        Action::Print | Action::FeedLines => Some(8),
        Action::LateFill | Action::ExchangeRestart | Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are filled and reconciled again and again.
const fn cut_lists(action: Action) -> Option<u64> {
    match action {
        Action::Print | Action::FeedLines | Action::Slice => Some(16),
        Action::SendControl | Action::Arrive | Action::Answer => Some(16),
        Action::Create => Some(8),
        Action::LateFill | Action::ExchangeRestart | Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are queried again and again, and the exchange's clock is never heard.
const fn slow_submits(action: Action) -> Option<u64> {
    match action {
        Action::Create | Action::SendSubmits | Action::SendControl => Some(8),
        Action::Arrive | Action::Answer | Action::Slice | Action::WriteLog => Some(8),
        Action::Wait => Some(1),
        Action::FeedBeat
        | Action::Halt
        | Action::MassCancel
        | Action::DiskFault
        | Action::DiskFull
        | Action::ExchangeRestart
        | Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are filled, leave memory, and lose an execution, while users list them.
const fn reopened_orders(action: Action) -> Option<u64> {
    match action {
        Action::AnswerReads => Some(1),
        Action::Bust | Action::PersistIndex => Some(16),
        Action::List | Action::Print | Action::FeedLines | Action::Find => Some(8),
        Action::SendSubmits | Action::Arrive | Action::Answer => Some(8),
        Action::Slice | Action::WriteLog | Action::FollowLog => Some(8),
        Action::Create => Some(4),
        Action::Cancel
        | Action::MassCancel
        | Action::Halt
        | Action::DiskFault
        | Action::DiskFull
        | Action::Kill
        | Action::PowerLoss
        | Action::Stop
        | Action::ExchangeRestart
        | Action::RenameSession => Some(0),
        _ => None,
    }
}

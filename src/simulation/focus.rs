//! Groups of faults that a seed may be about. In an ordinary seed a fault comes now and then, and
//! something else makes up for it soon: another start, another session, the next comparison. A seed with
//! a focus brings one group of faults many times as often and leaves out what would hide them.

use super::dice::Dice;
use super::profile::Action;

/// One seed of so many has a focus.
const ONE_OF: usize = 4;

/// What a seed is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    /// Nothing: every fault comes at its ordinary odds.
    Nothing,
    /// Lines of the feed that are cut where they name their order. Nothing else is odd: a line of which
    /// nothing is known has all orders asked about, those that another one hides as well.
    CutLines,
    /// Lines that are lost beside something that is none, and is about no order.
    LostLines,
    /// Numberings that begin again under their name while records lag.
    Renumbering,
    /// Ids that the exchange uses again after it has started again.
    UsedIds,
    /// Records with something that nobody can read, of orders that hold more than their size.
    OddRecords,
    /// Answers to submits that are lost while records lag, and starts before they tell of the order.
    LateRecords,
    /// Lists of executions that are cut short, in records that say how complete they are.
    CutLists,
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
            Self::UsedIds,
            Self::OddRecords,
            Self::LateRecords,
            Self::CutLists,
        ];
        all[dice.below(all.len())]
    }

    /// Whether only a line of an order is worth spoiling.
    pub(super) const fn is_about_lines_of_orders(self) -> bool {
        matches!(self, Self::CutLines | Self::LostLines)
    }

    /// How many times its ordinary weight a kind of step has here. `None`: as it was drawn.
    pub(super) const fn times(self, action: Action) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::CutLines => cut_lines(action),
            Self::LostLines => lost_lines(action),
            Self::Renumbering => renumbering(action),
            Self::UsedIds => used_ids(action),
            Self::OddRecords => odd_records(action),
            Self::LateRecords => late_records(action),
            Self::CutLists => cut_lists(action),
        }
    }
}

const fn cut_lines(action: Action) -> Option<u64> {
    match action {
        Action::FeedGarble => Some(8),
        Action::FeedJunk => Some(0),
        _ => what_is_lost_stays(action),
    }
}

const fn lost_lines(action: Action) -> Option<u64> {
    match action {
        Action::FeedGarble => Some(0),
        Action::FeedJunk => Some(16),
        _ => what_is_lost_stays(action),
    }
}

/// Whatever has all orders asked about, or brings a line once more, is left out.
const fn what_is_lost_stays(action: Action) -> Option<u64> {
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

/// The exchange and the process start again and again, and orders are filled in between.
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

/// Orders end, the exchange starts again, and others come.
const fn used_ids(action: Action) -> Option<u64> {
    match action {
        Action::ExchangeRestart => Some(60),
        Action::Print => Some(16),
        Action::Cancel | Action::Create | Action::FeedLines | Action::FeedBeat => Some(8),
        Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are filled beyond their size, and are asked about for that.
const fn odd_records(action: Action) -> Option<u64> {
    match action {
        Action::LateFill => Some(40),
        Action::Print => Some(10),
        Action::ExchangeRestart | Action::RenameSession => Some(0),
        _ => None,
    }
}

/// Orders are called failed that the exchange has taken, and the process starts before it knows better.
const fn late_records(action: Action) -> Option<u64> {
    match action {
        Action::Kill => Some(16),
        Action::Create | Action::Start | Action::Arrive | Action::SendControl => Some(8),
        Action::Print | Action::LateFill | Action::ExchangeRestart | Action::RenameSession => {
            Some(0)
        }
        _ => None,
    }
}

/// Orders are filled and compared with the exchange's record again and again.
const fn cut_lists(action: Action) -> Option<u64> {
    match action {
        Action::Print | Action::FeedLines | Action::Slice => Some(16),
        Action::SendControl | Action::Arrive | Action::Answer => Some(16),
        Action::Create => Some(8),
        Action::LateFill | Action::ExchangeRestart | Action::RenameSession => Some(0),
        _ => None,
    }
}

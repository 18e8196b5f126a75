//! Stretches of time of which not all prints were seen.

use crate::types::{Symbol, TimestampMicros};

/// Most stretches that are kept. Beyond that the two oldest become one.
pub const MAX_STRETCHES: usize = 1_024;

/// A stretch of time, both ends included, of which prints may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// `None`: of any symbol.
    pub symbol: Option<Symbol>,
    pub from: TimestampMicros,
    pub to: TimestampMicros,
}

/// The stretches, by their beginnings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretches(Vec<Stretch>);

impl Stretch {
    /// Whether it concerns a symbol between two times, both included.
    pub fn touches(&self, symbol: Symbol, from: TimestampMicros, to: TimestampMicros) -> bool {
        self.symbol.is_none_or(|of| of == symbol) && self.from <= to && from <= self.to
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.symbol == other.symbol && self.from <= other.to && other.from <= self.to
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            symbol: self.symbol.filter(|symbol| other.symbol == Some(*symbol)),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}

impl Stretches {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Stretch> {
        self.0.iter()
    }

    /// Adds a stretch. Those of the same symbol that it overlaps become one with it.
    pub fn add(&mut self, mut stretch: Stretch) {
        assert!(stretch.from <= stretch.to, "a stretch ends after it begins");
        while let Some(place) = self.0.iter().position(|known| known.overlaps(&stretch)) {
            stretch = self.0.remove(place).with(&stretch);
        }
        let place = self.0.partition_point(|known| known.from <= stretch.from);
        self.0.insert(place, stretch);
        if self.0.len() > MAX_STRETCHES {
            let (oldest, next) = (self.0.remove(0), self.0.remove(0));
            self.0.insert(0, oldest.with(&next));
        }
        assert!(self.0.len() <= MAX_STRETCHES, "stretches are bounded");
    }

    /// Forgets what ended before a time.
    pub fn forget_before(&mut self, time: TimestampMicros) {
        self.0.retain(|stretch| stretch.to >= time);
    }

    /// Forgets a stretch that is no longer missing.
    pub fn remove(&mut self, known: &Stretch) {
        self.0.retain(|stretch| stretch != known);
    }
}

impl FromIterator<Stretch> for Stretches {
    fn from_iter<I: IntoIterator<Item = Stretch>>(stretches: I) -> Self {
        let mut all = Self::default();
        stretches.into_iter().for_each(|stretch| all.add(stretch));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(symbol: Option<&str>, from: u64, to: u64) -> Stretch {
        let symbol = symbol.map(|name| Symbol::new(name).unwrap());
        Stretch { symbol, from: TimestampMicros::new(from), to: TimestampMicros::new(to) }
    }

    #[test]
    fn what_overlaps_becomes_one() {
        let mut all = Stretches::default();
        for (from, to) in [(10, 20), (40, 50), (21, 25), (18, 45)] {
            all.add(stretch(None, from, to));
        }
        all.add(stretch(Some("A"), 12, 13));
        let kept: Vec<_> = all.iter().copied().collect();
        assert_eq!(kept, [stretch(None, 10, 50), stretch(Some("A"), 12, 13)]);
        let (a, b) = (Symbol::new("A").unwrap(), Symbol::new("B").unwrap());
        let at = TimestampMicros::new;
        assert!(kept[1].touches(a, at(13), at(20)) && !kept[1].touches(b, at(13), at(20)));
        assert!(kept[0].touches(b, at(50), at(60)) && !kept[0].touches(b, at(51), at(60)));
        all.forget_before(at(14));
        assert_eq!(all.iter().count(), 1);
        all.remove(&stretch(None, 10, 50));
        assert_eq!(all, Stretches::default());
    }

    #[test]
    fn they_are_bounded_and_nothing_missing_is_forgotten() {
        let count = MAX_STRETCHES as u64 + 10;
        let all: Stretches = (0..count)
            .map(|n| stretch(if n == 0 { Some("A") } else { None }, 10 * n, 10 * n + 1))
            .collect();
        assert_eq!(all.iter().count(), MAX_STRETCHES);
        let first = all.iter().next().unwrap();
        assert_eq!(*first, stretch(None, 0, 101), "of any symbol, as one of them was");
    }
}

use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use strum::VariantArray;

use super::super::feed_line::SkipCause;
use crate::metrics::{Counter, Gauge};

/// How often lines that are skipped for one cause are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of a skipped line that are logged.
const LOGGED_BYTES: usize = 200;

/// Counters that differ by their cause.
type ByCause = Family<[(&'static str, &'static str); 1], Counter>;

/// What the feed thread counts.
#[derive(Debug, Clone, Default)]
pub struct FeedMetrics {
    pub(super) lines: Counter,
    pub(super) unknown_symbols: Counter,
    skipped: ByCause,
    skipped_listings: ByCause,
    pub(super) gaps: Counter,
    pub(super) renumberings: Counter,
    pub(super) other_sessions: Counter,
    pub(super) disconnects: Counter,
    pub(super) order_lines: Counter,
    pub(super) rereads: Counter,
    pub(super) listings_failed: Counter,
    pub(super) symbols: Gauge,
    pub(super) up: Gauge,
}

/// Why a listing is left out, or listed without a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(super) enum ListingCause {
    /// Its name is none: left out.
    Name,
    /// Its previous close is none: listed without it.
    #[strum(serialize = "previous_close")]
    Close,
    /// There is no room for it: left out.
    Full,
}

impl FeedMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("feed_up", "1 while the exchange feed is up", self.up.clone());
        registry.register("feed_symbols", "Symbols that the exchange lists", self.symbols.clone());
        let counters = [
            ("feed_lines", "Lines read from the feed", &self.lines),
            ("feed_unknown_symbols", "Lines of symbols that are not listed", &self.unknown_symbols),
            ("feed_gaps", "Jumps of the sequence", &self.gaps),
            (
                "feed_renumberings",
                "Times that the numbering of the feed began again under the name of its session",
                &self.renumberings,
            ),
            (
                "feed_other_sessions",
                "Connections that were given another session than they asked for",
                &self.other_sessions,
            ),
            ("feed_disconnects", "Connections lost", &self.disconnects),
            ("feed_order_lines", "Lines handed to the orders thread", &self.order_lines),
            ("feed_rereads", "Reconnections because orders were behind", &self.rereads),
            (
                "feed_listings_failed",
                "Times that the list of symbols could not be read",
                &self.listings_failed,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        // Each is shown from the start, at zero.
        for cause in SkipCause::VARIANTS {
            drop(self.skipped.get_or_create(&[("cause", cause.into_str())]));
        }
        for cause in ListingCause::VARIANTS {
            drop(self.skipped_listings.get_or_create(&[("cause", cause.into_str())]));
        }
        registry.register("feed_skipped_lines", "Lines skipped", self.skipped.clone());
        let help = "Entries of the list of symbols that are left out, or listed without a part";
        registry.register("feed_skipped_listings", help, self.skipped_listings.clone());
    }

    pub(super) fn count_skipped(&self, cause: SkipCause) {
        self.skipped.get_or_create(&[("cause", cause.into_str())]).inc();
    }

    pub(super) fn count_listing(&self, cause: ListingCause) {
        self.skipped_listings.get_or_create(&[("cause", cause.into_str())]).inc();
    }

    #[cfg(test)]
    pub(super) fn skipped_by(&self, cause: SkipCause) -> u64 {
        self.skipped.get_or_create(&[("cause", cause.into_str())]).get()
    }
}

/// Logs skipped lines once a spell for each cause: the first at once, then how many more there were.
#[derive(Debug, Default)]
pub(super) struct Spells([Spell; SkipCause::VARIANTS.len()]);

#[derive(Debug, Default, Clone, Copy)]
struct Spell {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Spells {
    pub(super) fn note(&mut self, cause: SkipCause, line: &[u8]) {
        let Some(spell) = self.0.get_mut(cause as usize) else { return };
        if spell.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            spell.unlogged += 1;
            return;
        }
        let shown = String::from_utf8_lossy(line.get(..LOGGED_BYTES).unwrap_or(line));
        tracing::warn!(%cause, line = &*shown, more = spell.unlogged, "a feed line is skipped");
        *spell = Spell { logged: Some(Instant::now()), unlogged: 0 };
    }
}

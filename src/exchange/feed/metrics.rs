//! Counters and rate-limited logging of the feed thread.

use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use strum::VariantArray;

use super::super::feed_line::SkipCause;
use crate::metrics::{Counter, Gauge};

/// Least time between two log lines about lines skipped for the same cause.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of a skipped line in the log.
const LOGGED_BYTES: usize = 200;

/// Counters by cause.
type ByCause = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters and gauges of the feed thread.
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

/// Why an entry of the symbol list is left out, or listed in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(super) enum ListingCause {
    /// Invalid name: left out.
    Name,
    /// Invalid previous close: listed without it.
    #[strum(serialize = "previous_close")]
    Close,
    /// The directory is full: left out.
    Full,
}

impl FeedMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("feed_up", "1 while the exchange feed is up", self.up.clone());
        registry.register("feed_symbols", "Symbols that the exchange lists", self.symbols.clone());
        let counters = [
            ("feed_lines", "Lines read from the feed", &self.lines),
            (
                "feed_unknown_symbols",
                "Trade lines of symbols that are not listed",
                &self.unknown_symbols,
            ),
            ("feed_gaps", "Gaps in the sequence", &self.gaps),
            (
                "feed_renumberings",
                "Restarts of the numbering under the same session",
                &self.renumberings,
            ),
            (
                "feed_other_sessions",
                "Connections that got another session than they requested",
                &self.other_sessions,
            ),
            ("feed_disconnects", "Connections lost", &self.disconnects),
            ("feed_order_lines", "Lines handed to the orders thread", &self.order_lines),
            ("feed_rereads", "Reconnects because the orders queue was full", &self.rereads),
            ("feed_listings_failed", "Failed reads of the list of symbols", &self.listings_failed),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        // Every label is exported from the start, at zero.
        for cause in SkipCause::VARIANTS {
            drop(self.skipped.get_or_create(&[("cause", cause.into_str())]));
        }
        for cause in ListingCause::VARIANTS {
            drop(self.skipped_listings.get_or_create(&[("cause", cause.into_str())]));
        }
        registry.register("feed_skipped_lines", "Lines skipped", self.skipped.clone());
        let help = "Entries of the list of symbols left out, or listed in part";
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

/// Logs skipped lines by cause, rate-limited: the first at once, later ones as a count.
#[derive(Debug, Default)]
pub(super) struct SkipLog([CauseLog; SkipCause::VARIANTS.len()]);

#[derive(Debug, Default, Clone, Copy)]
struct CauseLog {
    logged: Option<Instant>,
    unlogged: u64,
}

impl SkipLog {
    pub(super) fn note(&mut self, cause: SkipCause, line: &[u8]) {
        #[expect(clippy::indexing_slicing, reason = "there is one entry per cause")]
        let log = &mut self.0[cause as usize];
        if log.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            log.unlogged += 1;
            return;
        }
        let shown = String::from_utf8_lossy(line.get(..LOGGED_BYTES).unwrap_or(line));
        tracing::warn!(%cause, line = &*shown, more = log.unlogged, "a feed line is skipped");
        *log = CauseLog { logged: Some(Instant::now()), unlogged: 0 };
    }
}

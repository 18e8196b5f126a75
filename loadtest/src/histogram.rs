//! The growth of a server's histogram between two readings of its metrics.

use crate::metrics::Metrics;

/// The values that were added.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Growth {
    /// Upper bounds, and how many of the values lie below each; the last bound is infinite.
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl Growth {
    /// The growth between two readings of a histogram without labels; `None` if there is none.
    #[must_use]
    pub(crate) fn between(before: &Metrics, after: &Metrics, histogram: &str) -> Option<Self> {
        let earlier = before.buckets(histogram);
        let buckets: Vec<(f64, f64)> = after
            .buckets(histogram)
            .into_iter()
            .enumerate()
            .map(|(at, (bound, count))| {
                (bound, count - earlier.get(at).map_or(0.0, |(_, count)| *count))
            })
            .collect();
        let name = format!("{histogram}_sum");
        let sum = after.get(&name)? - before.get(&name).unwrap_or(0.0);
        let growth = Self { buckets, sum };
        (growth.count() > 0.0).then_some(growth)
    }

    /// Number of values.
    #[must_use]
    pub(crate) fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// Mean of the values.
    #[must_use]
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.count()
    }

    /// The upper bound of the bucket in which a quantile (0 to 1) lies.
    #[must_use]
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = self.count() * share;
        let reached = self.buckets.iter().find(|(_, count)| *count >= wanted);
        reached.map_or(f64::INFINITY, |(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(counts: [u32; 3], sum: f64) -> Metrics {
        let [one, two, all] = counts;
        Metrics::parse(&format!(
            "lag_sum {sum}\nlag_count {all}\nlag_bucket{{le=\"0.1\"}} {one}\n\
             lag_bucket{{le=\"0.2\"}} {two}\nlag_bucket{{le=\"+Inf\"}} {all}\n"
        ))
    }

    #[test]
    fn only_what_came_between_the_readings_counts() {
        // All earlier values were slow.
        let before = metrics([0, 0, 1_000], 5_000.0);
        let after = metrics([98, 99, 1_100], 5_020.0);
        let growth = Growth::between(&before, &after, "lag").unwrap();
        assert_eq!(growth.count(), 100.0);
        assert!((growth.mean() - 0.2).abs() < 1e-9);
        assert_eq!([0.5, 0.98, 0.99].map(|share| growth.quantile(share)), [0.1, 0.1, 0.2]);
        assert_eq!(growth.quantile(0.999), f64::INFINITY);
        assert_eq!(Growth::between(&after, &after, "lag"), None);
    }
}

//! The server's metrics, read from its admin listener in the Prometheus text format.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::{Moment, seconds_between},
    error::{Error, Result},
};

/// Timeout of one reading.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// All values of one reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metrics {
    /// By metric name, summed over all labels.
    sums: BTreeMap<String, f64>,
    /// By name and labels, as printed.
    series: BTreeMap<String, f64>,
}

impl Metrics {
    /// Parses the text format, skipping comments and other lines that are not samples.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for (name, labels, value) in text.lines().filter_map(sample) {
            *metrics.sums.entry(name.to_owned()).or_insert(0.0) += value;
            metrics.series.insert(format!("{name}{labels}"), value);
        }
        metrics
    }

    /// The sum of one metric over all its labels.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.sums.get(name).copied()
    }

    /// One series: a name and, in braces, its labels as the server prints them.
    #[must_use]
    pub(crate) fn series(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The buckets of a histogram without labels: upper bounds and how many values lie below each,
    /// by rising bounds.
    #[must_use]
    pub(crate) fn buckets(&self, histogram: &str) -> Vec<(f64, f64)> {
        let start = format!("{histogram}_bucket{{le=\"");
        let series = self.series.range(start.clone()..);
        let own = series.map_while(|(name, count)| Some((name.strip_prefix(&start)?, *count)));
        let mut buckets: Vec<(f64, f64)> = own
            .filter_map(|(rest, count)| Some((rest.split('"').next()?.parse().ok()?, count)))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        buckets
    }

    /// Growth since `earlier` of every counter (a name that ends in `_total`).
    #[must_use]
    pub(crate) fn growth_since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let counters = self.sums.iter().filter(|(name, _)| name.ends_with("_total"));
        counters
            .map(|(name, value)| (name.clone(), value - earlier.get(name).unwrap_or(0.0)))
            .filter(|(_, growth)| *growth != 0.0)
            .collect()
    }
}

/// Name, labels and value of one sample line: `name{labels} value [timestamp]`.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, values) =
        if rest.starts_with('{') { rest.split_at_checked(label_end(rest)?)? } else { ("", rest) };
    let value = values.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// The end of the labels: the first closing brace outside quotes.
fn label_end(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in labels.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// One reading of the metrics, with its time.
#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    /// The values.
    pub metrics: Metrics,
    /// The middle of the call, for rates.
    pub at: Moment,
}

impl Scrape {
    /// Reads `/metrics` of the admin listener at `admin` (`http://host:port`).
    ///
    /// # Errors
    /// [`Error::Call`] when it cannot be read.
    pub(crate) fn read(admin: &str) -> Result<Self> {
        let start = Moment::now();
        let url = format!("{admin}/metrics");
        let text = get(&url)?;
        let at = start.plus_seconds(seconds_between(start, Moment::now()) / 2.0);
        Ok(Self { metrics: Metrics::parse(&text), at })
    }
}

/// The body of a `GET`.
///
/// # Errors
/// [`Error::Call`] on any failure and on any status other than `2xx`.
pub(crate) fn get(url: &str) -> Result<String> {
    let fail = |source| Error::Call { url: url.to_owned(), source: Box::new(source) };
    let config = ureq::Agent::config_builder().timeout_global(Some(SCRAPE_TIMEOUT)).build();
    let mut answer = ureq::Agent::from(config).get(url).call().map_err(fail)?;
    answer.body_mut().read_to_string().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP longbow_stream_sends_total Sends.
# TYPE longbow_stream_sends_total counter
longbow_stream_sends_total{shard=\"0\"} 1200
longbow_stream_sends_total{shard=\"1\",why=\"a } b \\\" c\"} 34 1732400000
longbow_streams_open 1000
longbow_lag_seconds 1.5e-3
broken{a=\"
alone
# EOF
";

    #[test]
    fn samples_are_summed_over_their_labels() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.get("longbow_stream_sends_total"), Some(1234.0));
        assert_eq!(metrics.get("longbow_streams_open"), Some(1000.0));
        assert_eq!(metrics.get("longbow_lag_seconds"), Some(0.0015));
        assert_eq!(metrics.get("longbow"), None);
        assert_eq!(metrics.series("longbow_stream_sends_total{shard=\"0\"}"), Some(1200.0));
        assert_eq!(metrics.series("longbow_streams_open"), Some(1000.0));
    }

    #[test]
    fn buckets_come_by_their_bounds() {
        let text = "lag_bucket{le=\"10.0\"} 7\nlag_bucket{le=\"9.5\"} 4\nlag_bucket{le=\"+Inf\"} 8\n\
            lag_buckets 3\nlag_count 8\n";
        let buckets = Metrics::parse(text).buckets("lag");
        assert_eq!(buckets, [(9.5, 4.0), (10.0, 7.0), (f64::INFINITY, 8.0)]);
    }

    #[test]
    fn only_counters_that_moved_are_reported() {
        let before = Metrics::parse("a_total 1\nb_total 5\nopen 3\n");
        let after = Metrics::parse("a_total 4\nb_total 5\nopen 9\nnew_total 2\n");
        let growth = after.growth_since(&before);
        assert_eq!(
            growth.into_iter().collect::<Vec<_>>(),
            [("a_total".to_owned(), 3.0), ("new_total".to_owned(), 2.0)]
        );
    }
}

//! Where an order's time goes: the server's stages as shares of the client's mean latency.

use serde_json::{Value, json};

use crate::metrics::Metrics;

/// The server's histograms: one series per stage, and the total of the same orders.
const STAGES: &str = "longbow_orders_stage_seconds";
const WHOLE: &str = "longbow_orders_whole_seconds";
/// The stages, in order.
const NAMES: [&str; 7] =
    ["shard", "queue", "decide", "first_commit", "gather", "exchange", "second_commit"];

/// Mean milliseconds of each stage. They add up to the client's mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shares(Vec<(&'static str, f64)>);

impl Shares {
    /// The stages between two readings of the metrics; `None` if no order was sampled or the server
    /// does not report stages. `client_millis` is the client's mean latency.
    #[must_use]
    pub(crate) fn between(before: &Metrics, after: &Metrics, client_millis: f64) -> Option<Self> {
        let mean = |name: &str, labels: &str| {
            let growth = |kind| {
                let series = format!("{name}_{kind}{labels}");
                Some(after.series(&series)? - before.series(&series).unwrap_or(0.0))
            };
            let count = growth("count").filter(|count| *count > 0.0)?;
            Some(growth("sum")? / count * 1_000.0)
        };
        let mut stages = Vec::new();
        for name in NAMES {
            stages.push((name, mean(STAGES, &format!("{{stage=\"{name}\"}}"))?));
        }
        let whole = mean(WHOLE, "")?;
        let told: f64 = stages.iter().map(|(_, millis)| millis).sum();
        // Back to the shard, then hyper, the kernel and the client's own queue.
        stages.push(("reply", (whole - told).max(0.0)));
        stages.push(("outside", (client_millis - whole.max(told)).max(0.0)));
        Some(Self(stages))
    }

    /// All stages with their share of the whole, in percent.
    fn percents(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let whole: f64 = self.0.iter().map(|(_, millis)| millis).sum();
        self.0.iter().map(move |(name, millis)| (*name, millis / whole * 100.0))
    }

    /// All stages in one line.
    #[must_use]
    pub(crate) fn line(&self) -> String {
        let shown: Vec<String> =
            self.percents().map(|(name, percent)| format!("{name} {percent:.0}")).collect();
        format!("an order's time, % by stage: {}", shown.join(", "))
    }

    /// Milliseconds and percent by stage.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        let stages = self.0.iter().zip(self.percents()).map(|((name, millis), (_, percent))| {
            ((*name).to_owned(), json!({ "meanMillis": millis, "percent": percent }))
        });
        Value::Object(stages.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(orders: u64, seconds: f64) -> Metrics {
        let mut text = format!("{WHOLE}_sum {}\n{WHOLE}_count {orders}\n", seconds * 8.0);
        for name in NAMES {
            text += &format!("{STAGES}_sum{{stage=\"{name}\"}} {seconds}\n");
            text += &format!("{STAGES}_count{{stage=\"{name}\"}} {orders}\n");
        }
        Metrics::parse(&text)
    }

    #[test]
    fn the_stages_add_up_to_what_the_client_waited() {
        // Ten more orders, a tenth of a millisecond in each stage.
        let shares = Shares::between(&metrics(5, 1.0), &metrics(15, 1.001), 1.0).unwrap();
        let all: Vec<_> = shares.percents().map(|(name, share)| (name, share.round())).collect();
        let mut expected: Vec<_> = NAMES.map(|name| (name, 10.0)).into();
        expected.extend([("reply", 10.0), ("outside", 20.0)]);
        assert_eq!(all, expected);
        assert!(shares.line().ends_with("reply 10, outside 20"));
    }

    #[test]
    fn a_server_that_tells_nothing_has_no_shares() {
        assert_eq!(Shares::between(&metrics(5, 1.0), &metrics(5, 1.0), 1.0), None);
        let nothing = Metrics::parse("up 1\n");
        assert_eq!(Shares::between(&nothing, &nothing, 1.0), None);
    }
}

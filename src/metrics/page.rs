//! Renders the page of `GET /metrics`. The registry prints a family once per sub-registry (shard,
//! limit, cause); both text formats require each family once, with all its samples.

use std::fmt::Write;

/// Text formats that scrapers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format, version 0.0.4.
    Prometheus,
}

/// OpenMetrics base units that appear as suffixes of our metric names.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// A metric family: all samples of one name.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    samples: Vec<&'a str>,
}

impl PageFormat {
    /// The `Content-Type` of the page.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Merges the families that the registry printed.
    pub(super) fn page(self, printed: &str) -> String {
        let mut page = String::with_capacity(printed.len());
        for family in families(printed) {
            // Writing to a `String` is infallible.
            let _infallible = self.write(&mut page, &family);
        }
        if self == Self::OpenMetrics {
            page.push_str("# EOF\n");
        }
        page
    }

    fn write(self, page: &mut String, family: &Family<'_>) -> std::fmt::Result {
        let Family { name, help, kind, samples } = family;
        // The Prometheus format names a counter family like its sample.
        let suffix = if self == Self::Prometheus && *kind == "counter" { "_total" } else { "" };
        writeln!(page, "# HELP {name}{suffix} {help}")?;
        writeln!(page, "# TYPE {name}{suffix} {kind}")?;
        if self == Self::OpenMetrics
            && let Some((_, unit)) = name.rsplit_once('_')
            && UNITS.contains(&unit)
        {
            writeln!(page, "# UNIT {name} {unit}")?;
        }
        samples.iter().try_for_each(|sample| writeln!(page, "{sample}"))
    }
}

/// The families, in order of first appearance.
fn families(printed: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut current = 0;
    for line in printed.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            let (name, help) = described.split_once(' ').unwrap_or((described, ""));
            current = families.iter().position(|family| family.name == name).unwrap_or_else(|| {
                families.push(Family { name, help, ..Family::default() });
                families.len() - 1
            });
        } else if let Some(family) = families.get_mut(current) {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                family.kind = typed.split_once(' ').map_or("", |(_, kind)| kind);
            } else if !line.starts_with('#') {
                family.samples.push(line);
            }
        }
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
# HELP a_sends Sends.
# TYPE a_sends counter
a_sends_total{shard=\"0\"} 1
# HELP a_wait_seconds Waits.
# TYPE a_wait_seconds gauge
a_wait_seconds 0.5
# HELP a_sends Sends.
# TYPE a_sends counter
a_sends_total{shard=\"1\"} 2
# EOF
";

    #[test]
    fn a_family_is_printed_once_with_all_its_samples() {
        let page = PageFormat::OpenMetrics.page(PRINTED);
        let expected = "\
# HELP a_sends Sends.
# TYPE a_sends counter
a_sends_total{shard=\"0\"} 1
a_sends_total{shard=\"1\"} 2
# HELP a_wait_seconds Waits.
# TYPE a_wait_seconds gauge
# UNIT a_wait_seconds seconds
a_wait_seconds 0.5
# EOF
";
        assert_eq!(page, expected);
    }

    #[test]
    fn the_prometheus_format_suffixes_counters_and_has_no_eof_line() {
        let page = PageFormat::Prometheus.page(PRINTED);
        let expected = "\
# HELP a_sends_total Sends.
# TYPE a_sends_total counter
a_sends_total{shard=\"0\"} 1
a_sends_total{shard=\"1\"} 2
# HELP a_wait_seconds Waits.
# TYPE a_wait_seconds gauge
a_wait_seconds 0.5
";
        assert_eq!(page, expected);
    }
}

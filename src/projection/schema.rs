//! The schema of the tables, and the one of the analysts' views.

use super::ServersError;

const DEFAULT: &str = "public";
/// The schema of the views beside the default schema; a suffix of its name beside others.
const ANALYSIS: &str = "analysis";
/// Longest name: what Postgres does not truncate (documentation, 4.1.1: identifiers), less the
/// suffix for the schema of the views.
const MAX_BYTES: usize = 63 - 1 - ANALYSIS.len();

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema(String);

impl Default for Schema {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl Schema {
    pub(super) fn new(name: &str) -> Result<Self, ServersError> {
        let is_valid = !name.is_empty()
            && name.len() <= MAX_BYTES
            && !name.contains(['\0', '$'])
            && !name.starts_with("pg_")
            && name != "information_schema";
        if is_valid {
            return Ok(Self(name.to_owned()));
        }
        Err(ServersError::Schema { given: name.to_owned(), most: MAX_BYTES })
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The name as a quoted identifier.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.0)
    }

    /// The name of the schema of the views.
    pub(super) fn analysis(&self) -> String {
        if self.0 == DEFAULT { ANALYSIS.to_owned() } else { format!("{}_{ANALYSIS}", self.0) }
    }

    /// The same as a quoted identifier.
    pub(super) fn quoted_analysis(&self) -> String {
        quoted(&self.analysis())
    }

    /// Adapts a migration to this schema: its text names the default one.
    pub(super) fn adapt(&self, migration: &str) -> String {
        if self.0 == DEFAULT {
            return migration.to_owned();
        }
        let analysis = self.quoted_analysis();
        migration
            .replace("SCHEMA analysis", &format!("SCHEMA {analysis}"))
            .replace(" analysis.", &format!(" {analysis}."))
            .replace(" public.", &format!(" {}.", self.quoted()))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_bounded() {
        let odd = Schema::new("My \"own\"").unwrap();
        assert_eq!(odd.quoted(), "\"My \"\"own\"\"\"");
        assert_eq!(odd.quoted_analysis(), "\"My \"\"own\"\"_analysis\"");
        assert!(Schema::new(&"x".repeat(MAX_BYTES)).is_ok());
        for name in ["", "pg_mine", "information_schema", "a$b", &"x".repeat(MAX_BYTES + 1)] {
            let error = Schema::new(name).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn a_migration_is_adapted_except_to_the_default_schema() {
        let text = "CREATE SCHEMA analysis; CREATE VIEW analysis.a AS SELECT 1 FROM public.orders";
        assert_eq!(Schema::default().adapt(text), text);
        assert_eq!(
            Schema::new("own").unwrap().adapt(text),
            "CREATE SCHEMA \"own_analysis\"; CREATE VIEW \"own_analysis\".a AS SELECT 1 \
             FROM \"own\".orders"
        );
    }
}

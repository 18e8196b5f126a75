//! Query parameters: known names, no duplicates, errors that name the parameter, its value and what is
//! allowed. Not parsed by serde_html_form, which passes a broken escape through and replaces bytes that
//! are not UTF-8; both are refused here.

use std::str::FromStr;

use http::Uri;

use super::path::decode_escapes;
use super::problem::{Problem, excerpt};
use crate::types::Symbol;

/// The parameters of a query string, each known and given at most once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query that may have the parameters `known`.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        Self::parse_with_lists(uri, known, &[])
    }

    /// The same where those in `lists` may be given more than once.
    pub(super) fn parse_with_lists(
        uri: &Uri,
        known: &[&str],
        lists: &[&str],
    ) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, name)?;
            if !known.contains(&name.as_str()) {
                return Err(unknown(&name, known));
            }
            let may_repeat = lists.contains(&name.as_str());
            if !may_repeat && parameters.iter().any(|(given, _)| *given == name) {
                let detail = "The parameter is given more than once.";
                return Err(Problem::field(name, "repeated_field", detail));
            }
            let value = decode(&name, value)?;
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// Rejects every parameter.
    pub(super) fn none(uri: &Uri) -> Result<(), Problem> {
        Self::parse(uri, &[]).map(drop)
    }

    /// Whether a parameter is given, if only an empty one.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    /// A parameter as given; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The elements of a parameter that is a list: separated by commas, or given more than once.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let given = self.0.iter().filter(move |(given, value)| given == name && !value.is_empty());
        given.flat_map(|(_, value)| value.split(','))
    }

    /// A parameter that `read` accepts; `allowed` describes it.
    pub(super) fn word<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| invalid(name, value, allowed))
    }

    /// A parameter parsed as a `T`; `allowed` describes it.
    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &str,
        allowed: &str,
    ) -> Result<Option<T>, Problem> {
        self.word(name, allowed, |value| value.parse().ok())
    }

    /// A symbol, case-insensitive.
    pub(super) fn symbol(&self, name: &str) -> Result<Option<Symbol>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let refused = |error| Problem::field(name, "invalid_field", error);
        Symbol::in_any_case(value).map(Some).map_err(refused)
    }

    /// A whole number within a range, or the default.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, Problem> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self.parsed(name, &allowed)?.unwrap_or(default);
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(invalid(name, &number.to_string(), &allowed))
        }
    }
}

/// Decodes a name or a value (WHATWG URL, "application/x-www-form-urlencoded").
fn decode(name: &str, text: &str) -> Result<String, Problem> {
    let refused = |detail: String| Problem::field(excerpt(name), "invalid_field", detail);
    let spaced: Vec<u8> = text.bytes().map(|b| if b == b'+' { b' ' } else { b }).collect();
    let bytes = decode_escapes(&spaced).map_err(|escape| {
        refused(format!(
            "{escape:?} is not a valid escape: % must be followed by two hexadecimal digits."
        ))
    })?;
    let not_text = |_| refused(format!("{:?} does not decode to UTF-8.", excerpt(text)));
    String::from_utf8(bytes).map_err(not_text)
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let detail = if known.is_empty() {
        "This request takes no parameters.".to_owned()
    } else {
        format!("Unknown parameter. Allowed parameters: {}.", known.join(", "))
    };
    Problem::field(excerpt(name), "unknown_field", detail)
}

/// A value that is not allowed.
pub(super) fn invalid(name: &str, value: &str, allowed: &str) -> Problem {
    Problem::field(name, "invalid_field", format!("{:?} is not {allowed}.", excerpt(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_parameters_once_each() {
        let parse = |text: &str| Query::parse(&text.parse().unwrap(), &["limit", "query"]);
        assert_eq!(parse("/x?limit=5&query=").unwrap().number("limit", 1..=9, 3).unwrap(), 5);
        assert_eq!(parse("/x").unwrap().number("limit", 1..=9, 3).unwrap(), 3);
        assert!(parse("/x?limit=10").unwrap().number("limit", 1..=9, 3).is_err());
        assert!(parse("/x?limit=-1").unwrap().number("limit", 1..=9, 3).is_err());
        assert!(parse("/x?limti=1").is_err());
        assert!(parse("/x?limit=1&limit=2").is_err());
        for text in ["/x?query=a%20b", "/x?query=a+b", "/x?&%71uery=a%20b&"] {
            assert_eq!(parse(text).unwrap().get("query"), Some("a b"), "{text}");
        }
        for broken in ["/x?query=%", "/x?query=%2", "/x?%zz=1", "/x?query=%ff"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
        assert!(Query::none(&"/x?a=1".parse().unwrap()).is_err());
        assert!(Query::none(&"/x?".parse().unwrap()).is_ok());
        let lists = |text: &str| {
            Query::parse_with_lists(&text.parse().unwrap(), &["limit", "status"], &["status"])
        };
        let query = lists("/x?status=a,b&limit=1&status=c&status=").unwrap();
        assert_eq!(query.list("status").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(lists("/x?status=a,").unwrap().list("status").count(), 2);
        assert_eq!(lists("/x?status=").unwrap().list("status").count(), 0);
        assert!(lists("/x?limit=1&limit=1").is_err());
        let symbol = parse("/x?query=spy").unwrap().symbol("query").unwrap();
        assert_eq!(symbol, Symbol::new("SPY").ok());
    }
}

use std::str::FromStr;

use http::Uri;

use super::problem::Problem;

/// The parameters of a query string, each known and given at most once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request that may have the parameters `known`.
    pub fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = format!("Unknown parameter; known are {}.", known.join(", "));
                return Err(Problem::field(name, "unknown_field", detail));
            }
            if parameters.iter().any(|(given, _)| *given == name) {
                return Err(Problem::field(name, "repeated_field", "Given more than once."));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(parameters))
    }

    /// A parameter as it was given; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter read as a `T`; `allowed` says what that is.
    pub fn parsed<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| invalid(name, value, allowed))
    }

    /// A whole number within a range, or its default.
    pub fn number(
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

fn invalid(name: &str, value: &str, allowed: &str) -> Problem {
    let value: String = value.chars().take(64).collect();
    Problem::field(name, "invalid_field", format!("{value:?} is not {allowed}."))
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
        assert_eq!(parse("/x?query=a%20b").unwrap().get("query"), Some("a b"));
    }
}

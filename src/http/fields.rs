//! Fields of a JSON request body: known names, no duplicates, errors that name the field.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::problem::{Problem, excerpt};

/// Largest number accepted with a fraction or an exponent. The parser may get the last binary digit
/// wrong, which up to here lies far after the decimal point.
const MAX_WITH_FRACTION: f64 = 1e12;

/// The JSON object of a request body. Each field is known and occurs at most once; `null` is the
/// same as leaving a field out.
#[derive(Debug)]
pub(super) struct Fields(Vec<Member>);

/// One field.
#[derive(Debug)]
struct Member {
    name: String,
    value: Value,
    /// The value as sent, where a number in it cannot be represented.
    text: Option<String>,
}

impl Fields {
    /// Parses a body that may have the fields `known`.
    pub(super) fn parse(body: &[u8], known: &[&str]) -> Result<Self, Problem> {
        let members = parse_object(body)?;
        let mut given: Vec<&str> = Vec::with_capacity(members.len());
        for Member { name, .. } in &members {
            if !known.contains(&name.as_str()) {
                let detail = format!("Unknown field. Allowed fields: {}.", known.join(", "));
                return Err(Problem::field(excerpt(name), "invalid_field", detail));
            }
            if given.contains(&name.as_str()) {
                return Err(Problem::field(
                    name,
                    "invalid_field",
                    "The field is given more than once.",
                ));
            }
            given.push(name);
        }
        Ok(Self(members))
    }

    /// Whether a field is present and `null`.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.0.iter().any(|given| given.name == name && given.value.is_null())
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|given| given.name == name);
        found.map(|given| &given.value).filter(|value| !value.is_null())
    }

    fn invalid(&self, name: &str, value: &Value, allowed: &str) -> Problem {
        let given = self.0.iter().find(|given| given.name == name);
        match given.and_then(|given| given.text.as_deref()) {
            Some(text) => invalid_text(name, text, allowed),
            None => invalid(name, value, allowed),
        }
    }

    /// An optional field; `allowed` describes what `read` accepts.
    pub(super) fn optional<'a, T>(
        &'a self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.invalid(name, value, allowed))
    }

    /// A required field.
    pub(super) fn required<'a, T>(
        &'a self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, Problem> {
        let missing = || {
            Problem::field(
                name,
                "invalid_field",
                format!("The field is missing; it must be {allowed}."),
            )
        };
        self.optional(name, allowed, read)?.ok_or_else(missing)
    }

    /// Rejects every field, for requests whose body must be blank or an empty object.
    pub(super) fn none(body: &[u8]) -> Result<(), Problem> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match parse_object(body)?.first() {
            None => Ok(()),
            Some(Member { name, .. }) => {
                let detail = "This request takes no body fields.";
                Err(Problem::field(excerpt(name), "invalid_field", detail))
            }
        }
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.invalid(name, value, "a string"))
    }

    /// A list of strings; `allowed` describes each.
    pub(super) fn texts(&self, name: &str, allowed: &str) -> Result<Option<Vec<&str>>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let a_list = || format!("a list; each of its members must be {allowed}");
        let list = value.as_array().ok_or_else(|| self.invalid(name, value, &a_list()))?;
        let text = |(place, value): (usize, &'_ Value)| match value {
            Value::String(_) => Ok(()),
            other => Err(invalid(&format!("{name}[{place}]"), other, allowed)),
        };
        list.iter().enumerate().try_for_each(text)?;
        Ok(Some(list.iter().filter_map(Value::as_str).collect()))
    }
}

/// A whole number in any notation: JSON has one kind of number, and some programs write all of them
/// with a fraction (RFC 8259, section 6).
pub(super) fn whole(value: &Value) -> Option<i64> {
    let without_fraction = || {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        // Without a fraction, the number prints as digits alone.
        (number.abs() <= MAX_WITH_FRACTION).then(|| number.to_string().parse().ok())?
    };
    value.as_i64().or_else(without_fraction)
}

fn invalid(name: &str, value: &Value, allowed: &str) -> Problem {
    invalid_text(name, &value.to_string(), allowed)
}

fn invalid_text(name: &str, value: &str, allowed: &str) -> Problem {
    Problem::field(name, "invalid_field", format!("{} is not {allowed}.", excerpt(value)))
}

/// The members of an object in order, duplicates included.
struct Members<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Object<V> {
            type Value = Members<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<V>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

fn members<'de, V: Deserialize<'de>>(body: &'de [u8]) -> serde_json::Result<Vec<(String, V)>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Members(members) = Members::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(members)
}

/// The members where a number may be one that cannot be represented, or only with another value.
/// Such a value is taken for an empty object, which is allowed nowhere.
fn members_as_sent(body: &[u8]) -> Option<Vec<Member>> {
    let member = |(name, sent): (String, &RawValue)| {
        let value = match serde_json::from_str(sent.get()) {
            Ok(value) => value,
            Err(error) if is_out_of_range(&error) => Value::Object(Map::new()),
            Err(_) => return None,
        };
        let is_sent_otherwise = value.is_f64() || value.is_object();
        let text = is_sent_otherwise.then(|| sent.get().to_owned());
        Some(Member { name, value, text })
    };
    members::<&RawValue>(body).ok()?.into_iter().map(member).collect()
}

/// The parser's own limit; it has no error category of its own.
fn is_out_of_range(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}

fn parse_object(body: &[u8]) -> Result<Vec<Member>, Problem> {
    let whole = members::<Value>(body);
    let as_sent = match &whole {
        Ok(members) if members.iter().any(|(_, value)| value.is_f64()) => members_as_sent(body),
        Err(error) if is_out_of_range(error) => members_as_sent(body),
        Ok(_) | Err(_) => None,
    };
    if let Some(members) = as_sent {
        return Ok(members);
    }
    let member = |(name, value)| Member { name, value, text: None };
    whole.map(|members| members.into_iter().map(member).collect()).map_err(|error| {
        let is_blank = body.iter().all(u8::is_ascii_whitespace);
        let code = if error.is_data() { "invalid_field" } else { "invalid_json" };
        let detail = match error.classify() {
            _ if is_blank => "The body is empty; send a JSON object.".to_owned(),
            Category::Data => "The body must be a JSON object.".to_owned(),
            _ => not_json(&error),
        };
        Problem::field("body", code, detail)
    })
}

/// Describes where a body stops being JSON.
pub(in crate::http) fn not_json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Eof => format!("The body is not valid JSON: it ends early, in line {line}."),
        // The parser's own limit; it has no error category of its own.
        _ if error.to_string().starts_with("recursion limit") => {
            format!("The body is nested too deeply: line {line}, column {column}.")
        }
        _ => format!("The body is not valid JSON: line {line}, column {column}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const KNOWN: [&str; 3] = ["numShares", "symbols", "mode"];

    fn field_and_detail(problem: Problem) -> (String, String) {
        let response = problem.into_response();
        let body = futures_lite::future::block_on(response.into_body().collect()).unwrap();
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(body["status"], 400);
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        (text("field"), text("detail"))
    }

    fn read(body: &str) -> Result<(u64, usize, Option<String>), Problem> {
        let fields = Fields::parse(body.as_bytes(), &KNOWN)?;
        let shares = fields
            .required("numShares", "a whole number", |value| u64::try_from(whole(value)?).ok())?;
        let symbols = fields.texts("symbols", "a symbol")?.unwrap_or_default().len();
        Ok((shares, symbols, fields.text("mode")?.map(str::to_owned)))
    }

    #[test]
    fn null_is_the_same_as_absent() {
        assert_eq!(read(r#"{"numShares":5,"symbols":null,"mode":null}"#).unwrap(), (5, 0, None));
        let missing = field_and_detail(read(r#"{"symbols":[]}"#).unwrap_err());
        assert_eq!(field_and_detail(read(r#"{"numShares":null}"#).unwrap_err()), missing);
        assert_eq!(missing.1, "The field is missing; it must be a whole number.");
        let fields = Fields::parse(br#"{"mode":null}"#, &KNOWN).unwrap();
        assert!(fields.is_null("mode") && !fields.is_null("symbols"));
    }

    #[test]
    fn whole_numbers_may_have_a_zero_fraction_or_an_exponent() {
        for (written, number) in [
            ("1", Some(1)),
            ("1.0", Some(1)),
            ("1e2", Some(100)),
            ("-3.00", Some(-3)),
            ("-0.0", Some(0)),
            ("1000000000000.0", Some(1_000_000_000_000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("1000000000001.0", None),
            ("1e300", None),
            ("1.5", None),
            ("1e-1", None),
            ("\"1\"", None),
            ("true", None),
        ] {
            let value: Value = serde_json::from_str(written).unwrap();
            assert_eq!(whole(&value), number, "{written}");
        }
    }

    #[test]
    fn no_fields_means_blank_or_an_empty_object() {
        for fine in ["", " \n", "{}", " {} "] {
            assert!(Fields::none(fine.as_bytes()).is_ok(), "{fine:?}");
        }
        assert_eq!(field_and_detail(Fields::none(br#"{"user":"bob"}"#).unwrap_err()).0, "user");
        for wrong in ["[]", "x", "null"] {
            assert_eq!(
                field_and_detail(Fields::none(wrong.as_bytes()).unwrap_err()).0,
                "body",
                "{wrong}"
            );
        }
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_is_allowed() {
        let cases = [
            (r#"{"numShares":-5}"#, "numShares", "-5 is not a whole number."),
            (r#"{"numShares":1.5}"#, "numShares", "1.5 is not a whole number."),
            (r#"{"numShares":"1"}"#, "numShares", "\"1\" is not a whole number."),
            (r#"{"numShares":1,"symbols":"A"}"#, "symbols", "must be a symbol."),
            (r#"{"numShares":1,"symbols":["A",null]}"#, "symbols[1]", "null is not a symbol."),
            (r#"{"numShares":1,"mode":{}}"#, "mode", "{} is not a string."),
            (
                r#"{"numShares":1,"prcie":null}"#,
                "prcie",
                "Allowed fields: numShares, symbols, mode.",
            ),
            (r#"{"numShares":1,"numShares":1}"#, "numShares", "more than once"),
            (r#"{"numShares":1e400}"#, "numShares", "1e400 is not a whole number."),
            (
                r#"{"numShares":18446744073709551617}"#,
                "numShares",
                "18446744073709551617 is not a whole number.",
            ),
            (r#"{"numShares":1.50,"mode":-1e999}"#, "numShares", "1.50 is not a whole number."),
            (r#"{"numShares":1,"symbols":[1e400]}"#, "symbols", "[1e400] is not a list"),
            (r#"{"numShares":1,"prcie":1e400}"#, "prcie", "Allowed fields"),
            (r#"{"numShares":1e400"#, "body", "not valid JSON"),
            ("", "body", "empty"),
            (" \n", "body", "empty"),
            ("{", "body", "ends early"),
            (r#"{"numShares":1}x"#, "body", "column 16"),
            ("{]", "body", "not valid JSON"),
            ("[]", "body", "must be a JSON object"),
            (r#"["buy","SPY",1]"#, "body", "must be a JSON object"),
            ("null", "body", "must be a JSON object"),
            ("\u{0}", "body", "not valid JSON"),
        ];
        for (body, field, detail) in cases {
            let (named, said) = field_and_detail(read(body).unwrap_err());
            assert_eq!(named, field, "{body:?}: {said}");
            assert!(said.contains(detail), "{body:?}: {said}");
        }
    }
}

//! Value parsers whose errors say what is allowed, without terms of Rust.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::data_dir::DataDir;
use crate::order::MAX_CASE_TEXT_BYTES;

/// Parses a data directory.
pub(super) fn data_dir() -> impl TypedValueParser<Value = DataDir> {
    PathBufValueParser::new().map(DataDir::from)
}

/// Parses a whole number within a range.
pub(super) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            match *most {
                u64::MAX => format!("expected a whole number of at least {least}"),
                most => format!("expected a whole number from {least} to {most}"),
            }
        })
    }
}

pub(super) fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address such as 192.0.2.7 or 2001:db8::7".to_owned())
}

/// Parses the name or the reason that an operator gives with an action.
pub(super) fn operator_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > MAX_CASE_TEXT_BYTES {
        return Err(format!("expected 1 to {MAX_CASE_TEXT_BYTES} bytes of text, not blank"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_within_their_range() {
        let read = whole::<u32>(1..=16);
        assert_eq!((read("1"), read("16")), (Ok(1), Ok(16)));
        for wrong in ["", "0", "17", "-1", "1.5", "abc", " 1"] {
            assert_eq!(read(wrong), Err("expected a whole number from 1 to 16".to_owned()));
        }
        assert_eq!(
            whole::<u64>(1..=u64::MAX)("0").unwrap_err(),
            "expected a whole number of at least 1"
        );
    }

    #[test]
    fn texts_of_operators_are_not_blank_and_not_too_long() {
        assert_eq!(operator_text("carol").as_deref(), Ok("carol"));
        for wrong in [String::new(), " \t".to_owned(), "x".repeat(MAX_CASE_TEXT_BYTES + 1)] {
            assert!(operator_text(&wrong).unwrap_err().contains("240 bytes"));
        }
    }
}

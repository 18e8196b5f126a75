//! Decoding of request paths.

use std::borrow::Cow;

use http::StatusCode;

use super::problem::{Problem, excerpt};

/// The segments of a path, each percent-decoded once on its own: an escaped slash does not separate
/// segments (RFC 3986, section 2.4). Leading and trailing slashes are ignored.
pub(super) fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    path.trim_matches('/').split('/').map(decode).collect()
}

/// The path of one of the server's files, whose names contain no slash; `None` for any other.
pub(super) fn file_path(path: &str, segments: &[&str]) -> Option<String> {
    let has_one_slash = path.starts_with('/') && path.matches('/').count() == 1;
    match segments {
        [name] if has_one_slash && !name.contains('/') => Some(format!("/{name}")),
        _ => None,
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, Problem> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let refused = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_path", detail);
    let bytes = decode_escapes(segment.as_bytes()).map_err(|escape| {
        refused(format!("{escape:?} in the path is not a valid escape: % must be followed by two hexadecimal digits."))
    })?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| {
        refused(format!("{:?} in the path does not decode to UTF-8.", excerpt(segment)))
    })
}

/// Decodes percent escapes (RFC 3986, section 2.1); the error is the first invalid escape.
pub(super) fn decode_escapes(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2).unwrap_or(after);
        let value = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(value) = value else {
            return Err(format!("%{}", String::from_utf8_lossy(digits)));
        };
        decoded.push(value);
        (_, rest) = after.split_at(digits.len());
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once_and_escaped_slashes_do_not_separate() {
        let cases: &[(&str, &[&str])] = &[
            ("/symbol/BF%2FB", &["symbol", "BF/B"]),
            ("/symbol/bf%2fb", &["symbol", "bf/b"]),
            ("/%73ymbol/%53PY", &["symbol", "SPY"]),
            ("/symbol/%2553PY", &["symbol", "%53PY"]),
            ("/symbol/%C3%89", &["symbol", "É"]),
            ("/orders/", &["orders"]),
            ("/", &[""]),
        ];
        for (path, expected) in cases {
            assert_eq!(segments(path).unwrap(), *expected, "{path}");
        }
        for path in ["/symbol/%", "/symbol/%5", "/symbol/%zz", "/symbol/%+1", "/x/%FF", "/%\u{e9}a"]
        {
            let problem = segments(path).unwrap_err();
            assert_eq!(problem.into_response().status(), StatusCode::BAD_REQUEST, "{path}");
        }
    }

    #[test]
    fn each_file_has_one_path() {
        assert_eq!(file_path("/", &[""]).as_deref(), Some("/"));
        assert_eq!(file_path("/app.js", &["app.js"]).as_deref(), Some("/app.js"));
        for (path, segments) in [
            ("//app.js", &["app.js"][..]),
            ("/app.js/", &["app.js"]),
            ("//", &[""]),
            ("/%2Fapp.js", &["/app.js"]),
            ("/a/b", &["a", "b"]),
        ] {
            assert_eq!(file_path(path, segments), None, "{path}");
        }
    }
}

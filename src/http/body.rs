use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Largest request body.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;
/// Longest wait for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body of at most [`MAX_BODY_BYTES`].
pub(super) async fn read_body(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("The body is larger than the allowed {MAX_BODY_BYTES} bytes.");
        Problem::field("body", "body_too_large", detail)
    };
    if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let read = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let timed = glommio::timer::timeout(BODY_TIMEOUT, async { Ok(read.await) }).await;
    match timed {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(Problem::field("body", "body_unreadable", format!("The body broke off: {error}")))
        }
        Err(_timed_out) => {
            let detail = format!("The body did not come within {BODY_TIMEOUT:?}.");
            Err(Problem::field("body", "body_too_slow", detail))
        }
    }
}

/// Reads a JSON body into a type that denies unknown fields; the answer to a bad one names the
/// field.
pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let code = match cause.classify() {
            serde_json::error::Category::Data => "invalid_field",
            _ => "invalid_json",
        };
        // An unknown, missing or repeated field is named only in the message, between backticks.
        let named = cause.to_string().split('`').nth(1).map(str::to_owned);
        let is_whole = path == "." || path == "?" || path.is_empty();
        let field = match (is_whole, code) {
            (true, "invalid_field") => named.unwrap_or_else(|| "body".into()),
            (true, _) => "body".into(),
            (false, _) => path,
        };
        Problem::field(field, code, cause)
    })?;
    deserializer.end().map_err(|error| Problem::field("body", "invalid_json", error))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Example {
        #[expect(dead_code, reason = "only parsed")]
        num_shares: u64,
        #[expect(dead_code, reason = "only parsed")]
        #[serde(default)]
        symbols: Vec<String>,
    }

    fn field_of(body: &str) -> String {
        let response = parse_json::<Example>(body.as_bytes()).unwrap_err().into_response();
        let body = futures_lite::future::block_on(response.into_body().collect()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(body["status"], 400);
        body["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_answer_names_the_field() {
        assert_eq!(field_of(r#"{"numShares":-5}"#), "numShares");
        assert_eq!(field_of(r#"{"numShares":1.5}"#), "numShares");
        assert_eq!(field_of(r#"{"numShares":1e99}"#), "numShares");
        assert_eq!(field_of(r#"{"numShares":1,"prcie":2}"#), "prcie");
        assert_eq!(field_of(r#"{"symbols":[]}"#), "numShares");
        assert_eq!(field_of(r#"{"numShares":1,"numShares":2}"#), "numShares");
        assert_eq!(field_of(r#"{"numShares":1,"symbols":["A",7]}"#), "symbols[1]");
        for broken in ["", "{", "[]", "null", r#"{"numShares":1}x"#, "\u{0}"] {
            assert_eq!(field_of(broken), "body", "{broken:?}");
        }
    }
}

use std::time::Duration;

use http::Request;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Largest request body.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;
/// Largest body that is read to its end only to answer that it is too large: closing a connection
/// with something unread can take the answer away from its client.
const MAX_DISCARDED_BYTES: usize = 256 * 1024;
/// Longest wait for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes a request apart and reads its body of at most [`MAX_BODY_BYTES`]. Done before anything
/// else is looked at, because a connection whose request was not read cannot go on.
pub(super) async fn read_body(request: Request<Incoming>) -> Result<(Parts, Vec<u8>), Problem> {
    read_body_up_to(MAX_BODY_BYTES, request).await
}

/// The same with another limit, in bytes.
pub(super) async fn read_body_up_to(
    limit: usize,
    request: Request<Incoming>,
) -> Result<(Parts, Vec<u8>), Problem> {
    let (parts, body) = request.into_parts();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit.max(MAX_DISCARDED_BYTES) {
        return Err(Problem::too_large(limit).closing());
    }
    let read = async { Ok(collect(body, limit).await) };
    let read = glommio::timer::timeout(BODY_TIMEOUT, read).await;
    let body = read.unwrap_or_else(|_timed_out| {
        let detail = format!("The body did not come within {BODY_TIMEOUT:?}.");
        Err(Problem::field("body", "body_too_slow", detail).closing())
    })?;
    Ok((parts, body))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            let detail = "The body broke off, or is not framed as HTTP/1.1 has it.";
            Problem::field("body", "body_unreadable", detail).closing()
        })?;
        let Some(data) = frame.data_ref() else { continue };
        length = length.saturating_add(data.len());
        if length > limit.max(MAX_DISCARDED_BYTES) {
            return Err(Problem::too_large(limit).closing());
        }
        if length <= limit {
            bytes.extend_from_slice(data);
        }
    }
    if length > limit { Err(Problem::too_large(limit)) } else { Ok(bytes) }
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

use redis::{ErrorKind, RedisError};

/// Why prices are not published.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The runtime of the connection could not be created.
    #[error("cannot create the runtime for the connection to Redis")]
    Runtime(#[source] std::io::Error),
}

/// What Redis, or whatever answers at its address, has said.
pub(super) fn said(error: &RedisError) -> String {
    match error.kind() {
        // The words of the parser, several lines of them, say nothing of who has answered.
        ErrorKind::Parse => {
            "what answers there does not speak as Redis does: does --redis name another server?"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_at_the_address_of_redis_is_told_as_such() {
        let http = redis::parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
        let text = said(&http);
        assert!(text.contains("--redis") && !text.contains("Parse"), "{text}");
        let refused = redis::parse_redis_value(b"-NOAUTH Authentication required.\r\n").unwrap();
        let refused = refused.extract_error().unwrap_err();
        assert!(said(&refused).contains("NOAUTH"), "{refused}");
    }
}

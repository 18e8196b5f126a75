//! Just enough HTTP/1.1 to read responses on a kept-alive connection.

/// Longest accepted answer, head and body: an order is under 1 KiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// More headers than any answer has.
const MAX_HEADERS: usize = 32;

/// A complete response at the start of the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub status: u16,
    /// Bytes of head and body together.
    pub length: usize,
    /// Where the body starts.
    pub body_start: usize,
    /// Whether the server closes the connection after it.
    pub closes: bool,
}

/// Why the received bytes are not a readable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Reads the answer at the start of `data`; `None` while it is incomplete.
///
/// # Errors
/// [`Unreadable`] for bytes that are not HTTP, bodies without a `Content-Length`, and responses over
/// the limit.
pub(crate) fn parse(data: &[u8]) -> Result<Option<Answer>, Unreadable> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let body_start = match response.parse(data) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if data.len() < MAX_ANSWER_BYTES => return Ok(None),
        _ => return Err(Unreadable),
    };
    let status = response.code.ok_or(Unreadable)?;
    let (mut body_bytes, mut closes) = (None, false);
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(|_| Unreadable)?.trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            body_bytes = Some(value.parse::<usize>().map_err(|_| Unreadable)?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        }
    }
    let body_bytes = match (body_bytes, status) {
        (Some(bytes), _) => bytes,
        (None, 204 | 304) => 0,
        (None, _) => return Err(Unreadable),
    };
    let length = body_start.checked_add(body_bytes).ok_or(Unreadable)?;
    if length > MAX_ANSWER_BYTES {
        return Err(Unreadable);
    }
    Ok((data.len() >= length).then_some(Answer { status, length, body_start, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &[u8] =
        b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

    #[test]
    fn an_answer_is_read_when_all_of_it_is_there() {
        for end in 0..CREATED.len() {
            assert_eq!(parse(&CREATED[..end]), Ok(None), "{end} bytes");
        }
        let whole = Ok(Some(Answer {
            status: 201,
            length: CREATED.len(),
            body_start: CREATED.len() - 2,
            closes: false,
        }));
        assert_eq!(parse(CREATED), whole);
        let two = [CREATED, CREATED].concat();
        assert_eq!(parse(&two), whole, "the second one waits for its turn");
    }

    #[test]
    fn a_closing_answer_is_known() {
        let answer = parse(b"HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(answer, Ok(Some(Answer { status: 503, closes: true, .. }))));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for data in [
            "garbage\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        ] {
            assert_eq!(parse(data.as_bytes()), Err(Unreadable), "{data}");
        }
    }
}

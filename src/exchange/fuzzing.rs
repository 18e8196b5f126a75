//! What the fuzz targets in `tests/fuzz/` call: the readers of what an exchange sends, with what must hold
//! whatever it sends. A broken promise is a panic.

use std::io::{self, Read};

use super::address::ExchangeAddress;
use super::blocking_http::Response;
use super::reading::read_webhook;
use super::symbol_list::read_symbols;
use super::wire::WebhookBatch;

pub use super::feed::fuzzing::feed;

/// Longest body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Bytes that come in pieces of a size.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.size.min(self.rest.len());
        let (mut piece, rest) = self.rest.split_at_checked(size).unwrap_or_default();
        let read = piece.read(into)?;
        self.rest = self.rest.get(read..).unwrap_or(rest);
        Ok(read)
    }
}

/// What a response turns out to be: its status and its body, or that it is none.
fn response_in_pieces(bytes: &[u8], size: usize) -> Option<(u16, Vec<u8>)> {
    let response = Response::read_head(Pieces { rest: bytes, size }).ok()?;
    let status = response.status;
    Some((status, response.read_to_end(MAX_BODY_BYTES).ok()?))
}

/// The first byte is the size of the pieces in which the answer of a feed connection comes, the rest
/// is the answer.
///
/// # Panics
/// When an answer means something else in pieces than as a whole.
pub fn http_response(data: &[u8]) {
    let [size, bytes @ ..] = data else { return };
    let in_pieces = response_in_pieces(bytes, usize::from(*size) + 1);
    assert_eq!(in_pieces, response_in_pieces(bytes, usize::MAX), "whole or in pieces");
}

/// The exchange's address, as a flag or a file gives it.
///
/// # Panics
/// When an address does not come back from what it is printed as, or could end a header line.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(address) = text.parse::<ExchangeAddress>() else { return };
    let printed = address.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(&address), "{printed}");
    let authority = address.authority();
    assert!(authority.bytes().all(|byte| byte.is_ascii_graphic()), "{authority:?}");
}

/// The answer of `GET /v1/symbols`.
///
/// # Panics
/// When a symbol that was taken is none.
pub fn symbols(data: &[u8]) {
    let Ok(list) = read_symbols(data) else { return };
    for listing in &list.listings {
        assert!(!listing.symbol.as_str().is_empty());
        assert!(listing.previous_close.is_none_or(|close| close.cents() > 0));
        assert!(listing.session.is_none_or(|session| session.open < session.close));
    }
}

/// A batch of a webhook.
///
/// # Panics
/// When what was read does not come back from what it is written as.
pub fn webhook(data: &[u8]) {
    let _each_line_for_itself = read_webhook(data);
    let Ok(batch) = serde_json::from_slice::<WebhookBatch>(data) else { return };
    let written = serde_json::to_vec(&batch).unwrap_or_default();
    let again = serde_json::from_slice::<WebhookBatch>(&written).map(|again| again.lines);
    assert_eq!(again.ok(), Some(batch.lines), "lines come back");
}

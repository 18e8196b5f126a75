//! Entry points of the fuzz targets in `tests/fuzz/` for the parsers of the exchange's data, with
//! the properties that hold for any input. A violated property panics.

use std::io::{self, Read};

use super::address::ExchangeAddress;
use super::blocking_http::Response;
use super::reading::read_webhook;
use super::symbol_list::read_symbols;
use super::wire::WebhookBatch;

pub use super::feed::fuzzing::feed;

/// Longest body read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A reader that returns its bytes in pieces of at most `size`.
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

/// Status and body of a response, or `None` for an invalid one.
fn response_in_pieces(bytes: &[u8], size: usize) -> Option<(u16, Vec<u8>)> {
    let response = Response::read_head(Pieces { rest: bytes, size }).ok()?;
    let status = response.status;
    Some((status, response.read_to_end(MAX_BODY_BYTES).ok()?))
}

/// Parses a response of the feed connection. The first byte is the size of the pieces in which it
/// arrives, the rest is the response.
///
/// # Panics
/// When a response means something else in pieces than as a whole.
pub fn http_response(data: &[u8]) {
    let [size, bytes @ ..] = data else { return };
    let in_pieces = response_in_pieces(bytes, usize::from(*size) + 1);
    assert_eq!(in_pieces, response_in_pieces(bytes, usize::MAX), "whole or in pieces");
}

/// Parses an exchange address, as given in a flag or a file.
///
/// # Panics
/// When an address does not survive printing, or could end a header line.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(address) = text.parse::<ExchangeAddress>() else { return };
    let printed = address.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(&address), "{printed}");
    let authority = address.authority();
    assert!(authority.bytes().all(|byte| byte.is_ascii_graphic()), "{authority:?}");
}

/// Parses an answer to `GET /v1/symbols`.
///
/// # Panics
/// When an accepted listing is invalid.
pub fn symbols(data: &[u8]) {
    let Ok(list) = read_symbols(data) else { return };
    for listing in &list.listings {
        assert!(!listing.symbol.as_str().is_empty());
        assert!(listing.previous_close.is_none_or(|close| close.cents() > 0));
        assert!(listing.session.is_none_or(|session| session.open < session.close));
    }
}

/// Parses a webhook batch.
///
/// # Panics
/// When a batch does not survive serialization.
pub fn webhook(data: &[u8]) {
    let _each_line_for_itself = read_webhook(data);
    let Ok(batch) = serde_json::from_slice::<WebhookBatch>(data) else { return };
    let written = serde_json::to_vec(&batch).unwrap_or_default();
    let again = serde_json::from_slice::<WebhookBatch>(&written).map(|again| again.lines);
    assert_eq!(again.ok(), Some(batch.lines), "lines come back");
}

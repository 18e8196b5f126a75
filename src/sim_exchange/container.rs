//! The envelope shared by the tape and the universe file: magic, version, a plain header, and a
//! deflated body (RFC 1951), with one checksum (XXH3) over the header and the inflated body.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use xxhash_rust::xxh3::Xxh3Default;

use super::SimError;
use super::codec::{Cursor, put_varint};

/// Format version written and read.
const VERSION: u8 = 1;
/// Longest header: room for a source text and 256 symbols of 32 bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// One kind of file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// First bytes of the file.
    pub(super) magic: [u8; 8],
    /// Its name in errors.
    pub(super) name: &'static str,
    /// Longest inflated body accepted.
    pub(super) max_body_bytes: usize,
}

impl Kind {
    pub(super) const fn bad(self, problem: &'static str) -> SimError {
        SimError::Data { file: self.name, problem }
    }

    pub(super) fn pack(self, header: &[u8], body: &[u8]) -> Result<Vec<u8>, SimError> {
        if header.len() > MAX_HEADER_BYTES || body.len() > self.max_body_bytes {
            return Err(self.bad("it is larger than the format allows"));
        }
        let mut out = self.magic.to_vec();
        out.push(VERSION);
        put_varint(&mut out, header.len() as u64);
        out.extend_from_slice(header);
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&checksum(header, body).to_le_bytes());
        let mut encoder = DeflateEncoder::new(out, Compression::best());
        encoder.write_all(body).map_err(|_| self.bad("it cannot be deflated"))?;
        encoder.finish().map_err(|_| self.bad("it cannot be deflated"))
    }

    /// Splits a file into its header and its inflated body, both checked.
    pub(super) fn unpack(self, file: &[u8]) -> Result<(&[u8], Vec<u8>), SimError> {
        let mut cursor = Cursor::new(file);
        if cursor.bytes(self.magic.len()) != Some(&self.magic) {
            return Err(self.bad("it does not start with the magic bytes"));
        }
        if cursor.byte() != Some(VERSION) {
            return Err(self.bad("its format version is not 1"));
        }
        let short = || self.bad("it ends early");
        let length = |cursor: &mut Cursor<'_>| {
            cursor.varint().and_then(|length| usize::try_from(length).ok()).ok_or_else(short)
        };
        let header_length = length(&mut cursor)?;
        if header_length > MAX_HEADER_BYTES {
            return Err(self.bad("its header is too long"));
        }
        let header = cursor.bytes(header_length).ok_or_else(short)?;
        let body_length = length(&mut cursor)?;
        if body_length > self.max_body_bytes {
            return Err(self.bad("its body is too long"));
        }
        let expected = cursor.u64_le().ok_or_else(short)?;
        let mut body = Vec::new();
        // Reading one byte more than declared reveals a longer body.
        let mut inflated = DeflateDecoder::new(cursor.rest()).take(body_length as u64 + 1);
        inflated.read_to_end(&mut body).map_err(|_| self.bad("its body cannot be inflated"))?;
        if body.len() != body_length || checksum(header, &body) != expected {
            return Err(self.bad("its checksum does not match"));
        }
        Ok((header, body))
    }
}

fn checksum(header: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(header);
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { magic: *b"LBTEST\0\0", name: "test file", max_body_bytes: 1 << 16 };

    #[test]
    fn files_round_trip_and_damage_is_detected() {
        let body: Vec<u8> = (0..500_u16).flat_map(|n| (n % 7).to_le_bytes()).collect();
        let file = KIND.pack(b"header", &body).unwrap();
        let (header, unpacked) = KIND.unpack(&file).unwrap();
        assert_eq!((header, unpacked), (&b"header"[..], body.clone()));
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 0x10;
            if let Ok((header, unpacked)) = KIND.unpack(&damaged) {
                // Deflate has bits without meaning; whatever is accepted must be the same data.
                assert_eq!((header, &unpacked), (&b"header"[..], &body), "byte {place}");
            }
            assert!(KIND.unpack(&file[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_body_that_inflates_beyond_its_limit_is_rejected() {
        let small = Kind { max_body_bytes: 10, ..KIND };
        let file = KIND.pack(b"", &[0; 1_000]).unwrap();
        assert!(small.unpack(&file).is_err());
        assert!(small.pack(b"", &[0; 11]).is_err());
    }
}

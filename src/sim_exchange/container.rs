//! The envelope that the tape and the universe file share: eight bytes that name the kind of file
//! and its format, and behind them the contents as postcard has them, in gzip (RFC 1952), whose
//! checksum tells damage.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SimError;

/// What tells one kind of file from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// First bytes of the file.
    pub(super) magic: [u8; 8],
    /// The kind in words, for errors.
    pub(super) name: &'static str,
    /// Longest unpacked contents that are accepted.
    pub(super) max_bytes: usize,
}

impl Kind {
    pub(super) const fn bad(self, problem: &'static str) -> SimError {
        SimError::Data { file: self.name, problem }
    }

    pub(super) fn pack(self, contents: &impl Serialize) -> Result<Vec<u8>, SimError> {
        let unwritable = || self.bad("it cannot be compressed");
        let bytes = postcard::to_stdvec(contents).map_err(|_| unwritable())?;
        if bytes.len() > self.max_bytes {
            return Err(self.bad("it exceeds the limits of the format"));
        }
        let mut encoder = GzEncoder::new(self.magic.to_vec(), Compression::best());
        encoder.write_all(&bytes).map_err(|_| unwritable())?;
        encoder.finish().map_err(|_| unwritable())
    }

    pub(super) fn unpack<T: DeserializeOwned>(self, file: &[u8]) -> Result<T, SimError> {
        let packed = file
            .strip_prefix(&self.magic)
            .ok_or_else(|| self.bad("it is not such a file, or of another version"))?;
        let mut bytes = Vec::new();
        // One byte more than allowed shows contents that are too long.
        let mut unpacked = GzDecoder::new(packed).take(self.max_bytes as u64 + 1);
        unpacked.read_to_end(&mut bytes).map_err(|_| self.bad("it is damaged"))?;
        if bytes.len() > self.max_bytes {
            return Err(self.bad("it exceeds the limits of the format"));
        }
        match postcard::take_from_bytes(&bytes) {
            Ok((contents, [])) => Ok(contents),
            Ok(_) | Err(_) => Err(self.bad("its contents do not match the format")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { magic: *b"LBTEST\0\0", name: "test file", max_bytes: 1 << 16 };

    #[test]
    fn a_file_comes_back_and_every_damaged_byte_is_noticed() {
        let contents: Vec<u16> = (0..500).map(|n| n % 7).collect();
        let file = KIND.pack(&contents).unwrap();
        assert_eq!(KIND.unpack::<Vec<u16>>(&file).unwrap(), contents);
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 0x10;
            if let Ok(unpacked) = KIND.unpack::<Vec<u16>>(&damaged) {
                // Gzip has bits that mean nothing; whatever is accepted must be the same data.
                assert_eq!(unpacked, contents, "byte {place}");
            }
            assert!(KIND.unpack::<Vec<u16>>(&file[..place]).is_err(), "cut at {place}");
        }
        assert!(KIND.unpack::<u16>(&file).is_err(), "something is left over");
    }

    #[test]
    fn contents_beyond_their_limit_are_refused() {
        let small = Kind { max_bytes: 10, ..KIND };
        let file = KIND.pack(&vec![0_u8; 1_000]).unwrap();
        assert!(small.unpack::<Vec<u8>>(&file).is_err());
        assert!(small.pack(&vec![0_u8; 10]).is_err());
    }
}

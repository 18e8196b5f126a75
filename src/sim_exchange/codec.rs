//! Variable-length integers and short texts, the encoding of the tape, the universe file and the
//! journal. Reading returns `None` on input that ends early or is not canonical; it never panics.

/// Most bytes of one 64-bit varint, seven bits a byte.
const MAX_VARINT_BYTES: u32 = 10;

/// Appends `value` as a varint: seven bits a byte, lowest first, the high bit meaning "more".
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

/// Appends a text, prefixed with its length in bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Moves the sign into the lowest bit, so that small negative numbers stay short.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Undoes [`zigzag`].
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The unread rest of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for place in 0..MAX_VARINT_BYTES {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if place == MAX_VARINT_BYTES - 1 && bits > 1 {
                return None; // exceeds 64 bits
            }
            value |= bits << (place * 7);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A text of at most `max_bytes`.
    pub(super) fn text(&mut self, max_bytes: usize) -> Option<&'a str> {
        let length = usize::try_from(self.varint()?).ok()?;
        if length > max_bytes {
            return None;
        }
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    pub(super) fn u64_le(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_round_trip(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_varint(&mut out, zigzag(signed));
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint(), Some(value));
            prop_assert_eq!(cursor.varint().map(unzigzag), Some(signed));
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.varint().is_some() {}
            let _ = Cursor::new(&bytes).text(16);
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_rejected() {
        let mut too_long = vec![0xff; 9];
        too_long.push(2);
        assert_eq!(Cursor::new(&too_long).varint(), None);
        assert_eq!(Cursor::new(&[0x80]).varint(), None, "it ends early");
    }
}

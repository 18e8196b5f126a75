//! Splits the bytes of one feed connection into lines, within bounded memory.

use compact_str::CompactString;

use super::super::feed_line::MAX_LINE_BYTES;

/// Most bytes kept of one line. A longer line is skipped; its bytes past this are discarded.
const MAX_KEPT_BYTES: usize = 64 * 1024;
const _: () = assert!(MAX_KEPT_BYTES > MAX_LINE_BYTES);

/// Session and next sequence that a connection requests.
pub(crate) type Resume = Option<(CompactString, u64)>;

/// The unparsed bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// What the connection requested.
    pub(super) asked: Resume,
    /// Whether the session line has arrived.
    pub(super) session_known: bool,
    /// Whether a line has arrived since this was last reset.
    pub(super) is_heard: bool,
    /// Bytes received, starting at the beginning of a line.
    pub(crate) body: Vec<u8>,
    /// Leading bytes of `body` known to contain no line end.
    searched: usize,
}

impl Connection {
    pub(crate) fn new(asked: Resume) -> Self {
        Self { asked, ..Self::default() }
    }

    /// Passes every complete line to `take`, trimmed of white space and without blank lines, and
    /// keeps the rest.
    pub(super) fn take_lines<E>(
        &mut self,
        mut take: impl FnMut(&mut Self, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut body = std::mem::take(&mut self.body);
        let mut taken = 0;
        let mut outcome = Ok(());
        let (_, unsearched) = body.split_at(self.searched);
        for end in memchr::memchr_iter(b'\n', unsearched) {
            let end = self.searched + end;
            let line = body.split_at(end).0.split_at(taken).1.trim_ascii();
            taken = end + 1;
            if line.is_empty() {
                continue;
            }
            self.is_heard = true;
            outcome = take(self, line);
            if outcome.is_err() {
                break;
            }
        }
        body.drain(..taken);
        body.truncate(MAX_KEPT_BYTES);
        self.searched = if outcome.is_ok() { body.len() } else { 0 };
        self.body = body;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut connection = Connection::default();
        let mut lines = Vec::new();
        for piece in pieces {
            connection.body.extend_from_slice(piece);
            let taken: Result<(), ()> = connection.take_lines(|_, line| {
                lines.push(line.to_vec());
                Ok(())
            });
            taken.unwrap();
        }
        lines
    }

    #[test]
    fn blank_lines_are_skipped_and_both_line_ends_work() {
        assert_eq!(lines(&[b"\n\r\n  \na\r\n\nb\n", b"c"]), [b"a", b"b"]);
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let mut connection = Connection::default();
        for _ in 0..10 {
            connection.body.extend_from_slice(&[b'x'; MAX_KEPT_BYTES]);
            let taken: Result<(), ()> = connection.take_lines(|_, _| Err(()));
            taken.unwrap();
            assert!(connection.body.len() <= MAX_KEPT_BYTES && !connection.is_heard);
        }
        connection.body.extend_from_slice(b"\nnext\n");
        let mut lines = Vec::new();
        let taken: Result<(), ()> = connection.take_lines(|_, line| {
            lines.push(line.to_vec());
            Ok(())
        });
        taken.unwrap();
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_KEPT_BYTES, 4]);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_pieces(bytes in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'a'), Just(b'b')], 0..100), size in 1..20_usize,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(lines(&pieces), lines(&[&bytes]));
        }
    }
}

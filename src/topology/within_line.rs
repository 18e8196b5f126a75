//! Texts from outside as parts of a line: of the log, or of what a subcommand prints. Whoever names an
//! operator or a session with a line's end in it forges no line, and steers no terminal.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Passes text on with every character that is none of a line escaped, as JSON has it.
struct WithinLine<W>(W);

impl<W: Write> Write for WithinLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(steers) {
            let Some((at, last)) = piece.char_indices().next_back().filter(|(_, c)| steers(*c))
            else {
                self.0.write_str(piece)?;
                continue;
            };
            self.0.write_str(piece.get(..at).unwrap_or_default())?;
            match last {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                other => write!(self.0, "\\u{:04x}", u32::from(other))?,
            }
        }
        Ok(())
    }
}

/// Whether a character ends a line, commands a terminal, or turns the direction of what follows
/// (Unicode Standard Annex 9, explicit formatting characters).
pub(super) fn steers(character: char) -> bool {
    let turns = ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || turns.iter().any(|range| range.contains(&character))
}

/// A text that stays within its line.
pub(super) fn within_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    // A string takes everything.
    let _taken = WithinLine(&mut escaped).write_str(text);
    escaped
}

/// The fields of log lines: the message, then `name=value`, all of it within the line.
pub(super) struct FieldsWithinLine;

impl<'writer> FormatFields<'writer> for FieldsWithinLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut words = Words { writer, is_first: true, outcome: Ok(()) };
        fields.record(&mut words);
        words.outcome
    }
}

struct Words<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    outcome: fmt::Result,
}

impl Words<'_> {
    fn word(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        match name {
            "message" => {}
            // Names are ours, and so are these escapes: italic, then dim.
            name if self.writer.has_ansi_escapes() => {
                write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?;
            }
            name => write!(self.writer, "{name}=")?,
        }
        write!(WithinLine(&mut self.writer), "{value:?}")
    }
}

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Of other crates' lines that came by way of `log`: where they were made.
        if self.outcome.is_ok() && !field.name().starts_with("log.") {
            self.outcome = self.word(field.name(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(is_colored: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(is_colored)
            .without_time()
            .with_target(false)
            .fmt_fields(FieldsWithinLine)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_comes_from_outside_stays_within_its_line() {
        let forged = "x\n2026 WARN forged\u{1b}[2J\u{9b}1m\u{202e}";
        let said = logged(false, || {
            tracing::warn!(by = forged, session = %forged, count = 7, "{forged}");
        });
        assert_eq!(said.matches('\n').count(), 1, "{said}");
        assert!(!said.trim_end().contains(steers), "{said:?}");
        let told = r"x\n2026 WARN forged\u001b[2J\u009b1m\u202e";
        assert!(said.contains(&format!(" {told} by=\"")), "{said}");
        assert!(said.contains(&format!("session={told} count=7")), "{said}");
    }

    #[test]
    fn colors_are_ours_alone() {
        let said = logged(true, || tracing::warn!(text = %"\u{1b}[31m", "said"));
        assert!(
            said.contains("said \u{1b}[3mtext\u{1b}[0m\u{1b}[2m=\u{1b}[0m\\u001b[31m"),
            "{said:?}"
        );
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "plain", "two words", r"C:\new", "\u{c9}t\u{e9} \u{4e00}"] {
            assert_eq!(within_line(text), text);
        }
        assert_eq!(within_line("a\tb\r\n\u{7f}\u{2028}"), r"a\tb\r\n\u007f\u2028");
    }
}

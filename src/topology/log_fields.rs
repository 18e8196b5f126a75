//! The fields of a log line, none of which leaves its line.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use super::threads::with_causes;
use crate::types::WithinLine;

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

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", with_causes(error)));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::topology::ServeError;
    use crate::types::steers;

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
    fn an_error_comes_with_its_causes() {
        let error = ServeError::Thread(io::Error::other("too\nmany"));
        let said = logged(false, || {
            let error: &dyn Error = &error;
            tracing::warn!(error, "it failed");
        });
        assert!(said.contains(r"error=cannot start a thread: too\nmany"), "{said}");
    }

    #[test]
    fn colors_are_ours_alone() {
        let said = logged(true, || tracing::warn!(text = %"\u{1b}[31m", "said"));
        assert!(
            said.contains("said \u{1b}[3mtext\u{1b}[0m\u{1b}[2m=\u{1b}[0m\\u001b[31m"),
            "{said:?}"
        );
    }
}

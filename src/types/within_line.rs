//! Escapes external text for use within a line of the log or of a subcommand's output: a line end
//! in the name of an operator or a session forges no line, and a control character steers no
//! terminal.

use std::fmt::{self, Write};

/// A writer that escapes every character that [`steers`], as JSON does.
#[derive(Debug)]
pub struct WithinLine<W>(pub W);

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

/// Whether a character ends a line, controls a terminal, or changes the direction of the following
/// text (Unicode Standard Annex 9, explicit formatting characters).
pub fn steers(character: char) -> bool {
    let turns = ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || turns.iter().any(|range| range.contains(&character))
}

/// Escapes a text so that it stays within its line.
pub fn within_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    // Writing to a `String` is infallible.
    let _infallible = WithinLine(&mut escaped).write_str(text);
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steering_characters_are_escaped() {
        for text in ["", "plain", "two words", r"C:\new", "\u{c9}t\u{e9} \u{4e00}"] {
            assert_eq!(within_line(text), text);
        }
        assert_eq!(within_line("a\tb\r\n\u{7f}\u{2028}"), r"a\tb\r\n\u007f\u2028");
    }
}

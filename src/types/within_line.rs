//! Texts from outside as parts of a line: of the log, or of what a subcommand prints. Whoever names an
//! operator or a session with a line's end in it forges no line, and steers no terminal.

use std::fmt::{self, Write};

/// Passes text on with every character that is none of a line escaped, as JSON has it.
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

/// Whether a character ends a line, commands a terminal, or turns the direction of what follows
/// (Unicode Standard Annex 9, explicit formatting characters).
pub fn steers(character: char) -> bool {
    let turns = ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || turns.iter().any(|range| range.contains(&character))
}

/// A text that stays within its line.
pub fn within_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    // A string takes everything.
    let _taken = WithinLine(&mut escaped).write_str(text);
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "plain", "two words", r"C:\new", "\u{c9}t\u{e9} \u{4e00}"] {
            assert_eq!(within_line(text), text);
        }
        assert_eq!(within_line("a\tb\r\n\u{7f}\u{2028}"), r"a\tb\r\n\u007f\u2028");
    }
}

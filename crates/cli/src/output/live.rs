//! The screen of a running invocation: streamed text, lines, and one live line at the bottom of a terminal.
//!
//! Invariant: the live line is on the screen only while the cursor stands at its end, and every other write
//! removes it first; on anything but a terminal it is never written.

use super::{Out, Piece, To};

/// Begins the line again and clears it (ECMA-48 `EL`).
const CLEAR_LINE: &str = "\r\x1b[2K";

/// Writes pieces and keeps the live line below them.
#[derive(Debug)]
pub(crate) struct Live {
    has_live_line: bool,
    /// The last line of streamed text has no end yet.
    in_text: bool,
    /// Where words and lines go.
    words: To,
    lines: To,
}

impl Live {
    /// Text to standard output, lines to standard error.
    pub(crate) const fn split() -> Self {
        Self {
            has_live_line: false,
            in_text: false,
            words: To::Answer,
            lines: To::Progress,
        }
    }

    pub(crate) fn show(&mut self, out: &mut Out, piece: &Piece) {
        self.clear(out);
        match piece {
            Piece::Text(text) if text.is_empty() => {}
            Piece::Text(text) => {
                out.write(self.words, text);
                self.in_text = !text.ends_with('\n');
            }
            Piece::Line(line) => {
                self.end_text(out);
                out.line(self.lines, line);
            }
        }
    }

    /// Draws the live line, unless text is in the middle of a line or nobody looks. `line` is given the columns that
    /// there are now: a line that is wrapped could not be removed again.
    pub(crate) fn draw(&mut self, out: &mut Out, line: impl FnOnce(usize) -> String) {
        if self.in_text || !self.can_draw(out) {
            return;
        }
        // The last column stays free: some terminals wrap when it is written, others with the next character.
        let line = line(out.columns().saturating_sub(1));
        out.write(To::Progress, &format!("{CLEAR_LINE}{line}"));
        self.has_live_line = true;
    }

    /// Ends an open line of text and removes the live line.
    pub(crate) fn end(&mut self, out: &mut Out) {
        self.clear(out);
        self.end_text(out);
    }

    fn can_draw(&self, out: &Out) -> bool {
        out.is_terminal(To::Progress) && !out.is_json()
    }

    fn clear(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.has_live_line) {
            out.write(To::Progress, CLEAR_LINE);
        }
    }

    fn end_text(&mut self, out: &mut Out) {
        // Text that goes to a file keeps its own line ends, but never runs into a line on the same screen.
        if std::mem::take(&mut self.in_text) {
            out.write(self.words, "\n");
        }
    }
}

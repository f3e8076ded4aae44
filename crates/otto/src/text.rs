//! Foreign text made safe to show: one function that every string from a file, a model, a tool or the
//! environment passes before it reaches a terminal or a log line.
//!
//! It does not redact; that happens where text is stored.
//!
//! Invariant: what [`visible`] returns holds no control character, no escape sequence and no character that
//! reorders or hides its neighbours.

use std::borrow::Cow;
use std::fmt::Write as _;

use otto_core::Timestamp;

/// A time as RFC 3339 in UTC, with milliseconds; the form of every time that a program or a person is told.
///
/// # Example
/// ```
/// let at = otto::Timestamp::from_millis(1_000);
/// assert_eq!(otto::text::rfc3339(at), "1970-01-01T00:00:01.000Z");
/// ```
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    i64::try_from(at.millis())
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| at.millis().to_string(), |at| format!("{at:.3}"))
}

/// How line breaks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// Escaped as `\n`: the text stays on one line.
    One,
    /// Kept: the text may span lines.
    Many,
}

/// The text on one line, with every control, direction and invisible character written as an escape.
///
/// # Example
/// ```
/// assert_eq!(otto::text::visible("plain"), "plain");
/// assert_eq!(otto::text::visible("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
/// assert_eq!(otto::text::visible("abc\u{202e}txt.exe"), "abc\\u{202e}txt.exe");
/// ```
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, Lines::One)
}

/// As [`visible`], but line feeds and tabs stay: for text that is shown over several lines.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, Lines::Many)
}

/// As [`visible`], cut to `max_chars` characters of the source with `…` behind them.
#[must_use]
pub fn visible_start(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", visible(&text[..end])),
        None => visible(text).into_owned(),
    }
}

fn escape(text: &str, lines: Lines) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for (c, is_hidden) in classify(text) {
        match c {
            '\n' | '\t' if lines == Lines::Many => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if c.is_control() || is_hidden => {
                write!(shown, "\\u{{{:x}}}", u32::from(c))
                    .expect("writing to a string cannot fail");
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Every character of a text, with whether it hides or reorders text. Control characters are not judged here.
pub(crate) fn classify(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut previous = None;
    let mut in_flag = false;
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        // Tag characters spell the flag of a region behind a black flag; anywhere else they are hidden ASCII.
        let is_tag = ('\u{e0000}'..='\u{e007f}').contains(&c);
        let is_hidden = if is_tag {
            !in_flag
        } else {
            hides(previous, c, rest.peek().copied())
        };
        in_flag = c == '\u{1f3f4}' || (is_tag && in_flag);
        previous = Some(c);
        Some((c, is_hidden))
    })
}

/// Whether `c`, between its neighbours, hides or reorders text. Ordinary emoji sequences and the joiners of
/// Persian or Hindi do not.
fn hides(previous: Option<char>, c: char, next: Option<char>) -> bool {
    let joins_letters = || {
        previous.is_some_and(|before| !before.is_ascii())
            && next.is_some_and(|after| !after.is_ascii())
    };
    match c {
        // Direction marks, embeddings, overrides and isolates.
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        // Zero-width joiner and non-joiner belong between letters of some scripts and between emoji.
        '\u{200c}' | '\u{200d}' => !joins_letters(),
        // Other characters without a picture; line separators break log lines.
        '\u{00ad}'
        | '\u{034f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' => true,
        // Variation selectors follow an emoji or an ideograph; behind ASCII they carry hidden bytes. The
        // keycap emoji (digit, selector, enclosing mark) is the exception.
        '\u{fe00}'..='\u{fe0f}' => {
            previous.is_none_or(|before| before.is_ascii()) && next != Some('\u{20e3}')
        }
        '\u{e0100}'..='\u{e01ef}' => {
            previous.is_none_or(|before| !('\u{3400}'..='\u{323af}').contains(&before))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_is_escaped() {
        for (given, shown) in [
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\rb", "a\\rb"),
            ("user\u{2066}admin", "user\\u{2066}admin"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("tag\u{e0041}\u{e0042}", "tag\\u{e0041}\\u{e0042}"),
            ("a\u{fe01}", "a\\u{fe01}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("line\u{2028}break", "line\\u{2028}break"),
        ] {
            assert_eq!(visible(given), shown);
        }
    }

    #[test]
    fn ordinary_text_of_any_script_survives() {
        for text in [
            "",
            "naïve",
            "می\u{200c}خواهم",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "क्\u{200d}ष",
            "日本語",
        ] {
            assert_eq!(visible(text), text);
        }
        let scotland = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
        assert_eq!(visible(scotland), scotland);
    }

    #[test]
    fn lines_stay_where_asked_for() {
        assert_eq!(visible_lines("a\n\tb\u{7}"), "a\n\tb\\u{7}");
        assert_eq!(visible_start("abcdef", 3), "abc…");
        assert_eq!(visible_start("abc", 3), "abc");
    }
}

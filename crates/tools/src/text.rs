//! Text that goes to a model: bounded, and with nothing hidden in it.
//!
//! Characters that show nothing but change what is read (control characters, direction overrides, tag
//! characters) are written out as `\u{e0041}`. What people need stays: tabs and line ends, the joiners of
//! Persian and of emoji, and the tags of flag emoji.
//!
//! Invariant: revealing a text twice is the same as revealing it once.

use std::borrow::Cow;
use std::fmt::Write;

use otto_sandbox::{is_hidden, may_hide};

// BOUND: enough of a path to recognise it in an error.
const MAX_QUOTED_CHARS: usize = 300;

/// Writes hidden characters out. Also says how many there were.
pub(crate) fn reveal(text: &str) -> (Cow<'_, str>, usize) {
    if !may_hide(text) {
        return (Cow::Borrowed(text), 0);
    }
    let mut hidden = 0;
    let mut shown = String::with_capacity(text.len());
    let mut in_flag = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // U+1F3F4 followed by tags and closed by U+E007F is the flag of a region.
        in_flag = c == '\u{1f3f4}'
            || in_flag && matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
        let keep = in_flag || c == '\u{e007f}' && shown.ends_with(is_flag_tag);
        let lone_return = c == '\r' && rest.peek().is_some_and(|next| *next != '\n');
        if keep || !is_hidden(c) && !lone_return {
            shown.push(c);
        } else {
            hidden += 1;
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        }
    }
    if hidden == 0 {
        (Cow::Borrowed(text), 0)
    } else {
        (Cow::Owned(shown), hidden)
    }
}

const fn is_flag_tag(c: char) -> bool {
    matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}')
}

/// A name as the model or the disk gave it, for use in a message: in backquotes, one line, bounded.
pub(crate) fn quote(name: &str) -> String {
    let mut shown: String = name.chars().take(MAX_QUOTED_CHARS).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    format!("`{}`", one_line(&shown))
}

/// Text without line breaks, tabs and hidden characters, for places where a line is a record.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r', '\t']) {
        let escaped = text
            .replace('\n', "\\n")
            .replace('\r', "\\r")
            .replace('\t', "\\t");
        return Cow::Owned(reveal(&escaped).0.into_owned());
    }
    reveal(text).0
}

/// `text` in at most `max` bytes. Cut at a character, with a note that it was cut.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let note = format!("\n[cut: {} bytes in all, {max} allowed]", text.len());
    text.truncate(floor(&text, max.saturating_sub(note.len())));
    text.push_str(&note);
    text.truncate(floor(&text, max));
    text
}

/// The last character border at or before `at`.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `17 bytes`, `2.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    for (unit, factor) in UNITS {
        if bytes >= factor {
            // Tenths, rounded up: a limit must not look met when it is not.
            let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(factor));
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_written_out() {
        for (text, shown) in [
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("x\u{e0041}\u{e0042}y", "x\\u{e0041}\\u{e0042}y"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\rb", "a\\u{d}b"),
            ("\u{e007f}", "\\u{e007f}"),
            ("a\u{200b}b", "a\\u{200b}b"),
        ] {
            let (revealed, hidden) = reveal(text);
            assert_eq!(revealed, shown);
            assert!(hidden > 0);
            assert_eq!(reveal(&revealed), (Cow::Borrowed(shown), 0));
        }
    }

    #[test]
    fn what_people_write_stays() {
        let england = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
        let family = "👨\u{200d}👩\u{200d}👧";
        for text in [
            "plain\tline\r\n",
            "می\u{200c}خواهم",
            family,
            england,
            "❤\u{fe0f}",
            "naïve Ünïcode 漢字",
        ] {
            assert_eq!(reveal(text), (Cow::Borrowed(text), 0), "{text:?}");
        }
    }

    #[test]
    fn what_is_hidden_is_found_at_every_place() {
        // Text is looked at in steps of this length.
        const STEP: usize = 256;
        for hidden in ["\u{1b}", "\u{202e}", "\u{e0041}", "\r"] {
            for at in 0..2 * STEP + 10 {
                let x = "x".repeat(at);
                for text in [
                    format!("{x}{hidden}{}", "ü".repeat(90)),
                    format!("{x}{hidden}{}", "y".repeat(3 * STEP)),
                    format!("ü{x}{hidden}漢{x}"),
                ] {
                    assert_eq!(reveal(&text).1, 1, "{hidden:?} at {at}: {text:?}");
                }
                for text in [format!("{x}\r\n{x}ü"), format!("ü{x}漢\r\n{x}\r")] {
                    assert_eq!(reveal(&text), (Cow::Borrowed(text.as_str()), 0));
                }
            }
        }
    }

    #[test]
    fn a_cut_text_is_never_longer_than_allowed() {
        let text = "ü".repeat(300);
        for max in 0..=610 {
            let cut = cut(text.clone(), max);
            assert!(cut.len() <= max, "{max}");
            assert!(max < 600 || cut == text, "{max}");
        }
    }

    #[test]
    fn sizes_never_look_smaller_than_they_are() {
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(2 * 1024 * 1024), "2.0 MiB");
        assert_eq!(size(2 * 1024 * 1024 + 1), "2.1 MiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}

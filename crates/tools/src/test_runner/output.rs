//! What every reader of test output gives, and what they share.
//!
//! Output is hostile: readers go through it once, keep a bounded number of failures and never fail. What they do
//! not understand they leave out.

use serde::Serialize;

// BOUND: failures kept while reading; more than are shown, so that the rest can be counted.
pub(super) const MAX_KEPT_FAILURES: usize = 10_000;

// BOUND: bytes of one message while reading.
const MAX_KEPT_MESSAGE_BYTES: usize = 8 * 1024;

/// What was read from the output of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// `None` when the output does not say.
    pub(super) totals: Option<Totals>,
    pub(super) failures: Vec<Failure>,
}

/// Numbers of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

/// One test that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a line to the message, up to a limit.
    pub(super) fn add_line(&mut self, line: &str) {
        if self.message.len() + line.len() < MAX_KEPT_MESSAGE_BYTES {
            if !self.message.is_empty() {
                self.message.push('\n');
            }
            self.message.push_str(line);
        }
    }

    pub(super) fn set_place(&mut self, place: Option<(&str, u64)>) {
        if let Some((file, line)) = place {
            self.file = Some(file.to_owned());
            self.line = Some(line);
        }
    }
}

impl Found {
    pub(super) fn push(&mut self, failure: Failure) {
        if self.failures.len() < MAX_KEPT_FAILURES {
            self.failures.push(failure);
        }
    }
}

/// `src/lib.rs:9:27` and `a.py:5` as file and line.
pub(super) fn place(text: &str) -> Option<(&str, u64)> {
    let mut parts = text.rsplitn(3, ':');
    let last = parts.next()?.parse::<u64>().ok()?;
    let middle = parts.next()?;
    match (middle.parse::<u64>(), parts.next()) {
        (Ok(line), Some(file)) if !file.is_empty() => Some((file, line)),
        (Ok(_), None) => None,
        _ => {
            let file = &text[..text.rfind(':')?];
            (!file.is_empty()).then_some((file, last))
        }
    }
}

/// Text without the sequences that color it.
pub(super) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains('\u{1b}') {
        return text.into_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.peek() == Some(&'[') {
            rest.next();
            // Parameters, then one final letter.
            while rest
                .next_if(|c| matches!(c, '0'..='?' | ' '..='/'))
                .is_some()
            {}
            rest.next_if(|c| matches!(c, '@'..='~'));
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_split_from_the_right() {
        assert_eq!(place("src/lib.rs:9:27"), Some(("src/lib.rs", 9)));
        assert_eq!(place("a b/x.py:5"), Some(("a b/x.py", 5)));
        assert_eq!(place("C:/x.py:5"), Some(("C:/x.py", 5)));
        for text in ["", ":", "x", "x:", ":5", "5:6", "x:y"] {
            assert_eq!(place(text), None, "{text}");
        }
    }

    #[test]
    fn colors_are_taken_away() {
        assert_eq!(
            clean(b"\x1b[31mred\x1b[0m \x1b[1;38;5;9mx\x1b[K\xff"),
            "red x\u{fffd}"
        );
    }
}

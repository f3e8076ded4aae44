//! The body of a PEM block, from behind its `-----BEGIN ...-----` line.
//!
//! Line breaks may be real or written as `\n` (in JSON, YAML or an environment file). A block that is never
//! ended is masked as far as it looks like a body: base64 lines and `Name: value` lines.
//!
//! Invariant: never takes a quote, so that a JSON string around it stays closed.

use crate::redact::tail::Taken;

/// Longer blocks are not keys. (A 16,384-bit RSA key takes 13 KB.)
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longest text between `-----END` and the closing dashes.
const MAX_END_BYTES: usize = 64;

/// Where reading stands.
#[derive(Debug, Clone, Default)]
pub(super) struct PemBody {
    taken: usize,
    /// The last bytes, to recognise `-----END`.
    recent: [u8; 8],
    /// Bytes since `-----END`, once it has come.
    end: Option<usize>,
    /// Dashes in a row, for the close of the end line.
    dashes: usize,
    /// Nothing but spaces has come since the last line break.
    at_line_start: bool,
}

impl PemBody {
    pub(super) fn take(&mut self, text: &str) -> Taken {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let length = match self.step(byte, bytes.get(at + 1).copied()) {
                Step::Take(length) => length,
                Step::Last => {
                    return Taken {
                        bytes: at + 1,
                        is_open: false,
                    };
                }
                Step::NeedMore => {
                    return Taken {
                        bytes: at,
                        is_open: true,
                    };
                }
                Step::Stop => {
                    return Taken {
                        bytes: at,
                        is_open: false,
                    };
                }
            };
            at += length;
            self.taken += length;
            if self.taken > MAX_BODY_BYTES {
                return Taken {
                    bytes: at,
                    is_open: false,
                };
            }
        }
        Taken {
            bytes: at,
            is_open: true,
        }
    }

    fn step(&mut self, byte: u8, next: Option<u8>) -> Step {
        if let Some(since) = &mut self.end {
            *since += 1;
            self.dashes = if byte == b'-' { self.dashes + 1 } else { 0 };
            let belongs =
                byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" -".contains(&byte);
            return match (belongs && *since <= MAX_END_BYTES, self.dashes == 5) {
                (true, true) => Step::Last,
                (true, false) => Step::Take(1),
                (false, _) => Step::Stop,
            };
        }
        match byte {
            b'\n' | b'\r' => self.line_break(1),
            b'\\' => match next {
                Some(b'n' | b'r') => self.line_break(2),
                Some(_) => Step::Stop,
                None => Step::NeedMore,
            },
            // Indented, or behind the colon or comma of a header line.
            b' ' | b'\t' if self.at_line_start || matches!(self.recent[7], b':' | b',') => {
                Step::Take(1)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' | b'-' | b':' | b',' => {
                self.at_line_start = false;
                self.recent.rotate_left(1);
                self.recent[7] = byte;
                if &self.recent == b"-----END" {
                    self.end = Some(0);
                    self.dashes = 0;
                }
                Step::Take(1)
            }
            _ => Step::Stop,
        }
    }

    fn line_break(&mut self, length: usize) -> Step {
        self.at_line_start = true;
        self.recent = [0; 8];
        Step::Take(length)
    }
}

enum Step {
    Take(usize),
    /// This byte is the last one of the block.
    Last,
    /// A backslash at the end of the text: whether it belongs here depends on what follows.
    NeedMore,
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(text: &str) -> &str {
        let whole = PemBody::default().take(text);
        // The same byte by byte.
        let mut body = PemBody::default();
        let (mut at, mut pending) = (0, String::new());
        for c in text.chars() {
            pending.push(c);
            let taken = body.take(&pending);
            at += taken.bytes;
            pending.drain(..taken.bytes);
            if !taken.is_open {
                break;
            }
        }
        assert_eq!(at, whole.bytes, "{text:?}");
        &text[whole.bytes..]
    }

    #[test]
    fn a_block_ends_with_its_end_line() {
        assert_eq!(
            rest("\nMIIB\nAA==\n-----END RSA PRIVATE KEY-----\nrest"),
            "\nrest"
        );
        assert_eq!(rest("\\nMIIB\\n-----END PRIVATE KEY-----\\n\""), "\\n\"");
        assert_eq!(rest("MIIB-----END PRIVATE KEY-----, next"), ", next");
        assert_eq!(
            rest("\n    MIIB\n    AA==\n    -----END PRIVATE KEY-----\n"),
            "\n"
        );
        assert_eq!(
            rest("\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES, 12AB\n\nMIIB\n-----END X-----."),
            "."
        );
    }

    #[test]
    fn a_block_without_an_end_stops_at_what_is_not_a_body() {
        assert_eq!(
            rest(" is the first line of a key"),
            " is the first line of a key"
        );
        assert_eq!(rest("\nMIIB\nthen prose follows"), " prose follows");
        assert_eq!(rest("\\nMIIB\", \"next\""), "\", \"next\"");
        assert_eq!(rest("\nMIIB\\\"}"), "\\\"}");
        assert_eq!(rest("\nMIIB\u{e9}"), "\u{e9}");
        assert_eq!(rest("\nMI-----END \" quote"), "\" quote");
    }

    #[test]
    fn a_body_is_bounded() {
        let long = "A".repeat(3 * MAX_BODY_BYTES);
        assert_eq!(
            PemBody::default().take(&long),
            Taken {
                bytes: MAX_BODY_BYTES + 1,
                is_open: false
            }
        );
    }
}

//! Redaction of JSON that must stay JSON.
//!
//! The text is searched as it stands, and the matches are clipped to the inside of strings. Then each string
//! that has escapes is searched once more as what it means. The walk only knows strings and what lies
//! between them, so it works on any size without recursion.
//!
//! Invariant: brackets, braces, commas, colons and quotes are never replaced, and no escape is cut.

use std::borrow::Cow;
use std::ops::Range;

use crate::redact::scan::{End, Piece, Scan};
use crate::redact::{Redactor, label};

pub(super) fn redact<'t>(redactor: &Redactor, json: &'t str) -> Cow<'t, str> {
    let masked = mask_as_it_stands(redactor, json);
    if !masked.contains('\\') {
        return masked;
    }
    match mask_as_meant(redactor, &masked) {
        Some(text) => Cow::Owned(text),
        None => masked,
    }
}

/// A secret in the text and its label.
struct Mask {
    range: Range<usize>,
    kind: usize,
}

fn mask_as_it_stands<'t>(redactor: &Redactor, json: &'t str) -> Cow<'t, str> {
    if redactor.plan.is_surely_clean(json) {
        return Cow::Borrowed(json);
    }
    let masks = find_masks(redactor, json);
    if masks.is_empty() {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut written = 0;
    let mut masks = masks.iter().peekable();
    for token in Tokens::new(json) {
        while masks
            .next_if(|mask| mask.range.end <= token.range.start)
            .is_some()
        {}
        let touching: Vec<&Mask> =
            std::iter::from_fn(|| masks.next_if(|mask| mask.range.end <= token.range.end))
                .collect();
        // A mask that reaches beyond this token is looked at again for the next one.
        let reaching = masks
            .peek()
            .filter(|mask| mask.range.start < token.range.end)
            .copied();
        for mask in touching.into_iter().chain(reaching) {
            let (range, text) = match token.kind {
                TokenKind::StringInside => {
                    let range = token.clip(json, &mask.range);
                    (
                        range.start.max(written)..range.end,
                        label(redactor.plan.kind(mask.kind)),
                    )
                }
                TokenKind::Scalar => (
                    token.range.start.max(written)..token.range.end,
                    format!("\"{}\"", label(redactor.plan.kind(mask.kind))),
                ),
            };
            if !range.is_empty() {
                out.push_str(&json[written..range.start]);
                out.push_str(&text);
                written = range.end;
            }
        }
    }
    out.push_str(&json[written..]);
    Cow::Owned(out)
}

fn find_masks(redactor: &Redactor, json: &str) -> Vec<Mask> {
    let mut masks: Vec<Mask> = Vec::new();
    let close = |masks: &mut Vec<Mask>, at: usize| {
        if let Some(last) = masks.last_mut()
            && last.range.end == usize::MAX
        {
            last.range.end = at;
        }
    };
    Scan::new(&redactor.plan).advance(
        &redactor.plan,
        json,
        End::OfText,
        &mut |piece| match piece {
            Piece::Plain { at, .. } => close(&mut masks, at),
            Piece::Masked { kind, at } => {
                close(&mut masks, at);
                masks.push(Mask {
                    range: at..usize::MAX,
                    kind,
                });
            }
        },
    );
    close(&mut masks, json.len());
    masks
}

/// Redacts the meaning of each string that has escapes. `None`: nothing was found.
fn mask_as_meant(redactor: &Redactor, json: &str) -> Option<String> {
    let mut out = String::new();
    let mut written = 0;
    for token in Tokens::new(json) {
        let inside = &json[token.range.clone()];
        if token.kind != TokenKind::StringInside || !inside.contains('\\') {
            continue;
        }
        let quoted = &json[token.range.start - 1..(token.range.end + 1).min(json.len())];
        // What is no JSON string has no meaning to search.
        let Ok(meant) = serde_json::from_str::<String>(quoted) else {
            continue;
        };
        if let Cow::Owned(masked) = redactor.redact(&meant) {
            let quoted =
                serde_json::to_string(&masked).expect("a text always becomes a JSON string");
            out.push_str(&json[written..token.range.start - 1]);
            out.push_str(&quoted);
            written = token.range.end + 1;
        }
    }
    (written > 0).then(|| out + json.get(written..).unwrap_or_default())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    /// What stands between two quotes.
    StringInside,
    /// A number, `true`, `false` or `null`.
    Scalar,
}

#[derive(Debug)]
struct Token {
    kind: TokenKind,
    range: Range<usize>,
}

impl Token {
    /// The part of a range that lies in this string, widened so that no escape is cut.
    fn clip(&self, json: &str, range: &Range<usize>) -> Range<usize> {
        let start = range.start.max(self.range.start);
        let end = range.end.min(self.range.end);
        let mut clipped = start..end;
        let mut at = self.range.start;
        while at < self.range.end {
            let length = escape_length(json, at).min(self.range.end - at);
            if length > 1 && at < start && start < at + length {
                clipped.start = at;
            }
            if length > 1 && at < end && end < at + length {
                clipped.end = at + length;
            }
            if at >= end {
                break;
            }
            at += length;
        }
        clipped
    }
}

/// Length of the escape at this place, or 1 where there is none.
fn escape_length(json: &str, at: usize) -> usize {
    match json.as_bytes()[at..] {
        [b'\\', b'u', ..] => 6,
        [b'\\', _, ..] => 2,
        _ => 1,
    }
}

/// Strings and scalars of a JSON text, in order.
struct Tokens<'t> {
    json: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    const fn new(json: &'t str) -> Self {
        Self { json, at: 0 }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let bytes = self.json.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    let start = self.at + 1;
                    let mut end = start;
                    while let Some(&byte) = bytes.get(end) {
                        match byte {
                            b'"' => break,
                            b'\\' => end += 2,
                            _ => end += 1,
                        }
                    }
                    self.at = end + 1;
                    // A backslash at the very end of a text that is no JSON.
                    let end = self.json.floor_char_boundary(end.min(bytes.len()));
                    return Some(Token {
                        kind: TokenKind::StringInside,
                        range: start..end,
                    });
                }
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'[' | b']' | b'{' | b'}' => {
                    self.at += 1
                }
                _ => {
                    let start = self.at;
                    let ends = |b: &u8| b" \t\n\r,:[]{}\"".contains(b);
                    let length = bytes[start..]
                        .iter()
                        .position(ends)
                        .unwrap_or(bytes.len() - start);
                    self.at = start + length;
                    return Some(Token {
                        kind: TokenKind::Scalar,
                        range: start..self.at,
                    });
                }
            }
        }
        None
    }
}

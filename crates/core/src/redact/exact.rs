//! Secrets whose values are known: found in every form in which they leak.
//!
//! A value is searched as it is, escaped for JSON, URL-encoded, and in base64 (also from the middle of a
//! longer base64 text, where a value can begin at three positions of a group). A value of several lines is
//! searched line by line too.
//!
//! Invariant: no form is shorter than a value that may be masked, and none is longer than what is held back
//! while streaming.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use regex::Regex;

use crate::redact::config::{ExactSecret, RedactionProblem};

/// Shorter values are not masked: they occur in ordinary text.
pub const MIN_EXACT_BYTES: usize = 8;

/// Longer values are searched in pieces of this size.
// BOUND: with the longest form (URL-encoded, three bytes for one) what streaming holds back for a value.
const PIECE_BYTES: usize = 1_024;
/// As much of a value as must be there to mask it where the text ends in its middle.
const MIN_CUT_OFF_BYTES: usize = 12;
/// Most bytes of one value. A secret is a key, not a document.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// A set of texts to find.
pub(super) struct Literals {
    /// Each text with the kind it stands for.
    kinds: BTreeMap<String, usize>,
    /// Finds any of them, the longest first. `None` when there are none.
    any: Option<Regex>,
    /// Whether a text begins with this byte.
    first_bytes: [bool; 256],
    longest: usize,
}

impl Literals {
    pub(super) fn new(kinds: BTreeMap<String, usize>) -> Result<Self, regex::Error> {
        let mut first_bytes = [false; 256];
        for byte in kinds.keys().filter_map(|text| text.bytes().next()) {
            first_bytes[usize::from(byte)] = true;
        }
        let mut texts: Vec<&str> = kinds.keys().map(String::as_str).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let longest = texts.first().map_or(0, |text| text.len());
        let any = if texts.is_empty() {
            None
        } else {
            let escaped: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
            Some(
                regex::RegexBuilder::new(&escaped.join("|"))
                    .size_limit(64 << 20)
                    .build()?,
            )
        };
        Ok(Self {
            any,
            first_bytes,
            longest,
            kinds,
        })
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.any.as_ref().is_some_and(|any| any.is_match(text))
    }

    /// The first text at or after `from`, with its kind.
    pub(super) fn find_at(&self, text: &str, from: usize) -> Option<(Range<usize>, usize)> {
        let range = self.any.as_ref()?.find_at(text, from)?.range();
        let kind = *self.kinds.get(&text[range.clone()])?;
        Some((range, kind))
    }

    /// The earliest place at or after `from` where the rest of `text` is the beginning of one of the texts;
    /// the end if there is none.
    pub(super) fn unfinished_from(&self, text: &str, from: usize) -> usize {
        self.unfinished(text, from).map_or(text.len(), |(at, _)| at)
    }

    /// Where a value begins that the text ends in the middle of, if enough of it is there to be recognised.
    pub(super) fn cut_off(&self, text: &str) -> Option<(usize, usize)> {
        self.unfinished(text, 0)
            .filter(|(at, _)| text.len() - at >= MIN_CUT_OFF_BYTES)
    }

    fn unfinished(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        let earliest = from.max(text.len().saturating_sub(self.longest));
        (earliest..text.len())
            .filter(|at| self.first_bytes[usize::from(bytes[*at])])
            .find_map(|at| {
                let rest = text.get(at..)?;
                // In sorted order a text that begins with `rest` is the first one not below it.
                let at_least_rest = (std::ops::Bound::Included(rest), std::ops::Bound::Unbounded);
                let (next, kind) = self.kinds.range::<str, _>(at_least_rest).next()?;
                next.starts_with(rest).then_some((at, *kind))
            })
    }
}

/// The texts by which a secret is found; none when the value is too short.
pub(super) fn forms(secret: &ExactSecret) -> Result<Vec<String>, RedactionProblem> {
    if secret.value.len() > MAX_VALUE_BYTES {
        let what = format!(
            "the value has {} bytes; at most {MAX_VALUE_BYTES} are allowed",
            secret.value.len()
        );
        return Err(RedactionProblem::new(&secret.name, what));
    }
    let value = secret.value.trim();
    let lines = value.lines().map(str::trim);
    let mut forms = Vec::new();
    for text in std::iter::once(value).chain(lines) {
        for piece in pieces(text).filter(|piece| piece.len() >= MIN_EXACT_BYTES) {
            push_forms(piece, &mut forms);
        }
    }
    Ok(forms)
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn push_forms(piece: &str, forms: &mut Vec<String>) {
    let json = json_escaped(piece, JsonStyle::Unicode);
    forms.push(json.replace('/', "\\/"));
    forms.push(json);
    forms.push(json_escaped(piece, JsonStyle::Ascii));
    forms.extend([HexCase::Upper, HexCase::Lower].map(|case| url_encoded(piece, case)));
    forms.extend(
        [HexCase::Upper, HexCase::Lower].map(|case| url_encoded(piece, case).replace("%20", "+")),
    );
    for skipped in 0..3 {
        let standard = base64_inside(piece.as_bytes(), skipped);
        forms.push(standard.replace('+', "-").replace('/', "_"));
        forms.push(standard);
    }
    forms.push(piece.to_owned());
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum JsonStyle {
    /// Characters outside ASCII stand for themselves.
    Unicode,
    /// They are escaped.
    Ascii,
}

fn json_escaped(text: &str, style: JsonStyle) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (!c.is_ascii() && style == JsonStyle::Ascii) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("a String takes every text");
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[derive(Clone, Copy)]
enum HexCase {
    Upper,
    Lower,
}

fn url_encoded(text: &str, case: HexCase) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            match case {
                HexCase::Upper => write!(out, "%{byte:02X}"),
                HexCase::Lower => write!(out, "%{byte:02x}"),
            }
            .expect("a String takes every text");
        }
    }
    out
}

/// The base64 characters that `bytes` alone determine when `skipped` other bytes stand before them in the
/// same group.
fn base64_inside(bytes: &[u8], skipped: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| {
        let byte = (at / 8)
            .checked_sub(skipped)
            .and_then(|at| bytes.get(at))
            .copied()
            .unwrap_or(0);
        usize::from(byte >> (7 - at % 8) & 1)
    };
    let (first, end) = ((skipped * 8).div_ceil(6), (skipped + bytes.len()) * 8 / 6);
    (first..end)
        .map(|at| (0..6).fold(0, |sextet, offset| sextet << 1 | bit(at * 6 + offset)))
        .map(|sextet| char::from(ALPHABET[sextet]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms_of(value: &str) -> Vec<String> {
        forms(&ExactSecret {
            name: "s".to_owned(),
            value: value.to_owned(),
        })
        .unwrap()
    }

    #[test]
    fn base64_is_found_wherever_it_begins() {
        assert_eq!(base64_inside(b"foobar", 0), "Zm9vYmFy");
        // Of "xfoobar", without the characters that the "x" has a part in.
        assert_eq!(base64_inside(b"foobar", 1), "Zvb2Jhc");
        assert!("eGZvb2Jhcg==".contains(&base64_inside(b"foobar", 1)));
        assert!("eHlmb29iYXI=".contains(&base64_inside(b"foobar", 2)));
        assert!("eHl6Zm9vYmFy".contains(&base64_inside(b"foobar", 0)));
    }

    #[test]
    fn a_value_is_known_in_every_form() {
        let forms = forms_of("pa\"ss/w\u{f6}rd \u{1F600}");
        for form in [
            "pa\"ss/w\u{f6}rd \u{1F600}",
            "pa\\\"ss/w\u{f6}rd \u{1F600}",
            "pa\\\"ss\\/w\u{f6}rd \u{1F600}",
            "pa\\\"ss/w\\u00f6rd \\ud83d\\ude00",
            "pa%22ss%2Fw%C3%B6rd%20%F0%9F%98%80",
            "pa%22ss%2fw%c3%b6rd+%f0%9f%98%80",
        ] {
            assert!(
                forms.iter().any(|known| known == form),
                "{form}: {forms:#?}"
            );
        }
    }

    #[test]
    fn short_values_have_no_forms() {
        assert!(forms_of("").is_empty());
        assert!(forms_of("1234567").is_empty());
        assert!(forms_of("  1234567\n").is_empty());
        assert!(
            forms_of("12345678")
                .iter()
                .all(|form| form.len() >= MIN_EXACT_BYTES)
        );
    }

    #[test]
    fn lines_and_pieces_are_searched_alone() {
        let forms = forms_of("first line\nsecond line\nx\n");
        assert!(forms.iter().any(|form| form == "second line"));
        assert!(
            forms
                .iter()
                .any(|form| form == "first line\\nsecond line\\nx")
        );
        assert!(!forms.iter().any(|form| form == "x"));
        let long = forms_of(&"0123456789".repeat(1_000));
        assert!(long.iter().all(|form| form.len() <= 3 * PIECE_BYTES));
        let too_long = ExactSecret {
            name: "s".to_owned(),
            value: "x".repeat(MAX_VALUE_BYTES + 1),
        };
        assert!(super::forms(&too_long).is_err());
    }

    #[test]
    fn an_unfinished_text_is_held_from_its_beginning() {
        let kinds = ["secret-one", "secret-two", "other"]
            .into_iter()
            .map(str::to_owned)
            .zip(0..)
            .collect();
        let literals = Literals::new(kinds).unwrap();
        for (text, expected) in [
            ("", 0),
            ("plain", 5),
            ("a secret-", 2),
            ("a secret-t", 2),
            ("a secret-x", 10),
            ("a sesecre", 4),
            ("x oth", 2),
            ("x other", 2),
            ("x other ", 8),
            ("\u{e9}s", 2),
        ] {
            assert_eq!(literals.unfinished_from(text, 0), expected, "{text}");
        }
        assert_eq!(literals.unfinished_from("a secret-", 3), 9);
        assert_eq!(literals.find_at("x other secret-two", 3), Some((8..18, 1)));
    }
}

//! JSON text, written straight into a buffer.
//!
//! Strings are copied in runs: eight bytes are tested at once for a character that needs an escape, since
//! prompts and tool results are long and rarely need one.
//!
//! Invariant: what [`push_string`] writes is a valid JSON string that reads back as the same text.

use serde_json::value::RawValue;

/// Appends `text` as a JSON string, quotes included.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `,"name":` or, as the first of its object, `"name":`.
pub(super) fn push_key(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_string(out, name);
    out.push(':');
}

/// Whether `text` is one JSON value that begins with `{`. The syntax is checked without recursion.
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|value| value.get().starts_with('{'))
}

/// Appends `text` with the escapes JSON demands, without quotes.
fn push_escaped(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let mut done = 0;
    while let Some(offset) = first_special(&bytes[done..]) {
        let at = done + offset;
        // A special byte is ASCII, so `at` is a character boundary.
        out.push_str(&text[done..at]);
        match bytes[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(control >> 4)]));
                out.push(char::from(HEX[usize::from(control & 15)]));
            }
        }
        done = at + 1;
    }
    out.push_str(&text[done..]);
}

/// Position of the first byte that JSON strings must escape: a quote, a backslash or a control character.
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut words = bytes.chunks_exact(8);
    let mut position = 0;
    for word in words.by_ref() {
        let word = u64::from_le_bytes(word.try_into().expect("chunks_exact gives eight bytes"));
        // The classic tests for a zero byte and for a byte below a bound. A borrow may mark bytes above the
        // first hit too, but never below it, and only the first is used.
        let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let quote = is_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = is_zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (quote | backslash | control) & HIGH;
        if hits != 0 {
            return Some(position + hits.trailing_zeros() as usize / 8);
        }
        position += 8;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    words
        .remainder()
        .iter()
        .position(is_special)
        .map(|offset| position + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_reads_back_at_every_position() {
        for special in (0..=0x7fu8).map(char::from).chain([
            '\u{80}',
            'ü',
            '\u{2028}',
            '日',
            '🚀',
            '\u{10ffff}',
        ]) {
            for length in 0..20 {
                for at in 0..=length {
                    let mut text = "a".repeat(length);
                    text.insert(at, special);
                    let mut json = String::new();
                    push_string(&mut json, &text);
                    assert_eq!(
                        serde_json::from_str::<String>(&json).unwrap(),
                        text,
                        "{json}"
                    );
                }
            }
        }
    }

    #[test]
    fn neighbors_of_a_special_byte_do_not_hide_it() {
        for text in [
            "\u{1f}\"\\",
            "!\"#$%&'(",
            "\" ! \" ! \"",
            "\u{7f}\u{1f}\u{20}\u{21}",
            "ÿ\u{1}ÿ\\ÿ\"",
        ] {
            let mut json = String::new();
            push_string(&mut json, text);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn objects_are_told_apart_without_recursion() {
        assert!(is_object(" {\"a\":[1]} "));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(is_object(&deep));
        for text in ["", "[]", "1", "null", "{", "{}}", "{\"a\":}", "{} {}"] {
            assert!(!is_object(text), "{text}");
        }
    }
}

//! Text from outside, made fit to be shown.
//!
//! Error bodies, headers and messages of the transport may repeat the key, hold control sequences or be
//! endless. Everything that ends up in a failure passes through here.
//!
//! Invariant: cleaned text holds neither the key nor a control character, and has a bounded length. The key
//! is masked before the text is cut, so that no part of it survives at the edge.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// Longest cleaned text, in characters.
const MAX_CHARS: usize = 1_000;

/// Longest request id.
const MAX_ID_CHARS: usize = 128;

/// How the vendor's keys begin. Keys of others, such as a gateway's, are masked too.
const KEY_PREFIX: &str = "sk-ant-";

const MASK: &str = "[key]";

/// Masks one key.
#[derive(Clone)]
pub(crate) struct Masker(SecretString);

impl Masker {
    pub(crate) fn new(key: SecretString) -> Self {
        Self(key)
    }

    /// Text for a failure's message.
    pub(crate) fn clean(&self, text: &str) -> Arc<str> {
        self.shown(text, MAX_CHARS)
    }

    /// An id that the provider gave.
    pub(crate) fn clean_id(&self, text: &str) -> Arc<str> {
        self.shown(text, MAX_ID_CHARS)
    }

    fn shown(&self, text: &str, max_chars: usize) -> Arc<str> {
        let masked = mask_prefixed(&text.replace(self.0.expose_secret(), MASK));
        let mut shown = String::with_capacity(masked.len().min(4 * max_chars));
        for (count, character) in masked.chars().enumerate() {
            if count == max_chars {
                shown.push('…');
                break;
            }
            if is_harmless(character) {
                shown.push(character)
            } else {
                shown.extend(character.escape_default())
            }
        }
        shown.into()
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker([key])")
    }
}

/// Replaces everything that looks like a key of the vendor.
fn mask_prefixed(text: &str) -> String {
    let mut parts = text.split(KEY_PREFIX);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(MASK);
        let is_key =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        masked.push_str(part.trim_start_matches(is_key));
    }
    masked
}

/// Whether a character can be shown as it is: no control and no invisible formatting character, among them
/// those that turn the direction of text or hide tags.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-ant-api03-SECRET_secret-0123456789";

    fn clean(text: &str) -> String {
        Masker::new(KEY.into()).clean(text).to_string()
    }

    #[test]
    fn the_key_is_masked_wherever_it_stands() {
        assert_eq!(
            clean(&format!("invalid x-api-key: {KEY}")),
            "invalid x-api-key: [key]"
        );
        assert_eq!(clean(&format!("{KEY}{KEY}")), "[key][key]");
        assert_eq!(
            clean("other sk-ant-api03-AAAA_b-c, and more"),
            "other [key], and more"
        );
        let edge = format!("{}{KEY}", "a".repeat(MAX_CHARS - 10));
        assert!(!clean(&edge).contains("SECRET"));
        let gateway = Masker::new("gateway/key+1".into());
        assert_eq!(
            &*gateway.clean("no such key: gateway/key+1!"),
            "no such key: [key]!"
        );
    }

    #[test]
    fn control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(
            clean("a\u{1b}[31mb\nc\u{202e}d"),
            "a\\u{1b}[31mb\\nc\\u{202e}d"
        );
        assert_eq!(clean("Grüße 日本 🚀"), "Grüße 日本 🚀");
        assert_eq!(clean(&"ü".repeat(100_000)).chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn debug_shows_nothing() {
        assert!(!format!("{:?}", Masker::new(KEY.into())).contains("SECRET"));
    }
}

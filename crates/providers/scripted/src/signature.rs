//! Signatures of thinking, which bind a thinking block to what stood before it.
//!
//! The vendor's signatures are opaque; these carry, in hexadecimal, what the server must know when the block
//! comes back: which model made it, the digest of the prefix, the hash of the shown text, and the tokens that
//! were billed for it. A checksum tells a signature of this server from anything else.
//!
//! Invariant: `read(sign(s)) == Some(s)`; changing any character makes a signature unreadable.

use std::fmt::Write as _;

use crate::digest::{Digest, hash_number, short_hash};

const MARK: &str = "EqOtto";
const KEY: &[u8] = b"otto scripted model, thinking signature";

/// What a signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) model: u64,
    pub(crate) prefix: Digest,
    pub(crate) text: u64,
    pub(crate) tokens: u64,
}

impl Signature {
    /// A signature for a block of `text` as the client will see it.
    pub(crate) fn new(model: &str, prefix: Digest, text: &str, tokens: u64) -> Self {
        Self {
            model: hash_number(model.as_bytes()),
            prefix,
            text: hash_number(text.as_bytes()),
            tokens,
        }
    }

    /// Whether `model` made the block.
    pub(crate) fn is_by(&self, model: &str) -> bool {
        self.model == hash_number(model.as_bytes())
    }

    /// Whether the block held `text`.
    pub(crate) fn is_of(&self, text: &str) -> bool {
        self.text == hash_number(text.as_bytes())
    }

    /// The signature as text.
    pub(crate) fn sign(&self) -> String {
        let payload = self.payload();
        let mut text = String::with_capacity(MARK.len() + 2 * (PAYLOAD + CHECK));
        text.push_str(MARK);
        for byte in payload.iter().chain(&check(&payload)) {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        text
    }

    /// Reads a signature; `None` if this server did not make it.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(MARK)?.as_bytes();
        if hex.len() != 2 * (PAYLOAD + CHECK) {
            return None;
        }
        let mut bytes = [0; PAYLOAD + CHECK];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = [hex_digit(pair[0])?, hex_digit(pair[1])?];
            *byte = high << 4 | low;
        }
        let (payload, given) = bytes.split_first_chunk::<PAYLOAD>()?;
        if check(payload) != *given {
            return None;
        }
        let number =
            |range: std::ops::Range<usize>| payload[range].try_into().ok().map(u64::from_le_bytes);
        let prefix = payload[8..24].try_into().ok()?;
        Some(Self {
            model: number(0..8)?,
            prefix,
            text: number(24..32)?,
            tokens: number(32..40)?,
        })
    }

    fn payload(&self) -> [u8; PAYLOAD] {
        let mut payload = [0; PAYLOAD];
        payload[0..8].copy_from_slice(&self.model.to_le_bytes());
        payload[8..24].copy_from_slice(&self.prefix);
        payload[24..32].copy_from_slice(&self.text.to_le_bytes());
        payload[32..40].copy_from_slice(&self.tokens.to_le_bytes());
        payload
    }
}

const PAYLOAD: usize = 40;
const CHECK: usize = 8;

fn check(payload: &[u8; PAYLOAD]) -> [u8; CHECK] {
    let hash = short_hash(&[KEY, payload].concat());
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash[..CHECK]);
    check
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_back_and_cannot_be_changed() {
        let signature = Signature::new("claude-opus-5-5", [7; 16], "let me see", 42);
        let text = signature.sign();
        assert_eq!(Signature::read(&text), Some(signature));
        assert!(signature.is_by("claude-opus-5-5") && !signature.is_by("claude-opus-5"));
        assert!(signature.is_of("let me see") && !signature.is_of("let me sea"));
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[position] = if changed[position] == b'0' {
                b'1'
            } else {
                b'0'
            };
            assert_eq!(
                Signature::read(&String::from_utf8(changed).unwrap()),
                None,
                "position {position}"
            );
        }
        assert_eq!(Signature::read(""), None);
        assert_eq!(
            Signature::read("EqQBCgIYAhIMOTTOexampleSignature0001=="),
            None
        );
    }
}

//! Text that shows all it says.
//!
//! Characters that show nothing but change what is read (control characters, direction overrides, tag characters)
//! must not reach a model unseen. Which they are, and whether a text has any, is said here; writing them out is the
//! tools' work.
//!
//! Invariant: what [`open_text`] returns is UTF-8 without a character of [`is_hidden`].

// BOUND: a step without a branch in it, which the compiler turns into a few wide instructions.
const STEP: usize = 256;

/// Whether a character shows nothing, or only what it does to its neighbors.
#[must_use]
pub const fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' | '\r' => false,
        // C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        // Direction overrides and isolates, zero-width space, word joiner and its invisible relatives.
        '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' => {
            true
        }
        // Interlinear annotations, tags, and the variation selectors that can carry bytes.
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}' => true,
        // Fillers that look like nothing.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{180e}' => true,
        _ => false,
    }
}

/// Whether a text may hide something: it has a hidden character, or a carriage return before anything but a line
/// end. Most text is plain ASCII, and is looked at in large steps; what is between them is looked at by character.
#[must_use]
pub fn may_hide(text: &str) -> bool {
    let mut rest = text;
    loop {
        // A plain step ends where a character ends.
        rest = &rest[plain_bytes(rest.as_bytes())..];
        let (odd, after) = rest.split_at(rest.floor_char_boundary(STEP));
        if odd.chars().any(is_hidden) || has_lone_return(rest.as_bytes(), odd.len()) {
            return true;
        }
        if after.is_empty() {
            return false;
        }
        rest = after;
    }
}

/// The bytes as text, if they are UTF-8 that hides nothing. What is plain from the start is looked at once, not once
/// for each of both questions.
#[expect(
    unsafe_code,
    reason = "a second look at megabytes takes as long as a third of all that is done with them"
)]
pub(crate) fn open_text(bytes: Vec<u8>) -> Option<String> {
    let rest = str::from_utf8(&bytes[plain_bytes(&bytes)..]).ok()?;
    // SAFETY: what stands before `rest` is ASCII, as `plain_bytes` has seen, and `rest` is UTF-8.
    (!may_hide(rest)).then(|| unsafe { String::from_utf8_unchecked(bytes) })
}

/// How many bytes from the start are printable ASCII, tabs and line feeds, in whole steps.
fn plain_bytes(bytes: &[u8]) -> usize {
    let is_plain = |step: &&[u8; STEP]| {
        // One comparison for both ends of the printable range: what is above it, DEL too, becomes negative.
        let is_printable = |byte: u8| byte.wrapping_add(1).cast_signed() > 0x20;
        let plain = |byte: u8| is_printable(byte) | (byte == b'\n') | (byte == b'\t');
        step.iter().fold(true, |all, byte| all & plain(*byte))
    };
    bytes.as_chunks().0.iter().take_while(is_plain).count() * STEP
}

/// Whether a carriage return among the first `length` bytes stands anywhere but before a line end.
fn has_lone_return(bytes: &[u8], length: usize) -> bool {
    let followed_wrong = |at: usize| bytes.get(at + 1).is_some_and(|next| *next != b'\n');
    let first = bytes[..length].iter().enumerate();
    first
        .filter(|(_, byte)| **byte == b'\r')
        .any(|(at, _)| followed_wrong(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_looked_at_in_a_step_as_it_is_between_steps() {
        for byte in 0..=u8::MAX {
            let mut bytes = [b'x'; STEP];
            bytes[77] = byte;
            let is_plain = plain_bytes(&bytes) == STEP;
            let c = char::from(byte);
            let expected = c.is_ascii() && c != '\r' && !is_hidden(c);
            assert_eq!(is_plain, expected, "{byte:#x}");
        }
    }

    #[test]
    fn open_text_is_utf_8_that_hides_nothing() {
        for length in [0, 1, STEP - 1, STEP, 3 * STEP + 5] {
            let x = "x".repeat(length);
            for open in [x.clone(), format!("{x}\r\n{x}"), format!("ü{x}漢{x}")] {
                assert_eq!(open_text(open.clone().into_bytes()), Some(open));
            }
            for hidden in ["\0", "\u{1b}", "\u{202e}", "\u{e0041}", "\rx"] {
                let text = format!("{x}{hidden}{x}");
                assert!(may_hide(&text), "{text:?}");
                assert_eq!(open_text(text.into_bytes()), None);
            }
            for broken in [&b"\xff"[..], b"\xe6\xbc", b"\xc0\x80"] {
                assert_eq!(open_text([x.as_bytes(), broken].concat()), None);
            }
        }
    }
}

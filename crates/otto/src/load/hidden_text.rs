//! Characters in a prompt that a person does not see and a model reads.
//!
//! A prompt that came with a cloned repository can carry instructions in invisible characters. This module
//! points at them; it removes nothing, since some are legitimate in some scripts.

use crate::text::classify;

/// The first hidden character of a text, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) first: char,
    pub(crate) count: usize,
}

/// Looks for hidden characters; line feeds, carriage returns and tabs are ordinary.
pub(crate) fn find(text: &str) -> Option<Hidden> {
    let is_odd_control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let mut hidden = classify(text).filter(|(c, is_hidden)| *is_hidden || is_odd_control(*c));
    let (first, _) = hidden.next()?;
    Some(Hidden {
        first,
        count: 1 + hidden.count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_counted() {
        assert_eq!(
            find("Review.\n\tBe brief. می\u{200c}خواهم 👩\u{200d}👧"),
            None
        );
        assert_eq!(
            find("a\u{200b}b\u{e0041}\u{e0042}"),
            Some(Hidden {
                first: '\u{200b}',
                count: 3
            })
        );
        assert_eq!(
            find("bell\u{7}"),
            Some(Hidden {
                first: '\u{7}',
                count: 1
            })
        );
    }
}

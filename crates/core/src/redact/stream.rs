//! Redaction of a text that arrives in pieces.
//!
//! Invariant: all that was put out, joined, is what [`Redactor::redact`](crate::redact::Redactor::redact)
//! makes of the whole text.

use std::fmt;
use std::sync::Arc;

use crate::redact::operator::MAX_LINE_PIECE_BYTES;
use crate::redact::plan::Plan;
use crate::redact::push_label;
use crate::redact::scan::{End, Piece, Scan};

/// Most bytes that are held back between two pieces.
// BOUND: a piece of a line for operator patterns; exact values and built-in patterns hold less. The rest is
// context before it.
pub const MAX_HELD_BYTES: usize = MAX_LINE_PIECE_BYTES + 1_024;

/// Masks the secrets of one text that arrives in pieces. Made by
/// [`Redactor::stream`](crate::redact::Redactor::stream).
///
/// It holds back what may still become a secret, and nothing else: ordinary text passes at once, but for the
/// first letters of what could be a key.
pub struct StreamRedactor {
    plan: Arc<Plan>,
    scan: Scan,
    /// What is held back, after some context that has been put out.
    held: String,
}

impl StreamRedactor {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            scan: Scan::new(&plan),
            plan,
            held: String::new(),
        }
    }

    /// Takes the next piece and returns what is certain by now; maybe nothing.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        self.held.push_str(piece);
        self.advance(End::OfPiece, &mut out);
        let unneeded = self.scan.discard(&self.held);
        self.held.drain(..unneeded);
        out
    }

    /// Ends the text and returns the rest.
    #[must_use]
    pub fn finish(mut self) -> String {
        let mut out = String::new();
        self.advance(End::OfText, &mut out);
        out
    }

    /// Bytes kept between two pieces, context included.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    fn advance(&mut self, end: End, out: &mut String) {
        self.scan
            .advance(&self.plan, &self.held, end, &mut |piece| match piece {
                Piece::Plain { text, .. } => out.push_str(text),
                Piece::Masked { kind, .. } => push_label(out, self.plan.kind(kind)),
            });
    }
}

impl fmt::Debug for StreamRedactor {
    /// Never shows what is held back: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRedactor")
            .field("held_bytes", &self.held.len())
            .finish_non_exhaustive()
    }
}

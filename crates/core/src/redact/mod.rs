//! Redaction: secrets are masked before anything is stored or shown.
//!
//! Three sources say what a secret is: built-in patterns of the common credential formats (`rules.rs`),
//! patterns of the operator (`operator.rs`), and the exact values of secrets that Otto itself holds
//! (`exact.rs`), in the forms in which they leak. Each match becomes `[redacted:KIND]`.
//!
//! [`Redactor::redact`] takes a whole text, [`Redactor::redact_json`] a JSON text that must stay JSON, and
//! [`StreamRedactor`] a text in pieces. All three run the same scan (`scan.rs`).
//!
//! This module does not decide where redaction is applied, and it does not find secrets that look like
//! ordinary words.
//!
//! Invariants, checked by property tests:
//! - the output does not depend on how a text is cut into pieces;
//! - redacting twice changes nothing more. (An operator pattern with a look-around such as `\b` or `$` can
//!   break this one where it stands next to masked text.);
//! - a JSON text stays JSON under `redact_json`;
//! - what is held back while streaming is bounded by [`MAX_HELD_BYTES`].

mod config;
mod exact;
mod json;
mod operator;
mod pem;
mod plan;
mod rules;
mod scan;
mod shape;
mod sieve;
mod stream;
mod tail;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use config::{ExactSecret, OperatorPattern, RedactionConfig, RedactionError, RedactionProblem};
pub use exact::MIN_EXACT_BYTES;
pub use operator::MAX_LINE_PIECE_BYTES;
pub use stream::{MAX_HELD_BYTES, StreamRedactor};

use plan::Plan;
use scan::{Piece, Scan};

/// Masks secrets. Cheap to clone.
#[derive(Clone)]
pub struct Redactor {
    plan: Arc<Plan>,
}

impl Redactor {
    /// A redactor of the built-in patterns alone.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(&RedactionConfig::default())
            .expect("the built-in patterns compile; a test builds them")
    }

    /// A redactor of the built-in patterns and those of `config`.
    ///
    /// # Errors
    /// All problems of the configuration at once.
    pub fn new(config: &RedactionConfig) -> Result<Self, RedactionError> {
        Ok(Self {
            plan: Arc::new(Plan::new(config)?),
        })
    }

    /// Compiles what the first text would have to wait for: for a thread that has nothing else to do meanwhile.
    pub fn prepare(&self) {
        self.plan.sieve.prepare();
    }

    /// The text with every secret masked. Clean text is returned as it is.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.plan.is_surely_clean(text) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut masked = false;
        Scan::new(&self.plan).advance(
            &self.plan,
            text,
            scan::End::OfText,
            &mut |piece| match piece {
                Piece::Plain { text, .. } => out.push_str(text),
                Piece::Masked { kind, .. } => {
                    masked = true;
                    push_label(&mut out, self.plan.kind(kind));
                }
            },
        );
        if masked {
            Cow::Owned(out)
        } else {
            Cow::Borrowed(text)
        }
    }

    /// A JSON text with every secret masked, and still JSON: only the inside of strings is replaced, and a
    /// number that is a secret becomes a string. Strings with escapes are also searched as what they mean.
    /// What needs no masking keeps its bytes.
    ///
    /// A text that is not JSON is treated as far as its quotes go; prefer [`redact`](Self::redact) for it.
    #[must_use]
    pub fn redact_json<'t>(&self, json: &'t str) -> Cow<'t, str> {
        json::redact(self, json)
    }

    /// A redactor for one text that arrives in pieces.
    #[must_use]
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor::new(self.plan.clone())
    }

    /// Names of exact secrets that are too short to be masked: masking every occurrence of so short a text
    /// would mask ordinary text. The operator should be told.
    pub fn unprotected(&self) -> impl Iterator<Item = &str> {
        self.plan.unprotected()
    }
}

impl fmt::Debug for Redactor {
    /// Shows the kinds only: patterns and values may be secrets themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor")
            .field("kinds", &self.plan.kinds())
            .finish_non_exhaustive()
    }
}

/// What every label begins with.
const LABEL_START: &str = "[redacted:";

fn label(kind: &str) -> String {
    let mut text = String::new();
    push_label(&mut text, kind);
    text
}

fn push_label(out: &mut String, kind: &str) {
    out.push_str(LABEL_START);
    out.push_str(kind);
    out.push(']');
}

//! The rest of a secret behind a match: masked as it comes, without being held back.
//!
//! A pattern only has to recognise the beginning of a secret. What follows in the same alphabet belongs to
//! it, however long it is.
//!
//! Invariant: a tail takes the same bytes whether they come at once or one by one.

use crate::redact::pem::PemBody;

/// What kind of rest a secret can have.
#[derive(Debug, Clone, Copy)]
pub(super) enum TailKind {
    /// None: the match is all.
    None,
    /// Every following byte of this class.
    Run(fn(u8) -> bool),
    /// The body of a PEM block, up to its end line.
    Pem,
}

/// A rest that is being read.
#[derive(Debug, Clone)]
pub(super) enum Tail {
    Run(fn(u8) -> bool),
    Pem(PemBody),
}

/// How far a tail reached in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes of the text that belong to the secret.
    pub(super) bytes: usize,
    /// Whether more may follow in the next text.
    pub(super) is_open: bool,
}

impl Tail {
    pub(super) fn new(kind: TailKind) -> Option<Self> {
        match kind {
            TailKind::None => None,
            TailKind::Run(class) => Some(Self::Run(class)),
            TailKind::Pem => Some(Self::Pem(PemBody::default())),
        }
    }

    pub(super) fn take(&mut self, text: &str) -> Taken {
        match self {
            Self::Run(class) => {
                let bytes = text.bytes().take_while(|b| class(*b)).count();
                Taken {
                    bytes,
                    is_open: bytes == text.len(),
                }
            }
            Self::Pem(body) => body.take(text),
        }
    }
}

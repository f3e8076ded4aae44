//! The artifacts that follow from an invocation's journal: its transcript and its result.
//!
//! They hold nothing that the journal does not hold, so once the journal is durable they cannot be lost: a
//! store may acknowledge them with the end of the invocation and write their files later. It does not store
//! anything, and it redacts nothing: what is in a journal has been redacted on its way in.
//!
//! Invariant: [`of_journal`] gives, byte for byte, what [`of`] gave for the machine that wrote the journal.

use std::sync::Arc;

use crate::InvocationId;
use crate::invocation::{Invocation, Outcome};
use crate::journal::{FoldError, fold};
use crate::port::store::{ArtifactKind, Entry};
use crate::transcript::Transcript;

/// An artifact that can be made from a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedArtifact {
    /// What it is: a transcript or a result.
    pub kind: ArtifactKind,
    /// Its file name.
    pub name: &'static str,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

/// The artifacts of an invocation that has ended: `transcript.jsonl`, `transcript.md` and, if it came to a
/// text, `result.md`.
#[must_use]
pub fn of(
    invocation: &InvocationId,
    machine: &Invocation,
    outcome: &Outcome,
) -> Vec<DerivedArtifact> {
    let transcript = Transcript::of(invocation, machine);
    let derived = |kind, name, content: String| DerivedArtifact {
        kind,
        name,
        content: Arc::from(content.into_bytes()),
    };
    let mut artifacts = vec![
        derived(
            ArtifactKind::Transcript,
            "transcript.jsonl",
            transcript.to_jsonl(),
        ),
        derived(
            ArtifactKind::Transcript,
            "transcript.md",
            transcript.to_markdown(),
        ),
    ];
    if let Outcome::Completed { text } = outcome {
        artifacts.push(derived(ArtifactKind::Result, "result.md", text.to_string()));
    }
    artifacts
}

/// The same from a journal that ends with the invocation's end; none if it does not.
///
/// # Errors
/// When the journal cannot be folded.
pub fn of_journal(
    invocation: &InvocationId,
    entries: &[Entry],
) -> Result<Vec<DerivedArtifact>, FoldError> {
    let machine: Invocation = fold(entries)?;
    Ok(match machine.outcome() {
        Some(outcome) => of(invocation, &machine, outcome),
        None => Vec::new(),
    })
}

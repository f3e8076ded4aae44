//! The artifacts of an invocation that has ended: transcript and result.
//!
//! They are made from the history, which is in the journal; an artifact that could not be written can be made
//! again, so its absence is reported and does not undo the outcome.

use std::sync::Arc;

use otto_core::invocation::Outcome;
use otto_core::port::store::{ArtifactDraft, ArtifactKind, ArtifactRef};
use otto_core::transcript::Transcript;

use crate::agent_server::AgentServer;

impl AgentServer {
    /// Stores transcript and result; what failed is told in words.
    pub(crate) async fn store_artifacts(
        &mut self,
        outcome: &Outcome,
    ) -> (Vec<ArtifactRef>, Option<String>) {
        let Some(blobs) = &self.shared.blobs else {
            return (Vec::new(), None);
        };
        let transcript = Transcript::of(&self.ids.invocation, self.machine.history());
        let mut drafts = vec![
            (
                ArtifactKind::Transcript,
                "transcript.jsonl",
                transcript.to_jsonl(),
            ),
            (
                ArtifactKind::Transcript,
                "transcript.md",
                transcript.to_markdown(),
            ),
        ];
        if let Outcome::Completed { text } = outcome {
            drafts.push((ArtifactKind::Result, "result.md", text.to_string()));
        }
        let mut stored = Vec::new();
        for (kind, name, content) in drafts {
            let draft = ArtifactDraft {
                session: self.ids.session,
                invocation: self.ids.invocation,
                kind,
                name: Arc::from(name),
                content: Arc::from(content.into_bytes()),
            };
            match blobs.put(draft).await {
                Ok(artifact) => stored.push(artifact),
                Err(error) => return (stored, Some(format!("store artifact `{name}`: {error}"))),
            }
        }
        (stored, None)
    }
}

//! The artifacts of an invocation that has ended: transcript and result.
//!
//! A store takes them with the end. What it does not take is stored here, one by one; they are made from the
//! history, which is in the journal, so an artifact that could not be written can be made again: its absence is
//! reported and does not undo the outcome.

use std::sync::Arc;

use otto_core::derived::DerivedArtifact;
use otto_core::port::store::{ArtifactDraft, ArtifactRef};

use crate::agent_server::AgentServer;

impl AgentServer {
    /// Stores artifacts; what failed is told in words.
    pub(crate) async fn store_artifacts(
        &mut self,
        artifacts: Vec<DerivedArtifact>,
        stored: &mut Vec<ArtifactRef>,
    ) -> Option<String> {
        let blobs = self.shared.blobs.clone()?;
        for DerivedArtifact {
            kind,
            name,
            content,
        } in artifacts
        {
            let draft = ArtifactDraft {
                session: self.ids.session,
                invocation: self.ids.invocation,
                kind,
                name: Arc::from(name),
                content,
            };
            match blobs.put(draft).await {
                Ok(artifact) => stored.push(artifact),
                Err(error) => return Some(format!("store artifact `{name}`: {error}")),
            }
        }
        None
    }
}

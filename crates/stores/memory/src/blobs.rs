//! Artifacts in memory, under the same names as on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use otto_core::SessionId;
use otto_core::port::BoxFuture;
use otto_core::port::store::{ArtifactDraft, ArtifactRef, Blobs, Finish, StoreError};
use otto_core::store_rules::artifact_name as name;
use sha2::{Digest, Sha256};

use crate::MemoryStore;

/// The artifacts of all sessions.
#[derive(Debug)]
pub(crate) struct Files {
    bytes_max: u64,
    bytes: u64,
    files: BTreeMap<(SessionId, Arc<str>), Stored>,
}

/// One artifact: its reference and its content.
type Stored = (ArtifactRef, Arc<[u8]>);

impl Files {
    pub(crate) const fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            files: BTreeMap::new(),
        }
    }

    fn put(&mut self, draft: &ArtifactDraft) -> Result<ArtifactRef, StoreError> {
        name::check(&draft.name)?;
        let size_bytes = draft.content.len() as u64;
        let sha256: Arc<str> = Arc::from(name::hex(&Sha256::digest(&draft.content)));
        for version in 1..=name::VERSION_MAX {
            let path: Arc<str> = Arc::from(name::file_name(
                draft.invocation,
                draft.kind,
                version,
                &draft.name,
            ));
            let key = (draft.session, path.clone());
            match self.files.get(&key) {
                Some((known, _)) if known.sha256 == sha256 && known.size_bytes == size_bytes => {
                    return Ok(known.clone());
                }
                Some(_) => continue,
                None => {}
            }
            if self.bytes.saturating_add(size_bytes) > self.bytes_max {
                return Err(name::too_much(
                    &path,
                    size_bytes,
                    self.bytes,
                    self.bytes_max,
                ));
            }
            self.bytes += size_bytes;
            let artifact = ArtifactRef {
                session: draft.session,
                path,
                kind: draft.kind,
                size_bytes,
                sha256,
            };
            self.files
                .insert(key, (artifact.clone(), draft.content.clone()));
            return Ok(artifact);
        }
        Err(name::too_many_versions(draft))
    }

    fn get(&self, artifact: &ArtifactRef) -> Result<Vec<u8>, StoreError> {
        let key = (artifact.session, artifact.path.clone());
        match self.files.get(&key) {
            None => Err(name::not_found(artifact)),
            Some((known, _)) if known != artifact => {
                let detail = format!(
                    "read artifact `{}` of session {}: its SHA-256 is {} with {} bytes, its reference says {} with {}",
                    known.path,
                    known.session,
                    known.sha256,
                    known.size_bytes,
                    artifact.sha256,
                    artifact.size_bytes
                );
                Err(StoreError::Damaged {
                    detail: Arc::from(detail),
                })
            }
            Some((_, content)) => Ok(content.to_vec()),
        }
    }

    fn list(&self, session: SessionId) -> Vec<ArtifactRef> {
        let from = (session, Arc::from(""));
        self.files
            .range(from..)
            .take_while(|((owner, _), _)| *owner == session)
            .map(|(_, (artifact, _))| artifact.clone())
            .collect()
    }
}

impl MemoryStore {
    /// Keeps the artifacts of an end, all or none of them.
    pub(crate) fn keep_derived(&self, finish: &Finish) -> Vec<ArtifactRef> {
        let mut files = self.files();
        let stored: Result<Vec<ArtifactRef>, StoreError> = finish
            .artifacts
            .iter()
            .map(|artifact| {
                files.put(&ArtifactDraft {
                    session: finish.lease.session,
                    invocation: finish.invocation,
                    kind: artifact.kind,
                    name: Arc::from(artifact.name),
                    content: artifact.content.clone(),
                })
            })
            .collect();
        // What was refused is offered again by the caller, and told apart then.
        stored.unwrap_or_default()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blobs for MemoryStore {
    fn put(&self, draft: ArtifactDraft) -> BoxFuture<'_, Result<ArtifactRef, StoreError>> {
        Box::pin(async move { self.files().put(&draft) })
    }

    fn get(&self, artifact: ArtifactRef) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(async move { self.files().get(&artifact) })
    }

    fn list(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<ArtifactRef>, StoreError>> {
        Box::pin(async move { Ok(self.files().list(session)) })
    }
}

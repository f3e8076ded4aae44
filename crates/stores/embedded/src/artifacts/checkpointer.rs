//! The component that stores artifacts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use otto_core::SessionId;
use otto_core::port::BoxFuture;
use otto_core::port::store::{ArtifactDraft, ArtifactRef, Blobs, Durability, StoreError};
use otto_core::store_rules::artifact_name as name;
use tokio::sync::oneshot;

use crate::artifacts::backlog::Room;
use crate::artifacts::disk::Disk;
use crate::artifacts::durable::{Written, checksum};
use crate::artifacts::rows::{self, Bound, NewRow};
use crate::artifacts::short::{self, Recorded, SHORT_MAX};
use crate::artifacts::{FileWriter, THREADS, Task, derived, run};
use crate::config::FaultPoints;
use crate::error::unavailable;
use crate::store::Inner;
use crate::writer::{Job, job_then};

/// Stores artifacts: atomic, checksummed, bounded, with retention.
#[derive(Clone)]
pub struct Checkpointer {
    pub(super) inner: Arc<Inner>,
    pub(super) disk: Arc<Disk>,
    bytes_max: u64,
    /// The total of all artifacts as last seen: refuses early what would be refused late.
    bytes_seen: Arc<AtomicU64>,
}

impl Checkpointer {
    pub(crate) fn start(
        inner: &Arc<Inner>,
        bytes_max: u64,
        faults: Arc<dyn FaultPoints>,
    ) -> Result<Self, StoreError> {
        for _ in 0..THREADS {
            let queue = inner.files.clone();
            inner.spawn(&inner.file_threads, "otto-checkpointer", move || {
                run(&queue);
            })?;
        }
        let disk = Arc::new(Disk::new(inner.state_dir.clone(), &inner.node, faults));
        let writer = FileWriter {
            backlog: inner.backlog.clone(),
            disk: disk.clone(),
            writer: inner.writer.clone(),
            path: inner.path.clone(),
        };
        inner.spawn(&inner.file_writer, "otto-file-writer", move || writer.run())?;
        Ok(Self {
            disk,
            inner: inner.clone(),
            bytes_max,
            bytes_seen: Arc::default(),
        })
    }

    /// Does file work on a thread that may block.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || {
            unavailable(Arc::from(
                "use the artifacts: the store has shut down; open it again",
            ))
        };
        let (reply, answer) = oneshot::channel();
        let disk = self.disk.clone();
        let task: Task = Box::new(move || {
            // A caller that no longer waits has lost interest, not the effect.
            let _ = reply.send(work(&disk));
        });
        self.inner.files.push(task).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Does other work that may block on the same threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.on_disk(move |_| work()).await
    }

    /// Records a file that is durable. Needs no sync: a file without a row gets one when it is next seen.
    pub(super) async fn record(
        &self,
        row: NewRow,
        bound: Bound,
    ) -> Result<ArtifactRef, StoreError> {
        let artifact = row.to_ref();
        let total = self
            .inner
            .change(Durability::Relaxed, move |rows, _| {
                rows::insert(rows, &row, bound)
            })
            .await?;
        self.bytes_seen.store(total, Ordering::Relaxed);
        Ok(artifact)
    }

    /// Waits until every artifact that was acknowledged has its file, or what hinders it was met: then its content stays
    /// in the database and is given out from there.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let backlog = self.inner.backlog.clone();
        self.on_disk(move |_| {
            backlog.flush();
            Ok(())
        })
        .await?;
        // What the database lets go of is in the writer's queue by now; this comes behind it.
        self.inner.change(Durability::Relaxed, |_, _| Ok(())).await
    }

    /// Stores an artifact whose file is there, too, when this returns.
    pub(crate) async fn put_file(&self, draft: ArtifactDraft) -> Result<ArtifactRef, StoreError> {
        self.store(draft, WriteFile::Now).await
    }

    async fn store(
        &self,
        draft: ArtifactDraft,
        when: WriteFile,
    ) -> Result<ArtifactRef, StoreError> {
        name::check(&draft.name)?;
        let draft = Arc::new(draft);
        for version in 1..=name::VERSION_MAX {
            let path: Arc<str> = Arc::from(name::file_name(
                draft.invocation,
                draft.kind,
                version,
                &draft.name,
            ));
            let row = NewRow {
                session: draft.session,
                path,
                invocation: draft.invocation,
                kind: draft.kind,
                size: draft.content.len() as u64,
                sha256: Arc::from(""),
                at: self.inner.clock.now(),
                derived: 0,
            };
            let seen = self.bytes_seen.load(Ordering::Relaxed);
            if seen.saturating_add(row.size) > self.bytes_max {
                // The total may have fallen since; only the row's transaction knows.
                let total = self
                    .inner
                    .change(Durability::Relaxed, |rows, _| rows.number("artifact_bytes"))
                    .await?;
                self.bytes_seen.store(total, Ordering::Relaxed);
                if total.saturating_add(row.size) > self.bytes_max {
                    return Err(name::too_much(&row.path, row.size, total, self.bytes_max));
                }
            }
            let artifact = row.to_ref();
            match self.write(draft.clone(), row, when).await? {
                Put::Recorded { sha256, total } => {
                    self.bytes_seen.store(total, Ordering::Relaxed);
                    return Ok(ArtifactRef { sha256, ..artifact });
                }
                Put::Taken { sha256 } => {
                    if let Some(known) = self.taken(&artifact, &sha256).await? {
                        return Ok(known);
                    }
                }
                Put::Refused(error) => {
                    // Durable, but it cannot stay: it is taken back before anyone hears of it.
                    self.on_disk(move |disk| disk.remove(artifact.session, &artifact.path))
                        .await?;
                    if let Some(error) = error {
                        return Err(error);
                    }
                }
            }
        }
        Err(name::too_many_versions(&draft))
    }

    /// Makes an artifact durable under its name. The thread that works on files hands the row to the writer itself, and
    /// the writer answers: two hand-overs fewer than asking both in turn.
    async fn write(
        &self,
        draft: Arc<ArtifactDraft>,
        row: NewRow,
        when: WriteFile,
    ) -> Result<Put, StoreError> {
        let (reply, answer) = oneshot::channel();
        // Not the store itself: whoever drops it last ends its threads, and this runs on one of them.
        let (disk, writer) = (self.disk.clone(), self.inner.writer.clone());
        let node = self.inner.node.clone();
        let length = draft.content.len();
        let room = (when == WriteFile::Later && length <= SHORT_MAX)
            .then(|| self.inner.backlog.room_for_short(length))
            .flatten();
        let task: Task = Box::new(move || {
            let job = match room.filter(|_| disk.is_free(row.session, &row.path)) {
                Some(room) => record_short(node, &draft, row, room, reply),
                None => match disk.write(row.session, &row.path, &draft.content) {
                    Err(error) => return drop(reply.send(Err(error))),
                    Ok(Written::Taken(sha256)) => {
                        let sha256 = Arc::from(sha256);
                        return drop(reply.send(Ok(Put::Taken { sha256 })));
                    }
                    Ok(Written::New(sha256)) => record_written(row, Arc::from(sha256), reply),
                },
            };
            // When the store has shut down, the caller sees its answer channel closed.
            let _ = writer.push_now(job);
        });
        self.inner.files.push(task).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// What is stored under a name that is taken, if it is the same content: then this is a repeated call.
    async fn taken(
        &self,
        row: &ArtifactRef,
        sha256: &str,
    ) -> Result<Option<ArtifactRef>, StoreError> {
        let known = match self.known(row.session, row.path.clone()).await? {
            Some(known) if known.deleting => return Ok(None),
            Some(known) => Some(known.artifact),
            None => self.adopt(row.session, row.path.clone()).await?,
        };
        Ok(known.filter(|known| *known.sha256 == *sha256 && known.size_bytes == row.size_bytes))
    }

    async fn known(
        &self,
        session: SessionId,
        path: Arc<str>,
    ) -> Result<Option<rows::Known>, StoreError> {
        self.inner
            .ask("look up an artifact", move |connection| {
                rows::known(connection, session, &path)
            })
            .await
    }

    /// Gives a row to a file that has none: its process died before it could.
    pub(super) async fn adopt(
        &self,
        session: SessionId,
        path: Arc<str>,
    ) -> Result<Option<ArtifactRef>, StoreError> {
        let Some((invocation, kind)) = name::parse(&path) else {
            return Ok(None);
        };
        let found = {
            let path = path.clone();
            self.on_disk(move |disk| disk.examine(session, &path))
                .await?
        };
        match found {
            None => Ok(None),
            Some(found) => {
                let row = NewRow {
                    session,
                    path,
                    invocation,
                    kind,
                    size: found.size,
                    sha256: Arc::from(found.sha256),
                    at: found.modified,
                    derived: 0,
                };
                self.record(row, Bound::Waived).await.map(Some)
            }
        }
    }

    /// Reads a file, or finds its content in the database.
    async fn read(&self, artifact: ArtifactRef) -> Result<Vec<u8>, StoreError> {
        let wanted = artifact.clone();
        let missing = match self.on_disk(move |disk| disk.read(&wanted)).await {
            Err(error @ (StoreError::NotFound { .. } | StoreError::Damaged { .. })) => error,
            read => return read,
        };
        if let Some(content) = self.remake(artifact.clone()).await? {
            return Ok(content.to_vec());
        }
        // Its file may have been written between the two looks.
        match self.on_disk(move |disk| disk.read(&artifact)).await {
            Ok(content) => Ok(content),
            Err(_) => Err(missing),
        }
    }

    /// Whether an artifact's file is there and is what its reference says.
    pub async fn has_file(&self, artifact: &ArtifactRef) -> bool {
        let wanted = artifact.clone();
        self.on_disk(move |disk| disk.read(&wanted)).await.is_ok()
    }

    /// The content of an artifact, from the database.
    pub(super) async fn remake(
        &self,
        artifact: ArtifactRef,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.inner
            .ask("find an artifact in the database", move |connection| {
                if let Some(content) = short::content(connection, &artifact)? {
                    return Ok(Some(content));
                }
                match rows::known(connection, artifact.session, &artifact.path)? {
                    Some(known) if !known.deleting && known.artifact == artifact => {
                        let mut made = derived::remake(connection, &[known])?;
                        Ok(made.pop().map(|(_, content)| content))
                    }
                    _ => Ok(None),
                }
            })
            .await
    }

    async fn artifacts(&self, session: SessionId) -> Result<Vec<ArtifactRef>, StoreError> {
        let names = self.on_disk(move |disk| disk.names(session)).await?;
        let rows = self
            .inner
            .ask("list artifacts", move |connection| {
                rows::of_session(connection, session)
            })
            .await?;
        let mut artifacts: Vec<ArtifactRef> = rows
            .iter()
            .filter(|known| !known.deleting)
            .map(|known| known.artifact.clone())
            .collect();
        for name in names {
            if rows.iter().all(|known| *known.artifact.path != *name)
                && let Some(artifact) = self.adopt(session, Arc::from(name)).await?
            {
                artifacts.push(artifact);
            }
        }
        artifacts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(artifacts)
    }
}

/// When the file of an artifact is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteFile {
    /// Before the artifact is acknowledged.
    Now,
    /// Later, if the database has its content until then.
    Later,
}

/// What storing an artifact under a name came to.
enum Put {
    /// Durable, with its row. The total of all sizes.
    Recorded { sha256: Arc<str>, total: u64 },
    /// The name is taken; nothing was changed.
    Taken { sha256: Arc<str> },
    /// The file is durable, but its row was refused; without an error where its name was given meanwhile to another
    /// artifact whose file is still to be written.
    Refused(Option<StoreError>),
}

type Reply = oneshot::Sender<Result<Put, StoreError>>;

/// Records a short artifact with its content, and has its file written later.
fn record_short(
    node: Arc<str>,
    draft: &ArtifactDraft,
    row: NewRow,
    room: Room,
    reply: Reply,
) -> Job {
    let sha256: Arc<str> = Arc::from(checksum(&draft.content));
    let row = NewRow {
        sha256: sha256.clone(),
        ..row
    };
    let artifact = row.to_ref();
    let (content, unwritten) = (draft.content.clone(), draft.content.clone());
    job_then(
        Durability::Synced,
        move |rows, _| short::record(rows, &row, &content, &node),
        move |result| {
            let put = result.map(|recorded| match recorded {
                Recorded::New(total) => {
                    let backlog = room.backlog.clone();
                    backlog.push(short::unwritten(&artifact, unwritten, room));
                    Put::Recorded { sha256, total }
                }
                Recorded::Taken => Put::Taken { sha256 },
            });
            drop(reply.send(put));
        },
    )
}

/// Records an artifact whose file is durable.
fn record_written(row: NewRow, sha256: Arc<str>, reply: Reply) -> Job {
    let row = NewRow {
        sha256: sha256.clone(),
        ..row
    };
    job_then(
        Durability::Relaxed,
        move |rows, _| match rows::stored(rows, row.session, &row.path)? {
            Some(known) if !known.deleting && known.artifact != row.to_ref() => Ok(None),
            _ => rows::insert(rows, &row, Bound::Applies).map(Some),
        },
        move |result| {
            drop(reply.send(match result {
                Ok(Some(total)) => Ok(Put::Recorded { sha256, total }),
                Ok(None) => Ok(Put::Refused(None)),
                Err(error @ StoreError::Full { .. }) => Ok(Put::Refused(Some(error))),
                Err(error) => Err(error),
            }));
        },
    )
}

fn gone() -> StoreError {
    unavailable(Arc::from(
        "use the artifacts: the store has shut down; open it again",
    ))
}

impl Blobs for Checkpointer {
    fn put(&self, draft: ArtifactDraft) -> BoxFuture<'_, Result<ArtifactRef, StoreError>> {
        Box::pin(self.store(draft, WriteFile::Later))
    }

    fn get(&self, artifact: ArtifactRef) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(self.read(artifact))
    }

    fn list(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<ArtifactRef>, StoreError>> {
        Box::pin(self.artifacts(session))
    }
}

impl std::fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointer")
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

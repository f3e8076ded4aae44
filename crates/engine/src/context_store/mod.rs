//! Per-context data: metadata and tool state, keyed by context id.
//!
//! Memory is bounded in bytes. Beyond the bound contexts move to disk, those that were used longest ago first, if
//! there is a place for them (`ContextFiles`); what does not fit there either goes, but never a context in use
//! (the rule is in `plan.rs`). A context that is read comes back into memory when there is room.
//! A context lives as long as its [`ContextGuard`] (its agent); what is left of it afterwards is what the
//! journal has. Reads run side by side, writes to one context one after the other.
//!
//! Invariant: the sum of all sizes in memory is within its bound after every call, that of what is on disk within
//! the other (above it by one context while two change places), and a context in use is never lost to make room.
//!
//! Locks are taken in this order: a context's writer, the movers' lock, the map, a content, the books.

mod agent_data;
mod plan;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use otto_core::port::contexts::{ContextEntries, ContextError, ContextFile, ContextFiles};
use otto_core::port::store::StoreError;
use otto_core::{ContextId, TaskId, Timestamp, WorkflowId};

pub(crate) use self::agent_data::OwnedData;
use self::plan::{Bounds, Candidate, Plan, plan};

/// Requirement 6: 100 MB unless configured.
pub const DEFAULT_MAX_BYTES: usize = 100 * 1_000_000;

/// What every entry costs beside its key and value.
const ENTRY_OVERHEAD: usize = 64;

/// What is known of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextMetadata {
    /// The task it belongs to.
    pub task: TaskId,
    /// The workflow it belongs to, if any.
    pub parent_workflow: Option<WorkflowId>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// Per-context data, bounded in bytes. Cheap to clone; all clones are the same store.
///
/// Calls that find what they need in memory do not wait; those that move contexts to disk or back do, on a thread
/// for blocking work, and must be made inside a Tokio runtime.
#[derive(Debug, Clone)]
pub struct ContextStore {
    inner: Arc<Inner>,
}

struct Inner {
    contexts: RwLock<HashMap<ContextId, Arc<Context>>>,
    /// Changes of the sums of sizes happen under this lock, so that the bounds are decided at one place.
    books: Mutex<Books>,
    bounds: Bounds,
    files: Option<Arc<dyn ContextFiles>>,
    /// Counts reads and writes; the smallest stamp is the least recently used.
    ticks: AtomicU64,
    /// Held by whoever makes room or brings a context back: one at a time.
    moving: Arc<tokio::sync::Mutex<()>>,
}

/// The sums of sizes.
#[derive(Debug, Default)]
struct Books {
    memory: usize,
    disk: u64,
    /// Memory that is being made free for one who waits for it; no other may take it.
    claimed: usize,
}

/// Whose memory it is that a write takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// What nobody has claimed.
    Nobodys,
    /// What was made free for it.
    Own,
}

#[derive(Debug)]
struct Context {
    id: ContextId,
    content: RwLock<Content>,
    /// Serializes writers across their whole read-change-write.
    writer: Arc<tokio::sync::Mutex<()>>,
    last_used: AtomicU64,
    in_use: AtomicU64,
}

#[derive(Debug)]
struct Content {
    metadata: ContextMetadata,
    place: Place,
    /// The size of its entries, wherever they are.
    bytes: usize,
    /// Counts writes.
    version: u64,
}

#[derive(Debug)]
enum Place {
    Memory(ContextEntries),
    Disk(ContextFile),
    /// Gone from the store; whoever still holds it must not book anything to it.
    Removed,
}

/// What a write came to that only looks at memory.
enum Put {
    Done,
    Removed,
    OnDisk,
    NoRoom,
}

/// A value, if memory can tell.
enum Found {
    Value(Option<Arc<[u8]>>),
    OnDisk,
    Removed,
}

/// Keeps a context in use; the last guard of a context removes it.
#[derive(Debug)]
pub struct ContextGuard {
    store: ContextStore,
    id: ContextId,
}

impl ContextStore {
    /// A store of at most `max_bytes` of memory, without a place on disk.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self::on(max_bytes, 0, None)
    }

    /// A store of at most `max_bytes` of memory, which moves up to `disk_bytes` more into files.
    #[must_use]
    pub fn with_files(max_bytes: usize, disk_bytes: u64, files: Arc<dyn ContextFiles>) -> Self {
        Self::on(max_bytes, disk_bytes, Some(files))
    }

    fn on(memory: usize, disk: u64, files: Option<Arc<dyn ContextFiles>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                contexts: RwLock::default(),
                books: Mutex::default(),
                bounds: Bounds { memory, disk },
                files,
                ticks: AtomicU64::new(1),
                moving: Arc::default(),
            }),
        }
    }

    /// Opens a context, or joins it if it is open.
    #[must_use]
    pub fn open(&self, id: ContextId, metadata: ContextMetadata) -> ContextGuard {
        let mut contexts = self.inner.contexts_mut();
        let context = contexts.entry(id).or_insert_with(|| {
            Arc::new(Context {
                id,
                content: RwLock::new(Content {
                    metadata,
                    place: Place::Memory(ContextEntries::new()),
                    bytes: 0,
                    version: 0,
                }),
                writer: Arc::default(),
                last_used: AtomicU64::new(0),
                in_use: AtomicU64::new(0),
            })
        });
        context.in_use.fetch_add(1, Ordering::AcqRel);
        ContextGuard {
            store: self.clone(),
            id,
        }
    }

    /// The value under `key`, if context and key are there.
    ///
    /// # Errors
    /// [`ContextError::Lost`] when the context was moved to disk and does not come back.
    pub async fn read(&self, id: ContextId, key: &str) -> Result<Option<Arc<[u8]>>, ContextError> {
        let Some(context) = self.inner.find(id) else {
            return Ok(None);
        };
        self.value(&context, key).await
    }

    /// The metadata of a context.
    #[must_use]
    pub fn metadata(&self, id: ContextId) -> Option<ContextMetadata> {
        Some(self.inner.find(id)?.content().metadata)
    }

    /// Sets the value under `key`.
    ///
    /// # Errors
    /// When the context is gone or lost or there is no room; nothing was changed then.
    pub async fn write(
        &self,
        id: ContextId,
        key: &str,
        value: Arc<[u8]>,
        now: Timestamp,
    ) -> Result<(), ContextError> {
        self.update(id, key, now, |_| Some(value)).await
    }

    /// Changes the value under `key` by a function of the old one; `None` removes it. No other write to the
    /// same context happens in between.
    ///
    /// Cancel safety: dropped before it ends, the change was made whole or not at all.
    ///
    /// # Errors
    /// When the context is gone or lost or there is no room; nothing was changed then.
    pub async fn update(
        &self,
        id: ContextId,
        key: &str,
        now: Timestamp,
        change: impl FnOnce(Option<&Arc<[u8]>>) -> Option<Arc<[u8]>> + Send,
    ) -> Result<(), ContextError> {
        let context = self.inner.find(id).ok_or(ContextError::Gone(id))?;
        let writer = context.writer.clone().lock_owned().await;
        let old = self.value(&context, key).await?;
        let new = change(old.as_ref());
        match self.inner.try_put(&context, key, &new, now, Claim::Nobodys) {
            Put::Done => return Ok(()),
            Put::Removed => return Err(ContextError::Gone(id)),
            Put::OnDisk | Put::NoRoom => {}
        }
        let key: Arc<str> = Arc::from(key);
        self.move_and(id, move |inner| {
            // Held to the end of the write, also when nobody waits for it any more.
            let _writer = writer;
            inner.put_with_room(&context, &key, &new, now)
        })
        .await
    }

    /// Bytes in memory.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.inner.books().memory
    }

    /// Bytes of contexts that are on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.inner.books().disk
    }

    /// Contexts that are there, in memory or on disk.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.contexts().len()
    }

    /// Keeps the content of a context after its last guard is gone, until it has to make room.
    ///
    /// For sessions that will be taken up again soon; a guard that is dropped otherwise removes its context.
    pub fn keep(&self, guard: ContextGuard) {
        if let Some(context) = self.inner.find(guard.id) {
            context.in_use.fetch_sub(1, Ordering::AcqRel);
        }
        std::mem::forget(guard);
    }

    async fn value(
        &self,
        context: &Arc<Context>,
        key: &str,
    ) -> Result<Option<Arc<[u8]>>, ContextError> {
        match context.look(key) {
            Found::Value(value) => Ok(value),
            Found::Removed => Ok(None),
            Found::OnDisk => {
                let (context, key): (_, Arc<str>) = (context.clone(), Arc::from(key));
                self.move_and(context.id, move |inner| inner.read_back(&context, &key))
                    .await
            }
        }
    }

    /// Does work that may move contexts, alone, on a thread that may block. It runs to its end even when nobody
    /// waits for it any more.
    async fn move_and<T: Send + 'static>(
        &self,
        id: ContextId,
        work: impl FnOnce(&Inner) -> Result<T, ContextError> + Send + 'static,
    ) -> Result<T, ContextError> {
        let moving = self.inner.moving.clone().lock_owned().await;
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _moving = moving;
            work(&inner)
        });
        done.await.unwrap_or_else(|ended| {
            let detail = Arc::from(format!("use the files of contexts: {ended}"));
            let source = StoreError::Unavailable { detail };
            Err(ContextError::NotMoved {
                context: id,
                source,
            })
        })
    }
}

impl Inner {
    fn contexts(&self) -> RwLockReadGuard<'_, HashMap<ContextId, Arc<Context>>> {
        self.contexts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contexts_mut(&self) -> RwLockWriteGuard<'_, HashMap<ContextId, Arc<Context>>> {
        self.contexts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: ContextId) -> Option<Arc<Context>> {
        let context = self.contexts().get(&id)?.clone();
        context.last_used.store(
            self.ticks.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(context)
    }

    /// Writes, if the context is in memory and there is room.
    fn try_put(
        &self,
        context: &Context,
        key: &str,
        new: &Option<Arc<[u8]>>,
        now: Timestamp,
        claim: Claim,
    ) -> Put {
        let mut content = context.content_mut();
        let content = &mut *content;
        let entries = match &mut content.place {
            Place::Memory(entries) => entries,
            Place::Disk(_) => return Put::OnDisk,
            Place::Removed => return Put::Removed,
        };
        let old_size = entries.get(key).map_or(0, |value| entry_size(key, value));
        let new_size = new.as_ref().map_or(0, |value| entry_size(key, value));
        {
            let mut books = self.books();
            let others = match claim {
                Claim::Nobodys => books.claimed,
                Claim::Own => 0,
            };
            let memory = books.memory - old_size + new_size;
            // Who gives memory back may always do so.
            if new_size > old_size && memory.saturating_add(others) > self.bounds.memory {
                return Put::NoRoom;
            }
            books.memory = memory;
        }
        content.bytes = content.bytes - old_size + new_size;
        content.version += 1;
        content.metadata.updated_at = now;
        match new {
            Some(value) => entries.insert(Arc::from(key), value.clone()),
            None => entries.remove(key),
        };
        Put::Done
    }

    /// Makes the room that a write needs, and writes. Called by the one who moves.
    fn put_with_room(
        &self,
        context: &Context,
        key: &str,
        new: &Option<Arc<[u8]>>,
        now: Timestamp,
    ) -> Result<(), ContextError> {
        let gone = ContextError::Gone(context.id);
        let new_size = new.as_ref().map_or(0, |value| entry_size(key, value));
        let size = |old: Option<&Arc<[u8]>>| old.map_or(0, |value| entry_size(key, value));
        match self.fetch(context)? {
            Fetched::Removed => Err(gone),
            Fetched::InMemory => {
                let Found::Value(old) = context.look(key) else {
                    return Err(gone);
                };
                let growth = new_size.saturating_sub(size(old.as_ref()));
                self.make_room(context, growth, new_size)?;
                let put = self.try_put(context, key, new, now, Claim::Own);
                self.books().claimed = 0;
                match put {
                    Put::Done => Ok(()),
                    // Its agent has ended: nobody else takes a context away from the one who moves.
                    Put::Removed | Put::OnDisk | Put::NoRoom => Err(gone),
                }
            }
            Fetched::FromDisk(mut stored) => {
                let old = match new {
                    Some(value) => stored.entries.insert(Arc::from(key), value.clone()),
                    None => stored.entries.remove(key),
                };
                stored.bytes = stored.bytes - size(old.as_ref()) + new_size;
                stored.metadata.updated_at = now;
                self.make_room(context, stored.bytes, new_size)?;
                if self.install(context, stored) {
                    Ok(())
                } else {
                    Err(gone)
                }
            }
        }
    }

    /// Reads a value of a context that was on disk, and brings the context back if there is room. Called by the
    /// one who moves.
    fn read_back(&self, context: &Context, key: &str) -> Result<Option<Arc<[u8]>>, ContextError> {
        match self.fetch(context)? {
            Fetched::Removed => Ok(None),
            Fetched::InMemory => Ok(match context.look(key) {
                Found::Value(value) => value,
                Found::OnDisk | Found::Removed => None,
            }),
            Fetched::FromDisk(stored) => {
                let value = stored.entries.get(key).cloned();
                // Where there is no room it stays on disk: reading it must not fail for that.
                if self.make_room(context, stored.bytes, stored.bytes).is_ok() {
                    self.install(context, stored);
                }
                Ok(value)
            }
        }
    }

    /// What there is of a context, read if it is on disk.
    fn fetch(&self, context: &Context) -> Result<Fetched, ContextError> {
        let (file, bytes, metadata) = {
            let content = context.content();
            match content.place {
                Place::Memory(_) => return Ok(Fetched::InMemory),
                Place::Removed => return Ok(Fetched::Removed),
                Place::Disk(file) => (file, content.bytes, content.metadata),
            }
        };
        let Some(files) = &self.files else {
            return Ok(Fetched::Removed);
        };
        match files.read(file) {
            Ok(entries) => Ok(Fetched::FromDisk(Stored {
                file,
                entries,
                bytes,
                metadata,
            })),
            // Its agent has ended meanwhile, and took the file along.
            Err(_) if matches!(context.content().place, Place::Removed) => Ok(Fetched::Removed),
            Err(source) => Err(ContextError::Lost {
                context: context.id,
                source,
            }),
        }
    }

    /// Puts what was on disk into memory that was claimed for it, unless its agent has ended; says whether it did.
    fn install(&self, context: &Context, stored: Stored) -> bool {
        let mut content = context.content_mut();
        let is_there = !matches!(content.place, Place::Removed);
        {
            let mut books = self.books();
            books.claimed = 0;
            if is_there {
                books.memory += stored.bytes;
                books.disk -= content.bytes as u64;
            }
        }
        if is_there {
            *content = Content {
                metadata: stored.metadata,
                place: Place::Memory(stored.entries),
                bytes: stored.bytes,
                version: content.version + 1,
            };
            drop(content);
            self.remove_file(stored.file);
        }
        is_there
    }

    /// Makes `wanted` bytes of memory free for a context and claims them. `needed` is what the caller asks for,
    /// for the message. Called by the one who moves.
    fn make_room(
        &self,
        context: &Context,
        wanted: usize,
        needed: usize,
    ) -> Result<(), ContextError> {
        // From here on memory is only given back: what is planned below stays enough.
        self.books().claimed = wanted;
        let made = self.plan_room(context, wanted, needed).and_then(|moved| {
            for other in moved {
                self.move_to_disk(&other)
                    .map_err(|source| ContextError::NotMoved {
                        context: context.id,
                        source,
                    })?;
            }
            Ok(())
        });
        if made.is_err() {
            self.books().claimed = 0;
        }
        made
    }

    /// Removes contexts that nobody uses, as far as that is needed, and says which others are to move.
    fn plan_room(
        &self,
        context: &Context,
        wanted: usize,
        needed: usize,
    ) -> Result<Vec<Arc<Context>>, ContextError> {
        let mut contexts = self.contexts_mut();
        let others = contexts.values().filter(|other| other.id != context.id);
        let candidates = others.filter_map(|other| other.candidate()).collect();
        let own = match context.content() {
            content if matches!(content.place, Place::Memory(_)) => content.bytes,
            _ => 0,
        };
        let Some(Plan { remove, to_disk }) =
            plan(candidates, own.saturating_add(wanted), self.bounds)
        else {
            let max = self.bounds.memory;
            return Err(ContextError::Full {
                context: context.id,
                needed,
                free: max.saturating_sub(self.books().memory),
                max,
            });
        };
        let removed: Vec<_> = remove.iter().filter_map(|id| contexts.remove(id)).collect();
        let moved = to_disk.iter().filter_map(|id| contexts.get(id).cloned());
        let moved = moved.collect();
        drop(contexts);
        for other in removed {
            self.take_out(&other);
        }
        Ok(moved)
    }

    /// Moves a context to disk, unless it is gone.
    fn move_to_disk(&self, context: &Context) -> Result<(), StoreError> {
        let Some(files) = &self.files else {
            return Ok(());
        };
        let (entries, version) = {
            let content = context.content();
            match &content.place {
                Place::Memory(entries) => (entries.clone(), content.version),
                Place::Disk(_) | Place::Removed => return Ok(()),
            }
        };
        let file = files.write(&entries)?;
        drop(entries);
        let mut content = context.content_mut();
        let file = if content.version == version {
            file
        } else {
            // Written meanwhile: once more, while nobody can.
            files.remove(file);
            match &content.place {
                Place::Memory(entries) => files.write(entries)?,
                Place::Disk(_) | Place::Removed => return Ok(()),
            }
        };
        if matches!(content.place, Place::Removed) {
            drop(content);
            files.remove(file);
            return Ok(());
        }
        content.place = Place::Disk(file);
        let mut books = self.books();
        books.memory -= content.bytes;
        books.disk += content.bytes as u64;
        Ok(())
    }

    /// Marks a context that was taken out of the map as removed, and takes it off the books.
    fn take_out(&self, context: &Context) {
        let mut content = context.content_mut();
        let place = std::mem::replace(&mut content.place, Place::Removed);
        let file = {
            let mut books = self.books();
            match place {
                Place::Memory(_) => {
                    books.memory -= content.bytes;
                    None
                }
                Place::Disk(file) => {
                    books.disk -= content.bytes as u64;
                    Some(file)
                }
                Place::Removed => None,
            }
        };
        drop(content);
        if let Some(file) = file {
            self.remove_file(file);
        }
    }

    fn remove_file(&self, file: ContextFile) {
        if let Some(files) = &self.files {
            files.remove(file);
        }
    }

    fn close(&self, id: ContextId) {
        let mut contexts = self.contexts_mut();
        let Some(context) = contexts.get(&id) else {
            return;
        };
        if context.in_use.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(context) = contexts.remove(&id)
        {
            drop(contexts);
            self.take_out(&context);
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("bounds", &self.bounds)
            .field("books", &self.books())
            .finish_non_exhaustive()
    }
}

/// Where the entries of a context are, brought along if that is the disk.
enum Fetched {
    InMemory,
    FromDisk(Stored),
    Removed,
}

/// A context as its file has it.
struct Stored {
    file: ContextFile,
    entries: ContextEntries,
    bytes: usize,
    metadata: ContextMetadata,
}

impl ContextGuard {
    /// The context.
    #[must_use]
    pub const fn id(&self) -> ContextId {
        self.id
    }
}

impl Drop for ContextGuard {
    fn drop(&mut self) {
        self.store.inner.close(self.id);
    }
}

fn entry_size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD
}

impl Context {
    fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn content_mut(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, key: &str) -> Found {
        match &self.content().place {
            Place::Memory(entries) => Found::Value(entries.get(key).cloned()),
            Place::Disk(_) => Found::OnDisk,
            Place::Removed => Found::Removed,
        }
    }

    fn candidate(&self) -> Option<Candidate> {
        let content = self.content();
        let is_on_disk = match content.place {
            Place::Memory(_) => false,
            Place::Disk(_) => true,
            Place::Removed => return None,
        };
        Some(Candidate {
            id: self.id,
            last_used: self.last_used.load(Ordering::Relaxed),
            bytes: content.bytes,
            is_on_disk,
            is_in_use: self.in_use.load(Ordering::Acquire) > 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ContextId {
        ContextId::from_bytes([n; 16])
    }

    fn metadata() -> ContextMetadata {
        ContextMetadata {
            task: TaskId::from_bytes([9; 16]),
            parent_workflow: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    fn bytes(len: usize) -> Arc<[u8]> {
        Arc::from(vec![7_u8; len])
    }

    async fn is_there(store: &ContextStore, n: u8) -> bool {
        store.read(id(n), "k").await.unwrap().is_some()
    }

    #[tokio::test]
    async fn a_context_ends_with_its_agent() {
        let store = ContextStore::new(10_000);
        let guard = store.open(id(1), metadata());
        store
            .write(id(1), "k", bytes(100), Timestamp::from_millis(5))
            .await
            .unwrap();
        assert_eq!(store.read(id(1), "k").await.unwrap().unwrap().len(), 100);
        assert_eq!(
            store.metadata(id(1)).unwrap().updated_at,
            Timestamp::from_millis(5)
        );
        drop(guard);
        assert!(!is_there(&store, 1).await);
        assert_eq!((store.count(), store.used_bytes()), (0, 0));
    }

    #[tokio::test]
    async fn the_least_recently_used_idle_context_goes_first_and_one_in_use_never() {
        let store = ContextStore::new(3_000);
        let used = store.open(id(1), metadata());
        store
            .write(id(1), "k", bytes(900), Timestamp::EPOCH)
            .await
            .unwrap();
        for n in [2, 3] {
            let guard = store.open(id(n), metadata());
            store
                .write(id(n), "k", bytes(900), Timestamp::EPOCH)
                .await
                .unwrap();
            store.keep(guard);
        }
        // Context 2 is older, but was read last.
        assert!(is_there(&store, 2).await);
        let fourth = store.open(id(4), metadata());
        store
            .write(id(4), "k", bytes(900), Timestamp::EPOCH)
            .await
            .unwrap();
        assert!(is_there(&store, 1).await && is_there(&store, 2).await);
        assert!(!is_there(&store, 3).await);
        assert!(store.used_bytes() <= 3_000);
        let error = store
            .write(id(4), "more", bytes(2_500), Timestamp::EPOCH)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ContextError::Full { needed: 2_568, .. }),
            "{error}"
        );
        assert!(is_there(&store, 1).await);
        drop((used, fourth));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn writes_to_one_context_do_not_lose_each_other() {
        let store = ContextStore::new(100_000);
        let _guard = store.open(id(1), metadata());
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            writers.spawn(async move {
                for _ in 0..500 {
                    store
                        .update(id(1), "n", Timestamp::EPOCH, |old| {
                            let old = old.map_or(0, |old| number(old));
                            Some(Arc::from((old + 1).to_le_bytes()))
                        })
                        .await
                        .unwrap();
                }
            });
        }
        writers.join_all().await;
        let sum = store.read(id(1), "n").await.unwrap().unwrap();
        assert_eq!(number(&sum), 4_000);
    }

    fn number(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }
}

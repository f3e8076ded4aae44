//! Per-context data in memory: metadata and tool state, keyed by context id.
//!
//! The store is bounded in bytes; beyond the bound the least recently used contexts go, but never one in use.
//! A context lives as long as its [`ContextGuard`] (its agent); what is left of it afterwards is what the
//! journal has. Reads run side by side, writes to one context one after the other.
//!
//! Invariant: the sum of all sizes is within the bound after every call, and a context in use is never evicted.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use otto_core::{ContextId, TaskId, Timestamp, WorkflowId};

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

/// Why a write was not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// There is no such context: its agent has ended or it was evicted.
    #[error("context {0} is not there: its agent has ended")]
    Gone(ContextId),
    /// There is no room, and everything else is in use.
    #[error(
        "write {needed} bytes to context {context}: {free} of {max} bytes are free and all contexts are in use"
    )]
    Full {
        /// The context.
        context: ContextId,
        /// Bytes the write needs.
        needed: usize,
        /// Bytes that could be made free.
        free: usize,
        /// The bound.
        max: usize,
    },
}

/// Per-context data, bounded in bytes. Cheap to clone; all clones are the same store.
#[derive(Debug, Clone)]
pub struct ContextStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    contexts: RwLock<HashMap<ContextId, Arc<Context>>>,
    /// Changes of the sum of sizes happen under this lock, so that the bound is decided at one place.
    used_bytes: Mutex<usize>,
    max_bytes: usize,
    /// Counts reads and writes; the smallest stamp is the least recently used.
    ticks: AtomicU64,
}

#[derive(Debug)]
struct Context {
    content: RwLock<Content>,
    /// Serializes writers across their whole read-change-write.
    writer: Mutex<()>,
    last_used: AtomicU64,
    in_use: AtomicU64,
}

#[derive(Debug)]
struct Content {
    metadata: ContextMetadata,
    entries: BTreeMap<Arc<str>, Arc<[u8]>>,
    /// Removed from the store; a writer that still holds it must not book anything to it.
    is_removed: bool,
}

/// Keeps a context in use; the last guard of a context removes it.
#[derive(Debug)]
pub struct ContextGuard {
    store: ContextStore,
    id: ContextId,
}

impl ContextStore {
    /// A store of at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                contexts: RwLock::new(HashMap::new()),
                used_bytes: Mutex::new(0),
                max_bytes,
                ticks: AtomicU64::new(1),
            }),
        }
    }

    /// Opens a context, or joins it if it is open.
    #[must_use]
    pub fn open(&self, id: ContextId, metadata: ContextMetadata) -> ContextGuard {
        let mut contexts = self
            .inner
            .contexts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let context = contexts.entry(id).or_insert_with(|| {
            Arc::new(Context {
                content: RwLock::new(Content {
                    metadata,
                    entries: BTreeMap::new(),
                    is_removed: false,
                }),
                writer: Mutex::new(()),
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
    #[must_use]
    pub fn read(&self, id: ContextId, key: &str) -> Option<Arc<[u8]>> {
        let context = self.find(id)?;
        let content = context
            .content
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        content.entries.get(key).cloned()
    }

    /// The metadata of a context.
    #[must_use]
    pub fn metadata(&self, id: ContextId) -> Option<ContextMetadata> {
        let context = self.find(id)?;
        let content = context
            .content
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Some(content.metadata)
    }

    /// Sets the value under `key`.
    ///
    /// # Errors
    /// When the context is gone or there is no room; nothing was changed then.
    pub fn write(
        &self,
        id: ContextId,
        key: &str,
        value: Arc<[u8]>,
        now: Timestamp,
    ) -> Result<(), ContextError> {
        self.update(id, key, now, |_| Some(value))
    }

    /// Changes the value under `key` by a function of the old one; `None` removes it. No other write to the
    /// same context happens in between.
    ///
    /// # Errors
    /// When the context is gone or there is no room; nothing was changed then.
    pub fn update(
        &self,
        id: ContextId,
        key: &str,
        now: Timestamp,
        change: impl FnOnce(Option<&Arc<[u8]>>) -> Option<Arc<[u8]>>,
    ) -> Result<(), ContextError> {
        let context = self.find(id).ok_or(ContextError::Gone(id))?;
        let _one_writer = context
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let old = {
            let content = context
                .content
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            content.entries.get(key).cloned()
        };
        let new = change(old.as_ref());
        let old_size = old.as_ref().map_or(0, |value| entry_size(key, value));
        let new_size = new.as_ref().map_or(0, |value| entry_size(key, value));
        self.make_room(id, old_size, new_size)?;
        let mut content = context
            .content
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if content.is_removed {
            // It was removed after the room was booked; its old value was taken off with it.
            drop(content);
            let mut used = self
                .inner
                .used_bytes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *used = (*used + old_size).saturating_sub(new_size);
            return Err(ContextError::Gone(id));
        }
        content.metadata.updated_at = now;
        match new {
            Some(value) => content.entries.insert(Arc::from(key), value),
            None => content.entries.remove(key),
        };
        Ok(())
    }

    /// Bytes in use.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        *self
            .inner
            .used_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Contexts that are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner
            .contexts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn find(&self, id: ContextId) -> Option<Arc<Context>> {
        let contexts = self
            .inner
            .contexts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let context = contexts.get(&id)?.clone();
        context.last_used.store(
            self.inner.ticks.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(context)
    }

    /// Books the change from `old_size` to `new_size`, evicting what is not in use if need be.
    fn make_room(
        &self,
        id: ContextId,
        old_size: usize,
        new_size: usize,
    ) -> Result<(), ContextError> {
        let mut used = self
            .inner
            .used_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = used.saturating_sub(old_size) + new_size;
        if wanted > self.inner.max_bytes {
            let freed = self.evict(wanted - self.inner.max_bytes, id);
            *used = used.saturating_sub(freed);
        }
        let wanted = used.saturating_sub(old_size) + new_size;
        if wanted > self.inner.max_bytes {
            let free = self
                .inner
                .max_bytes
                .saturating_sub(used.saturating_sub(old_size));
            let max = self.inner.max_bytes;
            return Err(ContextError::Full {
                context: id,
                needed: new_size,
                free,
                max,
            });
        }
        *used = wanted;
        Ok(())
    }

    /// Removes least recently used contexts that nobody uses until `needed` bytes are free; returns the bytes.
    /// Removes none if all of them together are not enough: the write fails then and costs nobody anything.
    fn evict(&self, needed: usize, writing: ContextId) -> usize {
        let mut contexts = self
            .inner
            .contexts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut idle: Vec<(u64, ContextId)> = contexts
            .iter()
            .filter(|(id, context)| **id != writing && context.in_use.load(Ordering::Acquire) == 0)
            .map(|(id, context)| (context.last_used.load(Ordering::Relaxed), *id))
            .collect();
        idle.sort_unstable();
        let could_free: usize = idle
            .iter()
            .filter_map(|(_, id)| contexts.get(id))
            .map(|context| context.size())
            .sum();
        if could_free < needed {
            return 0;
        }
        let mut freed = 0;
        for (_, id) in idle {
            if freed >= needed {
                break;
            }
            if let Some(context) = contexts.remove(&id) {
                freed += context.remove();
            }
        }
        freed
    }

    /// Keeps the content of a context after its last guard is gone, until it is evicted.
    ///
    /// For sessions that will be taken up again soon; a guard that is dropped otherwise removes its context.
    pub fn keep(&self, guard: ContextGuard) {
        if let Some(context) = self.find(guard.id) {
            context.in_use.fetch_sub(1, Ordering::AcqRel);
        }
        std::mem::forget(guard);
    }

    fn close(&self, id: ContextId) {
        let mut used = self
            .inner
            .used_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut contexts = self
            .inner
            .contexts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(context) = contexts.get(&id) else {
            return;
        };
        if context.in_use.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(context) = contexts.remove(&id)
        {
            *used = used.saturating_sub(context.remove());
        }
    }
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
        self.store.close(self.id);
    }
}

fn entry_size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD
}

impl Context {
    /// Marks it as removed and returns its size.
    fn remove(&self) -> usize {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.is_removed = true;
        content.size()
    }

    fn size(&self) -> usize {
        self.content
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .size()
    }
}

impl Content {
    fn size(&self) -> usize {
        self.entries
            .iter()
            .map(|(key, value)| entry_size(key, value))
            .sum()
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

    #[test]
    fn a_context_ends_with_its_agent() {
        let store = ContextStore::new(10_000);
        let guard = store.open(id(1), metadata());
        store
            .write(id(1), "k", bytes(100), Timestamp::from_millis(5))
            .unwrap();
        assert_eq!(store.read(id(1), "k").unwrap().len(), 100);
        assert_eq!(
            store.metadata(id(1)).unwrap().updated_at,
            Timestamp::from_millis(5)
        );
        drop(guard);
        assert_eq!(store.read(id(1), "k"), None);
        assert_eq!((store.count(), store.used_bytes()), (0, 0));
    }

    #[test]
    fn the_least_recently_used_idle_context_goes_first_and_one_in_use_never() {
        let store = ContextStore::new(3_000);
        let used = store.open(id(1), metadata());
        store
            .write(id(1), "k", bytes(900), Timestamp::EPOCH)
            .unwrap();
        for n in [2, 3] {
            let guard = store.open(id(n), metadata());
            store
                .write(id(n), "k", bytes(900), Timestamp::EPOCH)
                .unwrap();
            store.keep(guard);
        }
        // Context 2 is older, but was read last.
        assert!(store.read(id(2), "k").is_some());
        let fourth = store.open(id(4), metadata());
        store
            .write(id(4), "k", bytes(900), Timestamp::EPOCH)
            .unwrap();
        assert!(store.read(id(1), "k").is_some() && store.read(id(2), "k").is_some());
        assert!(store.read(id(3), "k").is_none());
        assert!(store.used_bytes() <= 3_000);
        let error = store
            .write(id(4), "more", bytes(2_500), Timestamp::EPOCH)
            .unwrap_err();
        assert!(
            matches!(error, ContextError::Full { needed: 2_568, .. }),
            "{error}"
        );
        assert!(store.read(id(1), "k").is_some());
        drop((used, fourth));
    }

    #[test]
    fn writes_to_one_context_do_not_lose_each_other() {
        let store = ContextStore::new(100_000);
        let _guard = store.open(id(1), metadata());
        store
            .write(id(1), "n", Arc::from(0_u64.to_le_bytes()), Timestamp::EPOCH)
            .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        store
                            .update(id(1), "n", Timestamp::EPOCH, |old| {
                                let old = u64::from_le_bytes(old.unwrap()[..].try_into().unwrap());
                                Some(Arc::from((old + 1).to_le_bytes()))
                            })
                            .unwrap();
                    }
                });
            }
        });
        let sum = u64::from_le_bytes(store.read(id(1), "n").unwrap()[..].try_into().unwrap());
        assert_eq!(sum, 4_000);
    }
}

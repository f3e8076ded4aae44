//! The data of contexts: what the tools of an invocation share, and where it goes when memory is short.
//!
//! A context is working state, not a record: it lives in one process and ends with it. What must outlive a crash
//! belongs into the journal or an artifact.
//!
//! Invariant: what was written is read back unchanged, or an error says that it is not there any more; never
//! something else, and never as if nothing had been written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ContextId;
use crate::port::BoxFuture;
use crate::port::store::StoreError;

/// The content of a context by key.
pub type ContextEntries = BTreeMap<Arc<str>, Arc<[u8]>>;

/// Makes the new value of a key from the old one; `None` is no value. Runs at most once.
pub type ContextChange<'a> = Box<dyn FnOnce(Option<&[u8]>) -> Option<Arc<[u8]>> + Send + 'a>;

/// Why a context could not be read or written. What was in it is as it was.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// There is no such context: its agent has ended, or it was not in use and made room for others.
    #[error("context {0} is not there: its agent has ended or it made room for others")]
    Gone(ContextId),
    /// There is no room, and nothing that could make any.
    #[error(
        "write {needed} bytes to context {context}: {free} of {max} bytes of memory are free and nothing else can make room; write less, or raise `contexts.memory` or `contexts.disk` of the operator's configuration"
    )]
    Full {
        /// The context.
        context: ContextId,
        /// Bytes the entry needs, with what its key and its place take.
        needed: usize,
        /// Bytes of memory that are free.
        free: usize,
        /// The bound of memory.
        max: usize,
    },
    /// Contexts could not be moved to disk to make room. Free space or see to the disk, then try again.
    #[error("make room for context {context} by moving contexts to disk")]
    NotMoved {
        /// The context that needed room.
        context: ContextId,
        /// What the disk said.
        source: StoreError,
    },
    /// The context was moved to disk and does not come back. While the file is damaged or missing every call
    /// says so; end the invocation and begin anew.
    #[error("bring context {context} back from disk")]
    Lost {
        /// The context.
        context: ContextId,
        /// What was found.
        source: StoreError,
    },
}

/// What the tools of one invocation share: values by key, kept until the invocation ends.
///
/// It takes memory with the first write. Values are counted with their keys, and bounded together with those of
/// all other invocations. They are not redacted: a tool reads what it wrote, to the byte.
pub trait ContextData: Send + Sync {
    /// Names the context in Otto's ContextStore.
    fn id(&self) -> ContextId;

    /// The value under `key`.
    ///
    /// # Errors
    /// [`ContextError::Lost`] when it was moved to disk and does not come back.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, ContextError>>;

    /// Changes the value under `key` by a function of the old one. No other write to the same context happens
    /// in between.
    ///
    /// Cancel safety: dropped before it ends, the change was made whole or not at all.
    ///
    /// # Errors
    /// When there is no room, or the invocation has ended; nothing was changed then.
    fn update<'a>(
        &'a self,
        key: &'a str,
        change: ContextChange<'a>,
    ) -> BoxFuture<'a, Result<(), ContextError>>;

    /// Sets the value under `key`.
    ///
    /// # Errors
    /// As [`ContextData::update`].
    fn write<'a>(
        &'a self,
        key: &'a str,
        value: Arc<[u8]>,
    ) -> BoxFuture<'a, Result<(), ContextError>> {
        self.update(key, Box::new(move |_| Some(value)))
    }

    /// Removes the value under `key`, if there is one.
    ///
    /// # Errors
    /// As [`ContextData::update`].
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ContextError>> {
        self.update(key, Box::new(|_| None))
    }
}

/// Names a file of [`ContextFiles`]; never used a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextFile(pub u64);

/// Where contexts go that memory has no room for. The calls block: they are made on threads for such work.
///
/// A file is read by the process that wrote it and by nobody else, and is worth nothing after it: whoever
/// implements this removes at start what the dead have left.
pub trait ContextFiles: Send + Sync {
    /// Writes a new file.
    ///
    /// # Errors
    /// When it could not be written whole; nothing is left of it then.
    fn write(&self, entries: &ContextEntries) -> Result<ContextFile, StoreError>;

    /// What was written.
    ///
    /// # Errors
    /// `Damaged` when the file is missing or holds anything else.
    fn read(&self, file: ContextFile) -> Result<ContextEntries, StoreError>;

    /// Removes a file. One that cannot be removed now goes with the next start.
    fn remove(&self, file: ContextFile);
}

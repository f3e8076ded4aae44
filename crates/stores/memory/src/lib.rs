//! A store in memory: the same rules and answers as the embedded one, gone with the process.
//!
//! For tests, the simulator, and runs that need no durability. The rules are those of
//! [`otto_core::store_rules`]; here are only the rows, in ordered maps behind one mutex. No call waits for
//! anything but that mutex, so a future of this store is ready when it is first polled.
//!
//! It does not promise what only a disk can: `Synced` and `Relaxed` are the same.
//!
//! Invariant: a call that answers with an error has changed nothing.

mod audit;
mod blobs;
mod bounds;
mod queries;
mod rows;
mod store;

pub use bounds::Bounds;
pub use store::MemoryStore;

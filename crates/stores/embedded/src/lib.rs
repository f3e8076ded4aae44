//! The embedded store: SQLite for journal, ledger and usage, files for artifacts.
//!
//! One thread writes, with group commit: whoever waits is served by the same sync. What a rule decides is
//! in [`otto_core::store_rules`]; this crate keeps its rows, makes them durable, and says clearly what went
//! wrong when it cannot.
//!
//! # Several processes on one state directory
//! A CLI beside a server is fine: every change is a transaction that looks at the rows as they are, and a
//! session has one writer by its lease. A process that dies loses its leases at the next opening. The state
//! directory must be on a local disk.
//!
//! # Files
//! ```text
//! <state_dir>/otto.db             everything but artifacts, and of these what has no file yet
//! <state_dir>/otto.db-wal, -shm   its log; belongs to it
//! <state_dir>/nodes/              one locked file per process
//! <state_dir>/open.lock           held while a store is opened or migrated
//! <state_dir>/sessions/<id>/      the artifacts of a session
//! <state_dir>/contexts/<process>/ contexts that memory has no room for; worth nothing once the process has ended
//! ```
//!
//! # Backup
//! [`EmbeddedStore::backup`] copies the database while it is in use. To restore: end every Otto process on
//! the state directory, move `otto.db`, `otto.db-wal` and `otto.db-shm` away (all three: a log belongs to its
//! file), and copy the backup to `otto.db`.
//!
//! Invariant: what was answered with `Synced` survives power loss, and what was not answered may be there or
//! not, but never in part.

mod artifacts;
mod audit;
mod backup;
mod boot;
mod chain;
mod config;
mod contexts;
mod db;
mod error;
mod presence;
mod queue;
mod reader;
mod redact;
mod state_dir;
mod store;
mod verify;
mod writer;

pub use artifacts::{Checkpointer, DamagedArtifact, RetentionPolicy, RetentionReport, ScrubReport};
pub use backup::Copied;
pub use config::{DEFAULT_ARTIFACT_BYTES_MAX, FaultPoints, NoFaults, StoreConfig, SystemClock};
pub use redact::Cleaned;
pub use state_dir::create_state_dir;
pub use store::EmbeddedStore;
pub use verify::{Finding, FindingKind, VerifyReport};

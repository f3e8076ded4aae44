//! What a store is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use otto_core::Timestamp;
use otto_core::store_rules::StoreClock;

/// Most bytes of artifacts kept at a time, unless configured: 100 GB.
pub const DEFAULT_ARTIFACT_BYTES_MAX: u64 = 100_000_000_000;

/// What a store is opened with.
#[derive(Clone)]
pub struct StoreConfig {
    /// The state directory, such as `var/otto`. Created with mode 0700 if it is missing.
    pub state_dir: PathBuf,
    /// The name of this process, unique per start: a restart is a takeover.
    pub node: Arc<str>,
    /// Names the life of this machine since it was last switched on. A lease from an earlier one belongs to a
    /// process that is dead for sure. The default is the kernel's boot id; empty means unknown.
    pub boot: Arc<str>,
    /// Decides leases and UTC days.
    pub clock: Arc<dyn StoreClock>,
    /// Most bytes of artifacts kept at a time. Above it, storing answers `Full`.
    pub artifact_bytes_max: u64,
    /// Told before each step of a durable write; only tests do something there.
    pub faults: Arc<dyn FaultPoints>,
}

/// Told before each step whose failure matters, by name.
///
/// A test makes the step fail, or ends the process there: what is then on disk is what a crash at that
/// instruction leaves.
pub trait FaultPoints: Send + Sync {
    /// Before a step. An error is treated as if the step had failed with it.
    ///
    /// # Errors
    /// Whatever is to be injected; its raw OS error is used.
    fn reach(&self, step: &'static str) -> std::io::Result<()>;

    /// Before a sync of the log, which then fails with the error.
    ///
    /// # Errors
    /// Whatever is to be injected.
    fn sync_log(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// No faults but the real ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl FaultPoints for NoFaults {
    fn reach(&self, _step: &'static str) -> std::io::Result<()> {
        Ok(())
    }
}

impl StoreConfig {
    /// The defaults for a state directory and a node name.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, node: impl Into<Arc<str>>) -> Self {
        Self {
            state_dir: state_dir.into(),
            node: node.into(),
            boot: boot_id(),
            clock: Arc::new(SystemClock),
            artifact_bytes_max: DEFAULT_ARTIFACT_BYTES_MAX,
            faults: Arc::new(NoFaults),
        }
    }
}

/// The kernel's name of this boot; empty where there is none.
///
/// Source: proc(5), `/proc/sys/kernel/random/boot_id`: made anew at each start of the kernel.
fn boot_id() -> Arc<str> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Arc::from(id.trim())
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("state_dir", &self.state_dir)
            .field("node", &self.node)
            .field("artifact_bytes_max", &self.artifact_bytes_max)
            .finish_non_exhaustive()
    }
}

/// The wall clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl StoreClock for SystemClock {
    fn now(&self) -> Timestamp {
        // A wall clock before 1970 reads as the first instant: the day never falls below what was seen.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::EPOCH.after(since)
    }
}

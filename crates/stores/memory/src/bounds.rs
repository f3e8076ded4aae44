//! How much a store in memory may hold.

/// How much a store in memory may hold, and what happens at the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most invocations. Above it, submitting answers `Full`.
    pub invocations: usize,
    /// Most bytes of journals and results. Above it, those of the invocations that ended first are dropped
    /// (never of one that is unfinished or resumable); their records and usage stay.
    pub journal_bytes: usize,
    /// Most bytes of artifacts. Above it, storing answers `Full`.
    pub artifact_bytes: u64,
}

impl Default for Bounds {
    /// A million invocations, 256 MiB of journals, 1 GiB of artifacts.
    fn default() -> Self {
        Self {
            invocations: 1_000_000,
            journal_bytes: 256 << 20,
            artifact_bytes: 1 << 30,
        }
    }
}

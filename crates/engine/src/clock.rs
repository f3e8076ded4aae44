//! The engine's clock and its source of ids, as values that are handed in.
//!
//! Invariant: the clock never goes back; a jump of the wall clock after start does not move it.

use otto_core::{InvocationId, SessionId, TaskId, Timestamp, WorkflowId};
use tokio::time::Instant;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock: the wall read once, moved by Tokio's monotonic clock (which tests can pause).
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    wall_at_start: Timestamp,
    start: Instant,
}

impl SystemClock {
    /// Reads the wall clock. A wall before 1970 counts as 1970.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            wall_at_start: Timestamp::EPOCH.after(since_epoch),
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall_at_start.after(self.start.elapsed())
    }
}

/// Draws ids and seeds.
pub trait IdSource: Send + Sync {
    /// Ten random bytes.
    fn random(&self) -> [u8; 10];

    /// A new invocation id.
    fn invocation(&self, now: Timestamp) -> InvocationId {
        InvocationId::from_parts(now, self.random())
    }

    /// A new session id.
    fn session(&self, now: Timestamp) -> SessionId {
        SessionId::from_parts(now, self.random())
    }

    /// A new task id.
    fn task(&self, now: Timestamp) -> TaskId {
        TaskId::from_parts(now, self.random())
    }

    /// A new workflow id.
    fn workflow(&self, now: Timestamp) -> WorkflowId {
        WorkflowId::from_parts(now, self.random())
    }
}

/// Ids from a generator of this process that the operating system's random source seeds: a system call for each
/// would be a good part of what it costs to begin an invocation.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn random(&self) -> [u8; 10] {
        let bytes = *uuid::Uuid::new_v4().as_bytes();
        // Bytes 6 and 8 of a version 4 UUID carry version and variant; the ten others are random enough.
        [
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[9], bytes[10],
            bytes[11], bytes[12],
        ]
    }
}

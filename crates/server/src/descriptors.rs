//! The limit of this process on open files, and how many connections it leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// BOUND: descriptors that are not connections: store, workers, calls of models.
const RESERVED: u64 = 512;

/// Raises the soft limit to the hard one, which needs no privilege, and says how many of `wanted` connections fit.
pub(crate) fn room_for_connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it is not allowed, the limit stays as it was.
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let room = current.map_or(u64::MAX, |current| {
        // A small limit is shared half and half.
        current.saturating_sub(RESERVED).max(current / 2)
    });
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

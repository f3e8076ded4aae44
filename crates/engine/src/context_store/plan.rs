//! Who makes room for a context: which others move to disk, and which go.
//!
//! The rule: contexts move to disk in the order of their last use, until the one that needs room fits into memory.
//! Where the disk has no room for them, contexts that nobody uses are removed first, wherever they are, in the
//! order of their last use, as few as will do. If all of them are not enough, nothing is done.

use otto_core::ContextId;

/// A context that may make room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) id: ContextId,
    pub(super) last_used: u64,
    pub(super) bytes: usize,
    pub(super) is_on_disk: bool,
    pub(super) is_in_use: bool,
}

/// The bounds in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) memory: usize,
    pub(super) disk: u64,
}

/// What makes room, each in the order of last use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) remove: Vec<ContextId>,
    pub(super) to_disk: Vec<ContextId>,
}

/// Plans room for `wanted` bytes in memory beside the candidates; `None` if there is no way.
pub(super) fn plan(mut candidates: Vec<Candidate>, wanted: usize, bounds: Bounds) -> Option<Plan> {
    candidates.sort_unstable_by_key(|candidate| (candidate.last_used, candidate.id));
    let idle: Vec<ContextId> = candidates
        .iter()
        .filter(|candidate| !candidate.is_in_use)
        .map(|candidate| candidate.id)
        .collect();
    let attempt = |removed| to_disk(&candidates, removed, wanted, bounds);
    attempt(idle.len())?;
    // One more that goes never makes the others harder to place: the smallest number is found by halving.
    let (mut least, mut enough) = (0, idle.len());
    while least < enough {
        let middle = usize::midpoint(least, enough);
        if attempt(middle).is_some() {
            enough = middle;
        } else {
            least = middle + 1;
        }
    }
    Some(Plan {
        to_disk: attempt(enough)?,
        remove: idle[..enough].to_vec(),
    })
}

/// Which of the candidates move to disk when the first `removed` of those that nobody uses are gone; `None` if
/// that does not make the room.
fn to_disk(
    candidates: &[Candidate],
    removed: usize,
    wanted: usize,
    bounds: Bounds,
) -> Option<Vec<ContextId>> {
    let mut idle = 0;
    let left: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| {
            idle += usize::from(!candidate.is_in_use);
            candidate.is_in_use || idle > removed
        })
        .collect();
    let on_disk = left.iter().filter(|candidate| candidate.is_on_disk);
    let mut disk: u64 = on_disk.map(|candidate| candidate.bytes as u64).sum();
    let in_memory = left.iter().filter(|candidate| !candidate.is_on_disk);
    let mut memory: usize = in_memory.clone().map(|candidate| candidate.bytes).sum();
    let mut moved = Vec::new();
    for candidate in in_memory {
        if memory.saturating_add(wanted) <= bounds.memory {
            break;
        }
        if candidate.bytes > 0 {
            memory -= candidate.bytes;
            disk += candidate.bytes as u64;
            moved.push(candidate.id);
        }
    }
    let fits = memory.saturating_add(wanted) <= bounds.memory;
    // What is there already stays where it is, also above a bound.
    (fits && (moved.is_empty() || disk <= bounds.disk)).then_some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(n: u8, bytes: usize, place: &str) -> Candidate {
        Candidate {
            id: ContextId::from_bytes([n; 16]),
            last_used: u64::from(n),
            bytes,
            is_on_disk: place.contains("disk"),
            is_in_use: place.contains("used"),
        }
    }

    /// The numbers of the contexts that go and that move.
    fn planned(
        candidates: &[Candidate],
        wanted: usize,
        memory: usize,
        disk: u64,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let numbers = |ids: &[ContextId]| ids.iter().map(|id| id.as_bytes()[0]).collect();
        plan(candidates.to_vec(), wanted, Bounds { memory, disk })
            .map(|plan| (numbers(&plan.remove), numbers(&plan.to_disk)))
    }

    #[test]
    fn contexts_move_to_disk_before_any_goes() {
        let three = [
            candidate(1, 40, "used"),
            candidate(2, 40, ""),
            candidate(3, 20, "used"),
        ];
        assert_eq!(planned(&three, 0, 100, 100), Some((vec![], vec![])));
        assert_eq!(planned(&three, 1, 100, 100), Some((vec![], vec![1])));
        assert_eq!(planned(&three, 50, 100, 100), Some((vec![], vec![1, 2])));
        // Without room on the disk the idle one goes, and only if that is enough.
        assert_eq!(planned(&three, 1, 100, 0), Some((vec![2], vec![])));
        assert_eq!(planned(&three, 50, 100, 0), None);
        assert_eq!(planned(&three, 50, 100, 40), Some((vec![2], vec![1])));
    }

    #[test]
    fn an_idle_context_on_disk_makes_room_there() {
        let full = [
            candidate(1, 60, "disk"),
            candidate(2, 60, "disk, used"),
            candidate(3, 60, "used"),
        ];
        assert_eq!(planned(&full, 60, 100, 120), Some((vec![1], vec![3])));
        assert_eq!(planned(&full, 101, 100, 120), None);
        assert_eq!(planned(&full[1..], 60, 100, 60), None);
    }
}

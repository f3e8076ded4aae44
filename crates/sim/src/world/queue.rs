//! What will happen, in the order of time; at the same time, in the order in which it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use otto_core::Timestamp;

/// A queue of things to come.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Planned<T>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at: Timestamp,
    number: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            planned: 0,
        }
    }

    pub(crate) fn plan(&mut self, at: Timestamp, what: T) {
        self.planned += 1;
        self.heap.push(Planned {
            at,
            number: self.planned,
            what,
        });
    }

    pub(crate) fn next(&mut self) -> Option<(Timestamp, T)> {
        self.heap.pop().map(|planned| (planned.at, planned.what))
    }
}

impl<T> Planned<T> {
    /// The heap gives the greatest first: the earliest is the greatest.
    fn rank(&self) -> (std::cmp::Reverse<Timestamp>, std::cmp::Reverse<u64>) {
        (std::cmp::Reverse(self.at), std::cmp::Reverse(self.number))
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

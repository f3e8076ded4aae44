//! How often each request was made: the only thing the server remembers about conversations, and only for
//! scripts with faults.
//!
//! A request is known by its account, model, user id and whole prompt. An answer that went out whole ends the
//! count, so that the next client with the same words begins at attempt 1 again.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::digest::Digest;
use crate::limits;

pub(super) struct Attempts {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    counts: HashMap<Digest, u32>,
    /// In order of their first attempt; may hold keys that were forgotten since.
    order: VecDeque<Digest>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            counted: Mutex::new(Counted::default()),
        }
    }

    /// Counts an attempt; the first is number 1.
    pub(super) fn next(&self, key: Digest) -> u32 {
        let mut counted = self.lock();
        if let Some(count) = counted.counts.get_mut(&key) {
            *count = count.saturating_add(1);
            return *count;
        }
        // BOUND: the oldest keys go first; a client that comes back after that begins anew.
        while counted.order.len() >= limits::ATTEMPT_KEYS {
            let Some(oldest) = counted.order.pop_front() else {
                break;
            };
            counted.counts.remove(&oldest);
        }
        counted.order.push_back(key);
        counted.counts.insert(key, 1);
        1
    }

    /// Ends the count of a request that was answered.
    pub(super) fn forget(&self, key: Digest) {
        self.lock().counts.remove(&key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        // A panic while it was locked leaves at most a key too many in the order, which is harmless.
        self.counted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Digest {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(number as u64).to_le_bytes());
        key
    }

    #[test]
    fn attempts_count_until_one_succeeds() {
        let attempts = Attempts::new();
        assert_eq!(
            [
                attempts.next(key(1)),
                attempts.next(key(1)),
                attempts.next(key(2))
            ],
            [1, 2, 1]
        );
        attempts.forget(key(1));
        assert_eq!(attempts.next(key(1)), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let attempts = Attempts::new();
        for number in 0..limits::ATTEMPT_KEYS + 100 {
            attempts.next(key(number));
            attempts.forget(key(number));
        }
        let counted = attempts.lock();
        assert!(
            counted.order.len() <= limits::ATTEMPT_KEYS
                && counted.counts.len() <= limits::ATTEMPT_KEYS
        );
    }
}

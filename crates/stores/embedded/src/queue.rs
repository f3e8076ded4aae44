//! A bounded queue from async callers to a thread.
//!
//! A caller that finds it full waits for room, without blocking its executor; the thread takes whatever is
//! there at once, which is what makes group commit possible. It does not know what it carries.
//!
//! Invariant: what was pushed is taken, also after the queue was closed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

/// The queue.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    room: Semaphore,
}

struct State<T> {
    items: VecDeque<(T, Room)>,
    /// Threads that wait, and for how many items. A push wakes one only if it has to: a wake-up is a system call.
    waiting: usize,
    wanted: usize,
    closed: bool,
}

/// Whether an item counts against the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Taken,
    Extra,
}

/// Why [`Queue::take`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There is at least one item.
    Items,
    /// The deadline has passed.
    Timeout,
    /// The queue is closed and empty.
    Closed,
}

/// The queue was closed; the item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T> Queue<T> {
    /// A queue that holds at most `bound` items.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                waiting: 0,
                wanted: 1,
                closed: false,
            }),
            ready: Condvar::new(),
            room: Semaphore::new(bound),
        }
    }

    /// Adds an item, waiting for room. Items of one caller keep their order.
    ///
    /// Cancel safety: dropped before it is done, nothing was added.
    pub(crate) async fn push(&self, item: T) -> Result<(), Closed> {
        let permit = self.room.acquire().await.map_err(|_| Closed)?;
        let state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        permit.forget();
        self.add(state, (item, Room::Taken));
        Ok(())
    }

    /// Adds an item beyond the bound, for a thread of the store that hands work on. What it hands on was bounded where
    /// it came from.
    pub(crate) fn push_now(&self, item: T) -> Result<(), Closed> {
        let state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        self.add(state, (item, Room::Extra));
        Ok(())
    }

    fn add(&self, mut state: MutexGuard<'_, State<T>>, item: (T, Room)) {
        state.items.push_back(item);
        let wake = state.waiting > 0 && state.items.len() >= state.wanted;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Waits for an item and moves at most `most` of them into `into`.
    pub(crate) fn take(&self, most: usize, into: &mut Vec<T>) -> Taken {
        self.take_at_least(|| 1, most, into, None)
    }

    /// Waits for that many items, or until the deadline, and moves at most `most` of them into `into`; with 0 it does
    /// not wait, also where there are none. How many it waits for is asked again after
    /// [`look_again`](Self::look_again); the last ones of a closed queue may be fewer.
    ///
    /// For a queue from which one thread takes.
    pub(crate) fn take_at_least(
        &self,
        least: impl Fn() -> usize,
        most: usize,
        into: &mut Vec<T>,
        deadline: Option<Instant>,
    ) -> Taken {
        let mut state = self.lock();
        loop {
            let wanted = least();
            let there = state.items.len();
            if there >= wanted || (state.closed && there > 0) {
                break;
            }
            if state.closed {
                return Taken::Closed;
            }
            state.wanted = wanted;
            state.waiting += 1;
            state = match deadline {
                None => self
                    .ready
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.waiting -= 1;
                        return Taken::Timeout;
                    }
                    self.ready
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            state.waiting -= 1;
        }
        let count = most.min(state.items.len());
        let mut freed = 0;
        into.extend(state.items.drain(..count).map(|(item, room)| {
            freed += usize::from(room == Room::Taken);
            item
        }));
        drop(state);
        self.room.add_permits(freed);
        Taken::Items
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Has the thread that waits ask again for how many items it waits.
    pub(crate) fn look_again(&self) {
        let state = self.lock();
        let wake = state.waiting > 0;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Refuses further items and wakes everyone.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic while the lock was held cannot leave the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Warm workers by agent and grant.
//!
//! At most a few workers per key run at once, and at most so many live in total. A worker that is idle for
//! too long is ended; when the total is reached, the one that has been idle longest makes room.
//!
//! Invariant: a worker is either in a lease or idle in the slot of the key it was started for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use otto_core::AgentName;
use otto_core::port::tool_host::HostGrant;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};

use crate::host::Connection;
use crate::spec::WorkerKind;

// BOUND: how long a call waits for a worker that is busy with another call before it gets one of its own. About
// what a start takes on a busy machine: the wait never costs more than the start that it may save.
const PATIENCE: Duration = Duration::from_millis(5);

/// What a worker is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) agent: AgentName,
    pub(crate) kind: WorkerKind,
    pub(crate) working_dir: Option<std::path::PathBuf>,
    pub(crate) roots: Vec<(Arc<str>, std::path::PathBuf)>,
    pub(crate) hosts: Vec<Arc<str>>,
}

impl Key {
    /// Only what matters to this kind of worker, so that calls which differ elsewhere share it.
    pub(crate) fn new(agent: &AgentName, kind: WorkerKind, grant: &HostGrant) -> Self {
        let files = kind.reads() || kind.writes();
        Self {
            agent: agent.clone(),
            kind,
            working_dir: grant.working_dir.clone().filter(|_| files),
            roots: if kind.reads() {
                grant.roots.clone()
            } else {
                Vec::new()
            },
            hosts: if kind == WorkerKind::Http {
                grant.allowed_hosts.clone()
            } else {
                Vec::new()
            },
        }
    }
}

/// All workers of a host.
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Mutex<HashMap<Key, Slot>>,
    live: Arc<Semaphore>,
    /// Calls that wait for room. While there are any, no worker stays idle.
    waiting: AtomicUsize,
    per_key: usize,
}

#[derive(Debug)]
struct Slot {
    running: Arc<Semaphore>,
    idle: Vec<Idle>,
    /// Told of each worker that becomes idle.
    given_back: Arc<Notify>,
}

#[derive(Debug)]
struct Idle {
    worker: Worker,
    since: Instant,
}

#[derive(Debug)]
struct Worker {
    connection: Connection,
    _counted: OwnedSemaphorePermit,
}

/// The right to run one call for a key, with or without a worker yet.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    key: Key,
    worker: Option<Worker>,
    _running: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(per_key: usize, total: usize) -> Self {
        Self {
            slots: Mutex::new(HashMap::new()),
            live: Arc::new(Semaphore::new(total.max(1))),
            waiting: AtomicUsize::new(0),
            per_key: per_key.max(1),
        }
    }

    /// Waits for a turn of this key; the lease holds a warm worker if there is one, or if one is soon given back.
    pub(crate) async fn lease(self: &Arc<Self>, key: Key) -> Result<Lease, AcquireError> {
        let lease = |running, worker, key| Lease {
            pool: Arc::clone(self),
            key,
            worker,
            _running: running,
        };
        // With a turn to be had at once, turn and worker are taken under one lock.
        let running = {
            let mut slots = self.lock();
            if !slots.contains_key(&key) {
                slots.insert(key.clone(), Slot::new(self.per_key));
            }
            let slot = slots.get_mut(&key).expect("it was just looked for");
            match Arc::clone(&slot.running).try_acquire_owned() {
                Ok(running) => {
                    let idle = slot.idle.pop();
                    drop(slots);
                    let worker = idle
                        .map(|idle| idle.worker)
                        .filter(|worker| worker.connection.is_waiting());
                    if worker.is_some() {
                        return Ok(lease(running, worker, key));
                    }
                    Ok(running)
                }
                Err(_) => Err(Arc::clone(&slot.running)),
            }
        };
        let running = match running {
            Ok(running) => running,
            Err(turns) => turns.acquire_owned().await?,
        };
        let mut lease = lease(running, None, key);
        lease.take_idle();
        lease.wait_for_busy().await;
        Ok(lease)
    }

    /// Live workers, idle or not.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let slots = self.lock();
        let idle = slots.values().map(|slot| slot.idle.len()).sum();
        (slots.len(), idle)
    }

    /// Ends workers that have been idle for too long and forgets keys without any. Says when to look again.
    pub(crate) fn reap(&self, now: Instant, timeout: Duration) -> Option<Instant> {
        let mut ended = Vec::new();
        let mut next: Option<Instant> = None;
        {
            let mut slots = self.lock();
            slots.retain(|_, slot| {
                // Idle workers are in the order in which they became idle.
                let stale = slot
                    .idle
                    .iter()
                    .take_while(|idle| now.duration_since(idle.since) >= timeout)
                    .count();
                ended.extend(slot.idle.drain(..stale));
                if let Some(first) = slot.idle.first() {
                    let due = first.since + timeout;
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
                !slot.idle.is_empty() || Arc::strong_count(&slot.running) > 1
            });
        }
        // The streams close outside the lock.
        drop(ended);
        next
    }

    /// Ends all idle workers for which `which` says so.
    pub(crate) fn end_idle(&self, which: impl Fn(&Key) -> bool) {
        let mut ended = Vec::new();
        for (_, slot) in self.lock().iter_mut().filter(|(key, _)| which(key)) {
            ended.append(&mut slot.idle);
        }
        drop(ended);
    }

    /// Who tells of workers that are given back, if calls other than the one that asks run for this key.
    fn others_at_work(&self, key: &Key) -> Option<Arc<Notify>> {
        let slots = self.lock();
        let slot = slots.get(key)?;
        let is_alone = slot.running.available_permits() + 1 >= self.per_key;
        (!is_alone).then(|| Arc::clone(&slot.given_back))
    }

    fn end_oldest_idle(&self) -> bool {
        let oldest = {
            let mut slots = self.lock();
            let slot = slots
                .values_mut()
                .filter(|slot| !slot.idle.is_empty())
                .min_by_key(|slot| slot.idle[0].since);
            slot.map(|slot| slot.idle.remove(0))
        };
        oldest.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new(per_key: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(per_key)),
            idle: Vec::new(),
            given_back: Arc::new(Notify::new()),
        }
    }
}

impl Lease {
    /// The worker, if there is one already.
    pub(crate) fn worker(&mut self) -> Option<&mut Connection> {
        self.worker.as_mut().map(|worker| &mut worker.connection)
    }

    /// Waits for room for one more worker, ending an idle one if that is what it takes.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let live = &self.pool.live;
        // Announced before looking: a worker that becomes idle after the look is then ended by who gives it back.
        let _waiting = Waiting::new(&self.pool.waiting);
        loop {
            if let Ok(permit) = Arc::clone(live).try_acquire_owned() {
                return Ok(permit);
            }
            if !self.pool.end_oldest_idle() {
                return Arc::clone(live).acquire_owned().await;
            }
        }
    }

    /// Puts a worker that was just started into the lease.
    pub(crate) fn fill(&mut self, connection: Connection, counted: OwnedSemaphorePermit) {
        self.worker = Some(Worker {
            connection,
            _counted: counted,
        });
    }

    /// Gives the worker back. A lease that is dropped without this ends its worker instead.
    pub(crate) fn give_back(mut self) {
        if let Some(worker) = self.worker.take() {
            let mut slots = self.pool.lock();
            let idle = Idle {
                worker,
                since: Instant::now(),
            };
            match slots.get_mut(&self.key) {
                Some(slot) => {
                    slot.idle.push(idle);
                    slot.given_back.notify_one();
                }
                None => {
                    let mut slot = Slot::new(self.pool.per_key);
                    slot.idle.push(idle);
                    slots.insert(self.key.clone(), slot);
                }
            }
            drop(slots);
            if self.pool.waiting.load(Ordering::SeqCst) > 0 {
                self.pool.end_oldest_idle();
            }
        }
    }

    /// Waits a little for a worker that another call of the same key has now: most calls take less time than the
    /// start of one more worker, and a start takes the processor from everybody else.
    async fn wait_for_busy(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.worker.is_none() {
            let Some(given_back) = self.pool.others_at_work(&self.key) else {
                return;
            };
            let given_back = given_back.notified();
            if tokio::time::timeout_at(until.into(), given_back)
                .await
                .is_err()
            {
                return;
            }
            self.take_idle();
        }
    }

    /// Takes the warmest idle worker that still waits for work.
    fn take_idle(&mut self) {
        loop {
            let idle = self
                .pool
                .lock()
                .get_mut(&self.key)
                .and_then(|slot| slot.idle.pop());
            match idle {
                Some(idle) if idle.worker.connection.is_waiting() => {
                    self.worker = Some(idle.worker);
                    return;
                }
                // It died while nobody looked; dropping it is enough.
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Counts a call among those that wait for room, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

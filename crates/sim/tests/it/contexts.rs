//! The ContextStore against a model: random opens, closes, reads, writes, moves to disk and removals, with a disk
//! that fails and files that are damaged.
//!
//! The model is written from the words of the requirement: bounded in bytes, the least recently used go first,
//! never one in use, gone with its last user unless it is kept; with a place on disk, the least recently used move
//! there, and those that nobody uses go only where that is not enough.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use otto_core::port::contexts::{ContextEntries, ContextError, ContextFile, ContextFiles};
use otto_core::port::store::StoreError;
use otto_core::{ContextId, TaskId, Timestamp};
use otto_engine::{ContextGuard, ContextMetadata, ContextStore};
use otto_sim::conformance::draw::Draw;

/// Random lives of a store; `OTTO_SIM_CONTEXT_CASES` names another number.
const CASES: u64 = 20_000;
/// Calls of each.
const STEPS: u64 = 40;
/// Contexts and keys that are drawn from.
const CONTEXTS: u64 = 5;
const KEYS: [&str; 3] = ["a", "bb", "ccc"];
/// The bound of memory: some values fit, not all.
const MAX_BYTES: usize = 400;
/// The bounds of the disk that are drawn from.
const DISKS: [u64; 3] = [0, 300, 5_000];
/// What an entry costs beside its key and value.
const OVERHEAD: usize = 64;

/// A value: how long it is and what it is filled with.
type Value = (usize, u8);

struct Model {
    contexts: BTreeMap<u8, Context>,
    tick: u64,
    disk_max: u64,
    disk_fails: bool,
    seen: Seen,
}

#[derive(Default)]
struct Context {
    entries: BTreeMap<&'static str, Value>,
    users: usize,
    last_used: u64,
    is_on_disk: bool,
    /// On disk in a file that is damaged.
    is_lost: bool,
}

/// How often what was met.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    full: u64,
    removed: u64,
    moved: u64,
    brought_back: u64,
    read_on_disk: u64,
    not_moved: u64,
    lost: u64,
}

/// What becomes of a call.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Done,
    Gone,
    Full,
    NotMoved,
    Lost,
}

impl Context {
    fn bytes(&self) -> usize {
        self.entries
            .iter()
            .map(|(key, (length, _))| size(key, *length))
            .sum()
    }
}

fn size(key: &str, length: usize) -> usize {
    key.len() + length + OVERHEAD
}

impl Model {
    fn bytes(&self, is_on_disk: bool) -> usize {
        let there = self.contexts.values();
        there
            .filter(|context| context.is_on_disk == is_on_disk)
            .map(Context::bytes)
            .sum()
    }

    fn touch(&mut self, n: u8) -> Option<&mut Context> {
        self.tick += 1;
        let tick = self.tick;
        let context = self.contexts.get_mut(&n)?;
        context.last_used = tick;
        Some(context)
    }

    /// Makes room for a context that takes so many bytes of memory in all.
    fn make_room(&mut self, n: u8, bytes: usize) -> Ending {
        let mut others: Vec<u8> = self.contexts.keys().copied().collect();
        others.retain(|other| *other != n);
        others.sort_by_key(|other| (self.contexts[other].last_used, *other));
        let mut idle = others.clone();
        idle.retain(|other| self.contexts[other].users == 0);
        let mut going = 0;
        loop {
            let left = others.iter().filter(|other| !idle[..going].contains(other));
            let (mut memory, mut disk, mut moving) = (bytes, 0, Vec::new());
            for other in left.clone() {
                let context = &self.contexts[other];
                *(if context.is_on_disk {
                    &mut disk
                } else {
                    &mut memory
                }) += context.bytes();
            }
            for other in left {
                let context = &self.contexts[other];
                if memory > MAX_BYTES && !context.is_on_disk && context.bytes() > 0 {
                    memory -= context.bytes();
                    disk += context.bytes();
                    moving.push(*other);
                }
            }
            let fits_disk = moving.is_empty() || disk as u64 <= self.disk_max;
            if memory <= MAX_BYTES && fits_disk {
                for other in &idle[..going] {
                    self.contexts.remove(other);
                }
                self.seen.removed += going as u64;
                if self.disk_fails && !moving.is_empty() {
                    self.seen.not_moved += 1;
                    return Ending::NotMoved;
                }
                for other in &moving {
                    self.contexts.get_mut(other).unwrap().is_on_disk = true;
                }
                self.seen.moved += moving.len() as u64;
                return Ending::Done;
            }
            if going == idle.len() {
                return Ending::Full;
            }
            going += 1;
        }
    }

    fn read(&mut self, n: u8, key: &str) -> Result<Option<Value>, Ending> {
        let Some(context) = self.touch(n) else {
            return Ok(None);
        };
        if context.is_lost {
            self.seen.lost += 1;
            return Err(Ending::Lost);
        }
        let (value, bytes) = (context.entries.get(key).copied(), context.bytes());
        if context.is_on_disk {
            if self.make_room(n, bytes) == Ending::Done {
                self.contexts.get_mut(&n).unwrap().is_on_disk = false;
                self.seen.brought_back += 1;
            } else {
                self.seen.read_on_disk += 1;
            }
        }
        Ok(value)
    }

    /// Looks at the old value, as every write does, and writes if there is room.
    fn write(&mut self, n: u8, key: &'static str, new: Option<Value>) -> Ending {
        if !self.contexts.contains_key(&n) {
            self.tick += 1;
            return Ending::Gone;
        }
        if let Err(ending) = self.read(n, key) {
            return ending;
        }
        let context = &self.contexts[&n];
        let old = context.entries.get(key).map_or(0, |old| size(key, old.0));
        let new_size = new.map_or(0, |new| size(key, new.0));
        let bytes = context.bytes() - old + new_size;
        // What is in memory and does not grow needs no room.
        if context.is_on_disk || new_size > old {
            match self.make_room(n, bytes) {
                Ending::Done => {}
                Ending::Full => {
                    self.seen.full += 1;
                    return Ending::Full;
                }
                other => return other,
            }
        }
        let context = self.contexts.get_mut(&n).unwrap();
        context.is_on_disk = false;
        match new {
            Some(new) => context.entries.insert(key, new),
            None => context.entries.remove(key),
        };
        Ending::Done
    }

    fn close(&mut self, n: u8) {
        let context = self.contexts.get_mut(&n).expect("it is in use");
        context.users -= 1;
        if context.users == 0 {
            self.contexts.remove(&n);
        }
    }
}

/// Files in memory that can fail.
#[derive(Default)]
struct Files {
    files: Mutex<BTreeMap<u64, Option<ContextEntries>>>,
    next: AtomicU64,
    fails: AtomicBool,
}

impl Files {
    fn damage_all(&self) {
        for file in self.files.lock().unwrap().values_mut() {
            *file = None;
        }
    }

    fn count(&self) -> usize {
        self.files.lock().unwrap().len()
    }
}

impl ContextFiles for Files {
    fn write(&self, entries: &ContextEntries) -> Result<ContextFile, StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            let detail = Arc::from("no room");
            return Err(StoreError::Full { detail });
        }
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let mut files = self.files.lock().unwrap();
        files.insert(number, Some(entries.clone()));
        Ok(ContextFile(number))
    }

    fn read(&self, ContextFile(number): ContextFile) -> Result<ContextEntries, StoreError> {
        let found = self.files.lock().unwrap().get(&number).cloned().flatten();
        found.ok_or_else(|| StoreError::Damaged {
            detail: Arc::from("damaged"),
        })
    }

    fn remove(&self, ContextFile(number): ContextFile) {
        self.files.lock().unwrap().remove(&number);
    }
}

fn id(n: u8) -> ContextId {
    ContextId::from_bytes([n; 16])
}

fn metadata() -> ContextMetadata {
    ContextMetadata {
        task: TaskId::from_bytes([9; 16]),
        parent_workflow: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

fn ending(result: &Result<(), ContextError>) -> Ending {
    match result {
        Ok(()) => Ending::Done,
        Err(ContextError::Gone(_)) => Ending::Gone,
        Err(ContextError::Full { .. }) => Ending::Full,
        Err(ContextError::NotMoved { .. }) => Ending::NotMoved,
        Err(ContextError::Lost { .. }) => Ending::Lost,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_context_store_does_what_the_model_says() {
    let cases = std::env::var("OTTO_SIM_CONTEXT_CASES").ok();
    let cases = cases.map_or(CASES, |text| {
        text.parse().expect("OTTO_SIM_CONTEXT_CASES is a number")
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut sums = [0; 7];
    for seed in 0..cases {
        let seen = runtime.block_on(live(seed));
        let Seen {
            full,
            removed,
            moved,
            brought_back,
            read_on_disk,
            not_moved,
            lost,
        } = seen;
        let seen = [
            full,
            removed,
            moved,
            brought_back,
            read_on_disk,
            not_moved,
            lost,
        ];
        for (sum, count) in sums.iter_mut().zip(seen) {
            *sum += count;
        }
    }
    let least = sums.iter().min().expect("there are some");
    assert!(
        *least > cases / 50,
        "something was met too rarely: {sums:?}"
    );
}

/// One life; says what was met.
async fn live(seed: u64) -> Seen {
    let mut draw = Draw::new(seed);
    let disk_max = *draw.pick(&DISKS);
    let files = Arc::new(Files::default());
    let store = ContextStore::with_files(MAX_BYTES, disk_max, files.clone());
    let mut model = Model {
        contexts: BTreeMap::new(),
        tick: 0,
        disk_max,
        disk_fails: false,
        seen: Seen::default(),
    };
    let mut guards: Vec<(u8, ContextGuard)> = Vec::new();
    for step in 0..STEPS {
        let at = format!("seed {seed}, step {step}");
        let n = u8::try_from(draw.below(CONTEXTS)).unwrap();
        let key = *draw.pick(&KEYS);
        model.disk_fails = draw.below(12) == 0;
        files.fails.store(model.disk_fails, Ordering::SeqCst);
        match draw.below(40) {
            0..8 => {
                guards.push((n, store.open(id(n), metadata())));
                model.contexts.entry(n).or_default().users += 1;
            }
            8..11 if !guards.is_empty() => {
                let at = usize::try_from(draw.below(guards.len() as u64)).unwrap();
                let (n, guard) = guards.swap_remove(at);
                drop(guard);
                model.close(n);
            }
            11..14 if !guards.is_empty() => {
                let at = usize::try_from(draw.below(guards.len() as u64)).unwrap();
                let (n, guard) = guards.swap_remove(at);
                store.keep(guard);
                model.touch(n).expect("it is in use").users -= 1;
            }
            14 => {
                files.damage_all();
                for context in model.contexts.values_mut() {
                    context.is_lost |= context.is_on_disk;
                }
            }
            15..24 => {
                let expected = model.read(n, key);
                let found = store.read(id(n), key).await;
                let found = match found {
                    Ok(value) => {
                        Ok(value.map(|value| (value.len(), value.first().copied().unwrap_or(0))))
                    }
                    Err(error) => Err(ending(&Err(error))),
                };
                assert_eq!(found, expected, "{at}: read {key} of {n}");
            }
            kind => {
                let length = usize::try_from(draw.below(160)).unwrap();
                let fill = if length == 0 {
                    0
                } else {
                    u8::try_from(step).unwrap()
                };
                let new = (kind != 39).then_some((length, fill));
                let expected = model.write(n, key, new);
                let value = new.map(|(length, fill)| Arc::from(vec![fill; length]));
                let now = Timestamp::from_millis(step);
                let written = store.update(id(n), key, now, |_| value).await;
                let found = ending(&written);
                assert_eq!(found, expected, "{at}: write {new:?} to {key} of {n}");
            }
        }
        let (memory, disk) = (store.used_bytes(), store.disk_bytes());
        assert_eq!(memory, model.bytes(false), "{at}: bytes in memory");
        assert_eq!(disk, model.bytes(true) as u64, "{at}: bytes on disk");
        assert!(
            memory <= MAX_BYTES && disk <= disk_max,
            "{at}: above a bound"
        );
        assert_eq!(store.count(), model.contexts.len(), "{at}: contexts");
        let on_disk = model.contexts.values().filter(|it| it.is_on_disk).count();
        assert_eq!(files.count(), on_disk, "{at}: files");
    }
    model.seen
}

/// Agents beside each other, with a tenth of the memory they need: each finds what it wrote, and memory is never
/// above its bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn contexts_move_while_they_are_used() {
    const AGENTS: u8 = 16;
    const MEMORY: usize = 4_000;
    let files = Arc::new(Files::default());
    let store = ContextStore::with_files(MEMORY, 1_000_000, files.clone());
    let mut agents = tokio::task::JoinSet::new();
    for n in 0..AGENTS {
        let store = store.clone();
        agents.spawn(async move {
            let mut draw = Draw::new(u64::from(n));
            let guard = store.open(id(n), metadata());
            let mut written: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
            for step in 0..400_u64 {
                let key = *draw.pick(&KEYS);
                if draw.below(2) == 0 {
                    let length = usize::try_from(draw.below(1_000)).unwrap();
                    let value = vec![n; length];
                    let now = Timestamp::from_millis(step);
                    store
                        .write(id(n), key, Arc::from(&*value), now)
                        .await
                        .unwrap_or_else(|error| panic!("agent {n}, step {step}: {error}"));
                    written.insert(key, value);
                } else {
                    let found = store.read(id(n), key).await.unwrap();
                    let expected = written.get(key);
                    assert_eq!(
                        found.as_deref(),
                        expected.map(|it| &**it),
                        "agent {n}, step {step}"
                    );
                }
                assert!(store.used_bytes() <= MEMORY, "agent {n}, step {step}");
            }
            drop(guard);
        });
    }
    agents.join_all().await;
    assert_eq!(
        (store.count(), store.used_bytes(), store.disk_bytes()),
        (0, 0, 0)
    );
    assert_eq!(files.count(), 0);
}

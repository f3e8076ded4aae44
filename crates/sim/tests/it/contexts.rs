//! The ContextStore against a model: random opens, closes, reads, writes and evictions.
//!
//! The model is written from the words of the requirement: bounded in bytes, the least recently used go first,
//! never one in use, gone with its last user unless it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::{ContextId, TaskId, Timestamp};
use otto_engine::{ContextError, ContextGuard, ContextMetadata, ContextStore};
use otto_sim::conformance::draw::Draw;

/// Random lives of a store; `OTTO_SIM_CONTEXT_CASES` names another number.
const CASES: u64 = 20_000;
/// Calls of each.
const STEPS: u64 = 30;
/// Contexts and keys that are drawn from.
const CONTEXTS: u64 = 4;
const KEYS: [&str; 3] = ["a", "bb", "ccc"];
/// The bound: some values fit, not all.
const MAX_BYTES: usize = 600;
/// What an entry costs beside its key and value.
const OVERHEAD: usize = 64;

#[derive(Default)]
struct Model {
    contexts: BTreeMap<u8, Context>,
    tick: u64,
}

#[derive(Default)]
struct Context {
    entries: BTreeMap<&'static str, usize>,
    users: usize,
    last_used: u64,
}

impl Context {
    fn bytes(&self) -> usize {
        self.entries
            .iter()
            .map(|(key, length)| key.len() + length + OVERHEAD)
            .sum()
    }
}

impl Model {
    fn bytes(&self) -> usize {
        self.contexts.values().map(Context::bytes).sum()
    }

    fn touch(&mut self, n: u8) -> Option<&mut Context> {
        self.tick += 1;
        let tick = self.tick;
        let context = self.contexts.get_mut(&n)?;
        context.last_used = tick;
        Some(context)
    }

    /// Writes if there is room, evicting the idle that were used longest ago, and only if that is enough. Says
    /// whether it did; `None` if there is no such context.
    fn write(&mut self, n: u8, key: &'static str, length: Option<usize>) -> Option<bool> {
        let context = self.touch(n)?;
        let size = |length: usize| key.len() + length + OVERHEAD;
        let old = context.entries.get(key).copied().map_or(0, size);
        let new = length.map_or(0, size);
        let in_use: usize = self
            .contexts
            .iter()
            .filter(|(other, context)| **other == n || context.users > 0)
            .map(|(_, context)| context.bytes())
            .sum();
        if in_use - old + new > MAX_BYTES {
            return Some(false);
        }
        while self.bytes() - old + new > MAX_BYTES {
            let idle = self
                .contexts
                .iter()
                .filter(|(other, context)| **other != n && context.users == 0)
                .min_by_key(|(_, context)| context.last_used)
                .map(|(other, _)| *other);
            self.contexts.remove(&idle.expect("the idle are enough"));
        }
        let context = self.contexts.get_mut(&n)?;
        match length {
            Some(length) => context.entries.insert(key, length),
            None => context.entries.remove(key),
        };
        Some(true)
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

#[test]
fn a_context_store_does_what_the_model_says() {
    let cases = std::env::var("OTTO_SIM_CONTEXT_CASES").ok();
    let cases = cases.map_or(CASES, |text| {
        text.parse().expect("OTTO_SIM_CONTEXT_CASES is a number")
    });
    let (mut full, mut evicted) = (0, 0);
    for seed in 0..cases {
        let (was_full, were_evicted) = live(seed);
        full += was_full;
        evicted += were_evicted;
    }
    assert!(full > cases / 10, "the bound was met too rarely: {full}");
    assert!(evicted > cases / 20, "too few were evicted: {evicted}");
}

/// One life; returns how often there was no room, and how many contexts were evicted.
fn live(seed: u64) -> (u64, u64) {
    let mut draw = Draw::new(seed);
    let store = ContextStore::new(MAX_BYTES);
    let mut model = Model::default();
    let mut guards: Vec<(u8, ContextGuard)> = Vec::new();
    let (mut full, mut evicted) = (0, 0);
    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        let n = u8::try_from(draw.below(CONTEXTS)).unwrap();
        let key = *draw.pick(&KEYS);
        match draw.below(10) {
            0 | 1 => {
                guards.push((n, store.open(id(n), metadata())));
                model.contexts.entry(n).or_default().users += 1;
            }
            2 if !guards.is_empty() => {
                let at = usize::try_from(draw.below(guards.len() as u64)).unwrap();
                let (n, guard) = guards.swap_remove(at);
                drop(guard);
                let known = model.contexts.get_mut(&n).expect("it is in use");
                known.users -= 1;
                if known.users == 0 {
                    model.contexts.remove(&n);
                }
            }
            3 if !guards.is_empty() => {
                let at = usize::try_from(draw.below(guards.len() as u64)).unwrap();
                let (n, guard) = guards.swap_remove(at);
                store.keep(guard);
                model.touch(n).expect("it is in use").users -= 1;
            }
            4 | 5 => {
                let expected = model
                    .touch(n)
                    .and_then(|context| context.entries.get(key).copied());
                let found = store.read(id(n), key).map(|value| value.len());
                assert_eq!(found, expected, "{context}: read {key} of {n}");
            }
            kind => {
                let length = (kind != 6).then(|| usize::try_from(draw.below(160)).unwrap());
                let before = model.contexts.len();
                let expected = model.write(n, key, length);
                evicted += (before - model.contexts.len()) as u64;
                let value = length.map(|length| Arc::from(vec![7_u8; length]));
                let found = store.update(id(n), key, Timestamp::from_millis(step), |_| value);
                let fits = match expected {
                    None => matches!(found, Err(ContextError::Gone(_))),
                    Some(false) => matches!(found, Err(ContextError::Full { .. })),
                    Some(true) => found.is_ok(),
                };
                assert!(
                    fits,
                    "{context}: write {length:?} to {key} of {n}: {found:?}"
                );
                full += u64::from(expected == Some(false));
            }
        }
        assert_eq!(store.used_bytes(), model.bytes(), "{context}: bytes");
        assert!(
            store.used_bytes() <= MAX_BYTES,
            "{context}: above the bound"
        );
        assert_eq!(store.count(), model.contexts.len(), "{context}: contexts");
    }
    (full, evicted)
}

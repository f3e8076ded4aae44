//! The simulated prompt cache.
//!
//! An entry is the exact prefix up to a marker. A request reads the longest prefix that an earlier request
//! wrote, found at one of its markers or at most 19 blocks before one, and writes the rest up to its last
//! marker. Entries live for five minutes or an hour from their last use, per account and model.
//!
//! Source: protocol reference, section 3.8 (2026-11-22).
//!
//! Invariant: the four parts of a [`Split`] add up to the tokens of the prompt.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use otto_core::Timestamp;

use crate::digest::Digest;
use crate::limits;
use crate::request::Ttl;

/// How many positions a marker looks at, its own included.
const LOOKBACK: usize = 20;

/// How the tokens of a prompt are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Split {
    pub(crate) read: u64,
    pub(crate) write_5m: u64,
    pub(crate) write_1h: u64,
    pub(crate) uncached: u64,
}

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) prefix: Digest,
    /// Account, model, and the settings that invalidate this level of the prompt.
    pub(crate) setting: u64,
}

/// The end of one block of a prompt, as the cache sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) key: CacheKey,
    /// Tokens of the prompt up to here.
    pub(crate) tokens: u64,
    pub(crate) marker: Option<Ttl>,
}

/// The cache of all accounts.
pub(crate) struct PromptCache {
    entries: Mutex<HashMap<CacheKey, Entry>>,
}

#[derive(Clone, Copy)]
struct Entry {
    expires: Timestamp,
    ttl: Ttl,
}

impl Ttl {
    const fn duration(self) -> Duration {
        match self {
            Self::FiveMinutes => Duration::from_secs(5 * 60),
            Self::OneHour => Duration::from_secs(60 * 60),
        }
    }
}

impl PromptCache {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// How many of `positions`' tokens an earlier request wrote; refreshes the entry it finds.
    pub(crate) fn look_up(&self, positions: &[Position], min_tokens: u64, now: Timestamp) -> u64 {
        let markers: Vec<usize> = effective_markers(positions, min_tokens).collect();
        if markers.is_empty() {
            return 0;
        }
        let mut entries = self.lock();
        for marker in markers.into_iter().rev() {
            for position in positions[..=marker].iter().rev().take(LOOKBACK) {
                if let Some(entry) = entries
                    .get_mut(&position.key)
                    .filter(|entry| entry.expires > now)
                {
                    entry.expires = now.after(entry.ttl.duration());
                    return position.tokens;
                }
            }
        }
        0
    }

    /// Splits the prompt's tokens, given what was read.
    pub(crate) fn split(positions: &[Position], total: u64, read: u64, min_tokens: u64) -> Split {
        let mut split = Split {
            read,
            ..Split::default()
        };
        let mut covered = read;
        for marker in effective_markers(positions, min_tokens).map(|index| positions[index]) {
            let written = marker.tokens.saturating_sub(covered);
            match marker.marker {
                Some(Ttl::OneHour) => split.write_1h += written,
                Some(Ttl::FiveMinutes) | None => split.write_5m += written,
            }
            covered = covered.max(marker.tokens);
        }
        split.uncached = total.saturating_sub(covered);
        split
    }

    /// Writes an entry at each marker. Called when the response begins: not before can it be read.
    pub(crate) fn write(&self, positions: &[Position], min_tokens: u64, now: Timestamp) {
        let markers: Vec<usize> = effective_markers(positions, min_tokens).collect();
        if markers.is_empty() {
            return;
        }
        let mut entries = self.lock();
        for marker in markers.into_iter().map(|index| positions[index]) {
            let ttl = marker.marker.unwrap_or(Ttl::FiveMinutes);
            let entry = entries
                .entry(marker.key)
                .or_insert(Entry { expires: now, ttl });
            // A live entry of the longer kind keeps its kind.
            if entry.expires <= now || ttl == Ttl::OneHour {
                entry.ttl = ttl;
            }
            entry.expires = now.after(entry.ttl.duration());
        }
        if entries.len() > limits::CACHE_ENTRIES {
            shrink(&mut entries, now);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CacheKey, Entry>> {
        // A panic while the map was locked leaves it whole: every change is one insert or one assignment.
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// BOUND: what has expired goes first, then the half that would expire soonest.
fn shrink(entries: &mut HashMap<CacheKey, Entry>, now: Timestamp) {
    entries.retain(|_, entry| entry.expires > now);
    if entries.len() > limits::CACHE_ENTRIES / 2 {
        let mut expiries: Vec<Timestamp> = entries.values().map(|entry| entry.expires).collect();
        let middle = expiries.len() / 2;
        let (_, median, _) = expiries.select_nth_unstable(middle);
        let median = *median;
        // Equal expiries are cut by count, so that a burst at one instant shrinks too.
        let mut spare = expiries.len() - middle;
        entries.retain(|_, entry| {
            let keep = entry.expires > median || (entry.expires == median && spare > 0);
            spare = spare.saturating_sub(usize::from(keep && entry.expires == median));
            keep
        });
    }
}

fn effective_markers(positions: &[Position], min_tokens: u64) -> impl Iterator<Item = usize> {
    positions
        .iter()
        .enumerate()
        .filter(move |(_, position)| position.marker.is_some() && position.tokens >= min_tokens)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 100;

    /// Blocks of 100 tokens each; `markers` are the positions with markers.
    fn prompt(blocks: usize, markers: &[(usize, Ttl)]) -> Vec<Position> {
        (0..blocks)
            .map(|index| Position {
                key: CacheKey {
                    prefix: [u8::try_from(index).unwrap(); 16],
                    setting: 0,
                },
                tokens: (index as u64 + 1) * 100,
                marker: markers
                    .iter()
                    .find(|(at, _)| *at == index)
                    .map(|(_, ttl)| *ttl),
            })
            .collect()
    }

    fn ask(cache: &PromptCache, positions: &[Position], at_seconds: u64) -> Split {
        let now = Timestamp::from_millis(at_seconds * 1_000);
        let total = positions.last().unwrap().tokens;
        let read = cache.look_up(positions, MIN, now);
        let split = PromptCache::split(positions, total, read, MIN);
        cache.write(positions, MIN, now);
        assert_eq!(
            split.read + split.write_5m + split.write_1h + split.uncached,
            total
        );
        split
    }

    #[test]
    fn the_first_request_writes_and_the_second_reads() {
        let cache = PromptCache::new();
        let positions = prompt(3, &[(1, Ttl::FiveMinutes)]);
        assert_eq!(
            ask(&cache, &positions, 0),
            Split {
                write_5m: 200,
                uncached: 100,
                ..Split::default()
            }
        );
        assert_eq!(
            ask(&cache, &positions, 299),
            Split {
                read: 200,
                uncached: 100,
                ..Split::default()
            }
        );
        // The use at 299 s gave it five more minutes.
        assert_eq!(ask(&cache, &positions, 598).read, 200);
        assert_eq!(ask(&cache, &positions, 898).read, 0);
    }

    #[test]
    fn a_growing_conversation_pays_for_what_is_new() {
        let cache = PromptCache::new();
        ask(&cache, &prompt(5, &[(4, Ttl::FiveMinutes)]), 0);
        let next = ask(&cache, &prompt(8, &[(7, Ttl::FiveMinutes)]), 1);
        assert_eq!(
            next,
            Split {
                read: 500,
                write_5m: 300,
                ..Split::default()
            }
        );
    }

    #[test]
    fn the_lookback_is_twenty_positions() {
        for (added, read) in [(19, 500), (20, 0)] {
            let cache = PromptCache::new();
            ask(&cache, &prompt(5, &[(4, Ttl::FiveMinutes)]), 0);
            let blocks = 5 + added;
            assert_eq!(
                ask(
                    &cache,
                    &prompt(blocks, &[(blocks - 1, Ttl::FiveMinutes)]),
                    1
                )
                .read,
                read,
                "{added} added"
            );
        }
    }

    #[test]
    fn short_prompts_are_not_cached() {
        let cache = PromptCache::new();
        let mut positions = prompt(1, &[(0, Ttl::FiveMinutes)]);
        positions[0].tokens = 99;
        assert_eq!(ask(&cache, &positions, 0).uncached, 99);
        assert_eq!(ask(&cache, &positions, 0).read, 0);
    }

    #[test]
    fn both_lifetimes_are_billed_apart() {
        let cache = PromptCache::new();
        let positions = prompt(4, &[(0, Ttl::OneHour), (2, Ttl::FiveMinutes)]);
        let first = ask(&cache, &positions, 0);
        assert_eq!(
            first,
            Split {
                write_1h: 100,
                write_5m: 200,
                uncached: 100,
                ..Split::default()
            }
        );
        // After ten minutes only the hour's entry is left.
        let later = ask(&cache, &positions, 600);
        assert_eq!(
            later,
            Split {
                read: 100,
                write_5m: 200,
                uncached: 100,
                ..Split::default()
            }
        );
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let cache = PromptCache::new();
        for index in 0..limits::CACHE_ENTRIES + 10 {
            let key = CacheKey {
                prefix: [0; 16],
                setting: index as u64,
            };
            let position = Position {
                key,
                tokens: 100,
                marker: Some(Ttl::FiveMinutes),
            };
            cache.write(&[position], MIN, Timestamp::from_millis(1));
        }
        assert!(cache.lock().len() <= limits::CACHE_ENTRIES);
        assert!(cache.lock().len() >= limits::CACHE_ENTRIES / 2);
    }
}

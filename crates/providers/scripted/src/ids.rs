//! Ids that look like the vendor's and are never given twice.
//!
//! The id of a tool call also says which block of which turn it came from. That is how a later request
//! tells, without any memory on this side, which scripted call a result belongs to.
//!
//! Invariant: equal seeds and equal orders of requests give equal ids; an id made by [`CallCode::write`] is
//! read back by [`CallCode::read`].

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes ids.
pub(crate) struct IdMaker {
    seed: u64,
    made: AtomicU64,
}

impl IdMaker {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            seed,
            made: AtomicU64::new(0),
        }
    }

    /// A number that differs for each call.
    pub(crate) fn unique(&self) -> u64 {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        // The mix is a bijection of its argument, so different counts stay different.
        mix(self
            .seed
            .wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// The id of a request: `req_` and 24 characters.
    pub(crate) fn request(&self) -> String {
        format!("req_011C{:020x}", u128::from(self.unique()))
    }

    /// The id of a message: `msg_` and 24 characters.
    pub(crate) fn message(&self) -> String {
        format!("msg_01{:022x}", u128::from(self.unique()))
    }
}

/// A well-distributed number from another (the finalizer of SplitMix64).
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Where a tool call came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallCode {
    /// The number of the assistant message, from 0.
    pub(crate) turn: usize,
    /// The block of the scripted turn, from 0.
    pub(crate) block: usize,
    /// The entry of the `for_each`, from 0.
    pub(crate) item: usize,
    /// How many thinking blocks stand before the call in its message.
    pub(crate) thinking: usize,
}

impl CallCode {
    /// The id of the call.
    pub(crate) fn write(self, unique: u64) -> String {
        let Self {
            turn,
            block,
            item,
            thinking,
        } = self;
        format!("toolu_01t{turn}b{block}i{item}k{thinking}_{unique:016x}")
    }

    /// What an id says; `None` for an id that was made elsewhere.
    pub(crate) fn read(id: &str) -> Option<Self> {
        let (code, unique) = id.strip_prefix("toolu_01t")?.split_once('_')?;
        let (turn, rest) = code.split_once('b')?;
        let (block, rest) = rest.split_once('i')?;
        let (item, thinking) = rest.split_once('k')?;
        let well_formed = unique.len() == 16 && unique.bytes().all(|b| b.is_ascii_hexdigit());
        let number = |text: &str| text.parse().ok();
        let code = Self {
            turn: number(turn)?,
            block: number(block)?,
            item: number(item)?,
            thinking: number(thinking)?,
        };
        well_formed.then_some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_says_where_the_call_came_from() {
        let code = CallCode {
            turn: 12,
            block: 3,
            item: 0,
            thinking: 2,
        };
        let id = code.write(0xABCD);
        assert_eq!(id, "toolu_01t12b3i0k2_000000000000abcd");
        assert_eq!(CallCode::read(&id), Some(code));
        for foreign in [
            "",
            "toolu_01A09q90qw90lq917835lq9",
            "toolu_01t1b2i3k4",
            "toolu_01t1b2i3k4_xyz",
            "toolu_01t-1b2i3k4_000000000000abcd",
        ] {
            assert_eq!(CallCode::read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn ids_are_not_given_twice() {
        let ids = IdMaker::new(7);
        let mut seen = std::collections::HashSet::new();
        assert!((0..10_000).all(|_| seen.insert(ids.unique())));
        assert_eq!(IdMaker::new(7).message(), IdMaker::new(7).message());
        assert_eq!(ids.request().len(), 28);
        assert_eq!(ids.message().len(), 28);
    }
}

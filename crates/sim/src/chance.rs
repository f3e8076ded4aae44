//! Chances, on top of the generator of [`Draw`]: one stream of numbers per thing that happens, all from one
//! seed, so that leaving a thing out does not change what happens to the others.

use std::fmt;
use std::time::Duration;

pub(crate) use crate::conformance::draw::Draw;

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Draw")
    }
}

impl Draw {
    /// The stream of numbers of one thing: the same seed and names give the same stream.
    pub(crate) fn stream(seed: u64, name: u64, number: u64) -> Self {
        let mut outer = Self::new(seed ^ name.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let mut inner = Self::new(outer.number() ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
        Self::new(inner.number())
    }

    /// Whether something happens that happens `permille` times in a thousand. Draws one number in any case.
    pub(crate) fn happens(&mut self, permille: u32) -> bool {
        self.below(1_000) < u64::from(permille)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high - low).saturating_add(1).max(1))
    }

    /// A small number as `u32`.
    pub(crate) fn small(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.between(u64::from(low), u64::from(high))).expect("both bounds fit")
    }

    /// A time between two, given in milliseconds; usually near the lower one.
    pub(crate) fn delay(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        // The square of a uniform number: many short waits, few long ones.
        let part = self.below(1_000);
        let part = part * part / 1_000;
        Duration::from_micros(low_ms * 1_000 + (high_ms - low_ms) * part + self.below(1_000))
    }

    /// Ten bytes for an id.
    pub(crate) fn id_bytes(&mut self) -> [u8; 10] {
        let (a, b) = (self.number().to_le_bytes(), self.number().to_le_bytes());
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&a);
        bytes[8..].copy_from_slice(&b[..2]);
        bytes
    }
}

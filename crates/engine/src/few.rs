//! The few things of one invocation that are open at a time, by the effect that began them.
//!
//! A list: with one to eight entries it is smaller and faster than a map, and without any it takes no memory.
//!
//! Invariant: an effect stands in it at most once.

use otto_core::EffectId;

/// What is open, in the order in which it began.
#[derive(Debug)]
pub(crate) struct Few<T>(Vec<(EffectId, T)>);

impl<T> Few<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids of what is open.
    pub(crate) fn ids(&self) -> Vec<EffectId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    pub(crate) fn get(&self, id: EffectId) -> Option<&T> {
        self.0
            .iter()
            .find_map(|(known, open)| (*known == id).then_some(open))
    }

    /// Opens it; what was open under the same effect is replaced.
    pub(crate) fn insert(&mut self, id: EffectId, open: T) {
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = open,
            None => self.0.push((id, open)),
        }
    }

    pub(crate) fn remove(&mut self, id: EffectId) -> Option<T> {
        let at = self.0.iter().position(|(known, _)| *known == id)?;
        Some(self.0.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_stands_in_it_once_and_in_the_order_of_its_beginning() {
        let mut few = Few::new();
        assert!(few.is_empty());
        few.insert(EffectId(3), 'a');
        few.insert(EffectId(1), 'b');
        few.insert(EffectId(3), 'c');
        assert_eq!(few.ids(), [EffectId(3), EffectId(1)]);
        assert_eq!(few.get(EffectId(3)), Some(&'c'));
        assert_eq!(few.remove(EffectId(3)), Some('c'));
        assert_eq!(few.remove(EffectId(3)), None);
        assert_eq!(few.get(EffectId(1)), Some(&'b'));
    }
}

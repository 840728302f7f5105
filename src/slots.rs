//! A set of small integers with O(1) insert, remove and length: who is on a list, by slot.
//!
//! A sparse set: `dense` holds the members, `sparse` the position of each. It keeps no order.

pub(crate) mod table;

/// The set.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotSet {
    dense: Vec<u32>,
    sparse: Vec<u32>,
}

/// Marks a slot that is not in the set.
const ABSENT: u32 = u32::MAX;

impl SlotSet {
    /// Puts `slot` in; no matter if it is in already.
    pub(crate) fn insert(&mut self, slot: u32) {
        let index = slot as usize;
        if self.sparse.len() <= index {
            self.sparse.resize(index + 1, ABSENT);
        }
        if self.sparse[index] == ABSENT {
            self.sparse[index] = self.dense.len() as u32;
            self.dense.push(slot);
        }
    }

    /// Takes `slot` out; no matter if it is not in.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(position) = self.sparse.get_mut(slot as usize) else {
            return;
        };
        let at = std::mem::replace(position, ABSENT);
        if at != ABSENT {
            self.dense.swap_remove(at as usize);
            if let Some(moved) = self.dense.get(at as usize) {
                self.sparse[*moved as usize] = at;
            }
        }
    }

    /// Takes out all, in the order in which they were put in if none was taken out before.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = u32> {
        for slot in &self.dense {
            self.sparse[*slot as usize] = ABSENT;
        }
        self.dense.drain(..)
    }

    /// Takes out any one of them.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let slot = self.dense.pop()?;
        self.sparse[slot as usize] = ABSENT;
        Some(slot)
    }

    /// Whether `slot` is in.
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.sparse
            .get(slot as usize)
            .is_some_and(|at| *at != ABSENT)
    }

    /// How many are in.
    pub(crate) fn len(&self) -> usize {
        self.dense.len()
    }

    /// Whether none is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.dense.is_empty()
    }

    /// Gives back the memory that the members do not need.
    pub(crate) fn shrink(&mut self) {
        let last = self.dense.iter().max();
        let end = last.map_or(0, |last| *last as usize + 1);
        self.sparse.truncate(end);
        self.sparse.shrink_to_fit();
        self.dense.shrink_to_fit();
    }

    /// The members.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.dense.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn behaves_like_a_set() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut set = SlotSet::default();
        let mut model = BTreeSet::new();
        for _ in 0..10_000 {
            let slot = rng.random_range(0..64);
            match rng.random_range(0..5) {
                0 | 1 => {
                    set.insert(slot);
                    model.insert(slot);
                }
                2 | 3 => {
                    set.remove(slot);
                    model.remove(&slot);
                }
                4 if rng.random_bool(0.1) => set.shrink(),
                _ => {
                    let popped = set.pop();
                    assert_eq!(popped.is_none(), model.is_empty());
                    assert!(popped.is_none_or(|slot| model.remove(&slot)));
                }
            }
            assert_eq!(set.len(), model.len());
            assert_eq!(set.contains(slot), model.contains(&slot));
        }
        assert_eq!(set.iter().collect::<BTreeSet<_>>(), model);
        assert_eq!(set.drain().collect::<BTreeSet<_>>(), model);
        assert!(!(0..64).any(|slot| set.contains(slot)));
    }
}

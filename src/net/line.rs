//! A line of who waits for something, which is linked through those who wait: it takes no memory of
//! its own, however long it gets.
//!
//! It owns who comes next. Whoever is in a line is in no other, and stays in the table.

use crate::slots::table::Table;

/// First come, first served.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Both mean something while the line is not empty.
    first: u32,
    last: u32,
    len: usize,
}

/// What can wait in a line.
pub(super) trait Waiting {
    /// Who comes behind it.
    fn next(&mut self) -> &mut u32;
}

impl Line {
    /// At the end of the line.
    pub(super) fn push(&mut self, table: &mut Table<impl Waiting>, slot: u32) {
        if self.len == 0 {
            self.first = slot;
        } else if let Some(last) = table.get_mut(self.last) {
            *last.next() = slot;
        }
        self.last = slot;
        self.len += 1;
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self, table: &mut Table<impl Waiting>) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        let slot = self.first;
        self.first = *table.get_mut(slot)?.next();
        Some(slot)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    impl Waiting for u32 {
        fn next(&mut self) -> &mut u32 {
            self
        }
    }

    #[test]
    fn two_lines_through_one_table_behave_like_queues() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut table = Table::default();
        let mut lines = [(); 2].map(|()| (Line::default(), VecDeque::new()));
        for _ in 0..20_000 {
            let (line, model) = &mut lines[rng.random_range(0..2)];
            if rng.random_bool(0.5) {
                let (slot, _) = table.insert(u32::MAX);
                line.push(&mut table, slot);
                model.push_back(slot);
            } else {
                let slot = line.pop(&mut table);
                assert_eq!(slot, model.pop_front());
                slot.map(|slot| table.remove(slot));
            }
            assert_eq!(line.len(), model.len());
        }
    }
}

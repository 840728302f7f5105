//! A table whose rows keep their numbers. The first free row is filled next, so that those at the
//! end become free, and are cut off.
//!
//! What `slab` is, which cannot be made smaller but by giving all of its memory back: glibc takes
//! that for a sign that as much is better kept the next time, and keeps it. This one is cut short
//! in its place.

/// The table.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// The last one is taken.
    rows: Vec<Option<T>>,
    /// A bit for each row: whether it is taken.
    taken: Vec<u64>,
    /// So many words of them have no free row, and perhaps more.
    full: usize,
    len: usize,
}

/// What the first row reserves. The kernel gives memory for so much by itself, and page by page as
/// it is used; it grows and shrinks by a change of the mapping, and leaves no holes in the heap.
const FIRST_BYTES: usize = 256 << 10;

/// As many rows are never given back.
const ROWS_MIN: usize = 32;

impl<T> Table<T> {
    /// Without a row.
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::new(),
            taken: Vec::new(),
            full: 0,
            len: 0,
        }
    }

    /// Fills the first free row, and answers its number.
    pub(crate) fn insert(&mut self, value: T) -> (u32, &mut T) {
        let number = self.first_free();
        if self.rows.capacity() == 0 {
            self.rows
                .reserve_exact(FIRST_BYTES / size_of::<Option<T>>());
        }
        if number == self.rows.len() {
            self.rows.push(None);
        }
        let (word, bit) = place(number);
        if word == self.taken.len() {
            self.taken.push(0);
        }
        self.taken[word] |= bit;
        self.len += 1;
        (number as u32, self.rows[number].insert(value))
    }

    /// Empties a row.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.rows.get_mut(number as usize)?.take()?;
        let (word, bit) = place(number as usize);
        self.taken[word] &= !bit;
        self.full = self.full.min(word);
        self.len -= 1;
        while self.rows.pop_if(|row| row.is_none()).is_some() {}
        Some(value)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number as usize)?.as_mut()
    }

    /// How many rows are taken.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many rows there are, up to the last that is taken.
    pub(crate) fn rows_len(&self) -> usize {
        self.rows.len()
    }

    /// The rows that are taken, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(number, row)| Some((number as u32, row.as_ref()?)))
    }

    /// Gives memory back, if three quarters of it lie behind the last row that is taken; answers
    /// whether it did. As many rows have been emptied since it was last done.
    pub(crate) fn shrink(&mut self) -> bool {
        let is_sparse = self.rows.capacity() > ROWS_MIN.max(self.rows.len() * 4);
        if is_sparse {
            self.rows.shrink_to(ROWS_MIN.max(self.rows.len() * 2));
            self.taken.truncate(self.rows.len().div_ceil(ROWS_PER_WORD));
            self.taken.shrink_to_fit();
        }
        is_sparse
    }

    /// Passes over the words that are full: in a table of 10,000 rows there are 157.
    fn first_free(&mut self) -> usize {
        while self.taken.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
        let word = self.taken.get(self.full).unwrap_or(&0);
        self.full * ROWS_PER_WORD + word.trailing_ones() as usize
    }
}

const ROWS_PER_WORD: usize = u64::BITS as usize;

/// Where a row's bit is.
fn place(number: usize) -> (usize, u64) {
    (number / ROWS_PER_WORD, 1 << (number % ROWS_PER_WORD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::seq::IteratorRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn behaves_like_a_map_whose_first_free_key_is_next() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut table, mut model) = (Table::new(), BTreeMap::new());
        for value in 0..20_000 {
            // Now more are added, and then more are removed.
            if rng.random_bool(if value / 500 % 2 == 0 { 0.7 } else { 0.3 }) {
                let (number, _) = table.insert(value);
                let free = (0..20_000).find(|number| !model.contains_key(number));
                assert_eq!(Some(number), free);
                model.insert(number, value);
            } else if let Some(number) = model.keys().copied().choose(&mut rng) {
                assert_eq!(table.remove(number), model.remove(&number));
                assert_eq!(table.remove(number), None);
            }
            if rng.random_bool(0.05) {
                table.shrink();
            }
            let end = model.last_key_value().map_or(0, |(number, _)| number + 1);
            assert_eq!(table.rows_len(), end as usize);
            let number = rng.random_range(0..end + 2);
            assert_eq!(table.get(number), model.get(&number));
            assert_eq!(table.get_mut(number), model.get_mut(&number));
            assert_eq!(table.len(), model.len());
        }
        assert!(
            table
                .iter()
                .eq(model.iter().map(|(number, value)| (*number, value)))
        );
    }

    #[test]
    fn after_a_crowd_the_memory_is_given_back() {
        let mut table = Table::new();
        let numbers: Vec<u32> = (0..100_000).map(|value| table.insert(value).0).collect();
        for number in numbers.iter().filter(|number| **number != 100) {
            table.remove(*number);
        }
        assert!(table.shrink());
        assert_eq!((table.rows.len(), table.rows.capacity()), (101, 202));
        assert_eq!((table.taken.len(), table.taken.capacity()), (2, 2));
        assert!(!table.shrink(), "once is enough");
        assert_eq!([(); 3].map(|()| table.insert(0).0), [0, 1, 2]);
        for number in [0, 1, 2, 100] {
            table.remove(number);
        }
        assert!(table.shrink());
        assert_eq!((table.rows.len(), table.rows.capacity()), (0, ROWS_MIN));
        assert_eq!(table.insert(0).0, 0);
    }
}

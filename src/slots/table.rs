//! A table whose rows keep their numbers. A new value gets the first free row, so that rows at the
//! end become free and their memory can be given back.
//!
//! `slab` can only give all of its memory back at once. glibc then raises the size from which on a
//! block is a mapping of its own, and keeps the memory of the next crowd. This table is cut in
//! place.

/// Rows of `T`, by slot.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// The last one is taken.
    rows: Vec<Option<T>>,
    /// A bit for each row: whether it is taken.
    taken: Vec<u64>,
    /// At least so many words from the front have no free row.
    full: usize,
    len: usize,
}

/// What the first row reserves. The kernel maps such a block by itself, and gives its pages as they
/// are used; it grows and shrinks by a change of the mapping, and leaves no holes in the heap.
const FIRST_BYTES: usize = 256 << 10;

/// Memory for so many rows is never given back.
const ROWS_MIN: usize = 32;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            taken: Vec::new(),
            full: 0,
            len: 0,
        }
    }
}

impl<T> Table<T> {
    /// Puts a value into the first free row, and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> (u32, &mut T) {
        let number = self.first_free();
        (number, self.put(number, value))
    }

    /// Puts a value into a free row.
    pub(crate) fn put(&mut self, number: u32, value: T) -> &mut T {
        let index = number as usize;
        if self.rows.capacity() == 0 {
            self.rows
                .reserve_exact(FIRST_BYTES / size_of::<Option<T>>());
        }
        if self.rows.len() <= index {
            self.rows.resize_with(index + 1, || None);
        }
        let (word, bit) = place(index);
        if self.taken.len() <= word {
            self.taken.resize(word + 1, 0);
        }
        debug_assert!(self.taken[word] & bit == 0, "row {number} is taken");
        self.taken[word] |= bit;
        self.len += 1;
        self.rows[index].insert(value)
    }

    /// Empties a row. If three quarters of the memory then lie behind the last row that is taken,
    /// half of the table is given back: its cost is shared by the rows emptied since the last time.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.rows.get_mut(number as usize)?.take()?;
        let (word, bit) = place(number as usize);
        self.taken[word] &= !bit;
        self.full = self.full.min(word);
        self.len -= 1;
        while self.rows.pop_if(|row| row.is_none()).is_some() {}
        if self.rows.capacity() > ROWS_MIN.max(self.rows.len() * 4) {
            self.rows.shrink_to(ROWS_MIN.max(self.rows.len() * 2));
            self.taken.truncate(self.rows.len().div_ceil(ROWS_PER_WORD));
            self.taken.shrink_to_fit();
        }
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

    /// How many rows there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.rows.capacity()
    }

    /// Passes over the words that are full: in a table of 10,000 rows there are 157.
    fn first_free(&mut self) -> u32 {
        while self.taken.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
        let word = self.taken.get(self.full).unwrap_or(&0);
        (self.full * ROWS_PER_WORD) as u32 + word.trailing_ones()
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
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
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
        let mut table = Table::default();
        let numbers: Vec<u32> = (0..100_000).map(|value| table.insert(value).0).collect();
        for number in numbers.iter().filter(|number| **number != 100) {
            table.remove(*number);
        }
        assert_eq!((table.rows.len(), table.rows.capacity()), (101, 202));
        assert_eq!((table.taken.len(), table.taken.capacity()), (2, 2));
        assert_eq!([(); 3].map(|()| table.insert(0).0), [0, 1, 2]);
        for number in [0, 1, 2, 100] {
            table.remove(number);
        }
        assert_eq!((table.rows.len(), table.rows.capacity()), (0, ROWS_MIN));
        assert_eq!(table.insert(0).0, 0);
    }
}

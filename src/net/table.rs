//! A table whose rows keep their numbers: free ones are used again, the latest first.
//!
//! What `slab` is, which cannot be made smaller but by giving all of its memory back: glibc takes
//! that for a sign that as much is better kept the next time, and keeps it. This one is cut short
//! in its place.

/// The table.
#[derive(Debug)]
pub(super) struct Table<T> {
    rows: Vec<Row<T>>,
    len: usize,
    /// The row to use next; the end of the table, if none is free.
    free: u32,
}

#[derive(Debug)]
enum Row<T> {
    /// The next row to use after this one.
    Free(u32),
    Taken(T),
}

/// What the first row reserves. The kernel gives memory for so much by itself, and page by page as
/// it is used; it grows and shrinks by a change of the mapping, and leaves no holes in the heap.
const FIRST_BYTES: usize = 256 << 10;

/// As many rows are never given back.
const ROWS_MIN: usize = 32;

impl<T> Table<T> {
    /// Without a row.
    pub(super) fn new() -> Self {
        Self {
            rows: Vec::new(),
            len: 0,
            free: 0,
        }
    }

    /// Fills a free row, and answers its number.
    pub(super) fn insert(&mut self, value: T) -> (u32, &mut T) {
        let number = self.free;
        if self.rows.capacity() == 0 {
            self.rows.reserve_exact(FIRST_BYTES / size_of::<Row<T>>());
        }
        if number as usize == self.rows.len() {
            self.rows.push(Row::Free(number + 1));
        }
        let row = &mut self.rows[number as usize];
        if let Row::Free(next) = *row {
            self.free = next;
        }
        *row = Row::Taken(value);
        self.len += 1;
        match row {
            Row::Taken(value) => (number, value),
            Row::Free(_) => unreachable!("it was filled"),
        }
    }

    /// Empties a row.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let row = self.rows.get_mut(number as usize)?;
        if let Row::Free(_) = row {
            return None;
        }
        let row = std::mem::replace(row, Row::Free(self.free));
        self.free = number;
        self.len -= 1;
        match row {
            Row::Taken(value) => Some(value),
            Row::Free(_) => None,
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        match self.rows.get(number as usize)? {
            Row::Taken(value) => Some(value),
            Row::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.rows.get_mut(number as usize)? {
            Row::Taken(value) => Some(value),
            Row::Free(_) => None,
        }
    }

    /// How many rows are taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many rows there are.
    pub(super) fn rows_len(&self) -> usize {
        self.rows.len()
    }

    /// The rows that are taken, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(number, row)| match row {
            Row::Taken(value) => Some((number as u32, value)),
            Row::Free(_) => None,
        })
    }

    /// Cuts off the free rows at the end, and gives their memory back. Of the others, the first
    /// are used next, so that the end becomes free.
    pub(super) fn shrink(&mut self) {
        let is_free = |row: &mut Row<T>| matches!(row, Row::Free(_));
        while self.rows.pop_if(is_free).is_some() {}
        self.rows.shrink_to(ROWS_MIN);
        self.free = self.rows.len() as u32;
        for (number, row) in self.rows.iter_mut().enumerate().rev() {
            if let Row::Free(next) = row {
                *next = self.free;
                self.free = number as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::seq::IteratorRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn behaves_like_a_map_that_chooses_its_keys() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut table, mut model) = (Table::new(), BTreeMap::new());
        for value in 0..20_000 {
            // Now more are added, and then more are removed.
            if rng.random_bool(if value / 500 % 2 == 0 { 0.7 } else { 0.3 }) {
                let (number, _) = table.insert(value);
                assert_eq!(model.insert(number, value), None, "it was free");
            } else if let Some(number) = model.keys().copied().choose(&mut rng) {
                assert_eq!(table.remove(number), model.remove(&number));
                assert_eq!(table.remove(number), None);
            }
            if rng.random_bool(0.05) {
                table.shrink();
                let end = model.last_key_value().map_or(0, |(number, _)| number + 1);
                assert_eq!(table.rows_len(), end as usize);
            }
            let number = rng.random_range(0..table.rows_len() as u32 + 2);
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
    fn after_a_crowd_the_memory_is_given_back_and_the_first_rows_are_used_next() {
        let mut table = Table::new();
        let numbers: Vec<u32> = (0..10_000).map(|value| table.insert(value).0).collect();
        for number in numbers.iter().filter(|number| **number != 100) {
            table.remove(*number);
        }
        table.shrink();
        assert_eq!((table.rows.len(), table.rows.capacity()), (101, 101));
        assert_eq!([(); 3].map(|()| table.insert(0).0), [0, 1, 2]);
        for number in [0, 1, 2, 100] {
            table.remove(number);
        }
        table.shrink();
        assert_eq!((table.rows.len(), table.rows.capacity()), (0, ROWS_MIN));
        assert_eq!(table.insert(0).0, 0);
    }
}

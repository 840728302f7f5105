//! Goal: the stores in this process keep the same promises, so that the engine need not know which
//! one it has; so can one from outside of the crate. Method: every promise of support/promises.rs is
//! checked on each of them.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test may fail wherever it likes"
)]

use std::sync::Arc;

use sundown::store::SessionStore;
use sundown::store::memory::MemoryStore;
use sundown::store::sqlite::SqliteStore;
use sundown::{StoreParts, Threaded};

#[path = "support/journal.rs"]
mod journal;
#[macro_use]
#[path = "support/promises.rs"]
mod promises;
#[path = "support/table.rs"]
mod table;

use journal::Journal;
use promises::{Fixture, TTL, hold};
use table::Table;

/// Runs a test on a new store of each kind, after its first `Up`.
fn check(promise: impl Fn(&mut Fixture)) {
    hold(&promise, "memory", false, |_| {
        Box::new(MemoryStore::new(TTL))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sqlite");
    hold(&promise, "sqlite", true, move |parts| {
        let is_new = !path.exists();
        let store = SqliteStore::open(&path, TTL, Arc::clone(parts.waker)).unwrap();
        if is_new {
            // The promises write epochs down, and those of a new file begin with the time.
            let conn = rusqlite::Connection::open(&path).unwrap();
            conn.execute("UPDATE meta SET epoch_floor = 0", []).unwrap();
        }
        Box::new(store)
    });
    let path = dir.path().join("journal");
    hold(&promise, "journal", true, move |parts| {
        Box::new(Journal::open(&path, TTL, Arc::clone(parts.waker)).unwrap())
    });
    let table = Table::default();
    hold(&promise, "threaded", true, move |parts| {
        threaded(&table, parts)
    });
}

fn threaded(table: &Table, parts: &StoreParts<'_>) -> Box<dyn SessionStore> {
    let table = table.clone();
    Box::new(Threaded::new(parts, "a table", move || Ok(table.clone())).unwrap())
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(promises::$name);
            }
        )*
    };
}
all_promises!(tests);

//! Stores whose calls block: they serve, and one that hangs holds up nobody's exit.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use sundown::engine::io::{Claim, Commit, Grant, Mailbox, ReadMailbox};
use sundown::store::expiry::Times;
use sundown::{BlockingStore, Committed, SessionStore, StoreError, StoreParts, Threaded};

use super::*;
use table::Table;

/// A table of which every commit hangs for as long as a test likes.
struct Hanging {
    table: Table,
    released: Arc<Mutex<Receiver<()>>>,
}

impl BlockingStore for Hanging {
    fn claim(&mut self, claims: &[Claim], times: Times) -> Result<Vec<Grant>, StoreError> {
        self.table.claim(claims, times)
    }

    fn commit(&mut self, batch: &[Commit], times: Times) -> Result<Committed, StoreError> {
        // Until the test drops the other end.
        let released = self.released.lock().expect("no panic").recv();
        assert!(released.is_err(), "nothing is sent");
        self.table.commit(batch, times)
    }

    fn read(&mut self, read: &ReadMailbox, times: Times) -> Result<Mailbox, StoreError> {
        self.table.read(read, times)
    }
}

/// A server whose sessions are in a store on a thread.
fn start<S: BlockingStore>(
    shutdown: ShutdownBudget,
    connect: impl FnMut() -> Result<S, StoreError> + Send + 'static,
) -> Running {
    let config = Config {
        shutdown,
        ..config(&Store::Memory)
    };
    let open = |parts: &StoreParts<'_>| {
        let store = Threaded::new(parts, "a table", connect)?;
        Ok(Box::new(store) as Box<dyn SessionStore>)
    };
    Running::serve(Server::bind_with(config, Chat, open).expect("free ports and a thread"))
}

#[test]
fn a_handle_shuts_down_with_sessions_in_a_store_whose_calls_block() {
    let table = Table::default();
    check_shutdown_of(true, |shutdown| {
        let table = table.clone();
        start(shutdown, move || Ok(table.clone()))
    });
}

#[test]
fn a_store_that_hangs_holds_up_no_exit() {
    let (release, released) = channel();
    let released = Arc::new(Mutex::new(released));
    let table = Table::default();
    let hanging = move || {
        Ok(Hanging {
            table: table.clone(),
            released: Arc::clone(&released),
        })
    };
    let soon = ShutdownBudget {
        timeout: ms(2_000),
        notify: ms(100),
        drain: ms(500),
        drain_quiet: ms(100),
        persist: ms(800),
        ..ShutdownBudget::default()
    };
    let server = start(soon, hanging);
    let (mut client, _) = server.v1("held");
    client.text("it is not acknowledged");
    server.handle.shutdown();
    let text = || match client.meet() {
        Event::Text(text) => Some(text),
        Event::Binary(_) | Event::Ping(_) | Event::Pong(_) | Event::Close(..) | Event::End(_) => {
            None
        }
    };
    let said: Vec<_> = std::iter::from_fn(text).collect();
    assert!(
        said.iter().all(|text| !text.starts_with("{\"count\"")),
        "{said:?}"
    );
    let outcome = server.outcome();
    assert!(!outcome.is_safe());
    assert_eq!(outcome.unsaved.len(), 1, "{outcome:?}");
    // It has hung until here.
    drop(release);
}

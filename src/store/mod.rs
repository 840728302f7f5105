//! Where sessions are kept: one interface, three stores, and none that ever blocks.
//!
//! A store is asked (`claim`, `save`, `sync`, `spill`) and answers later through `poll_event`, in
//! the order in which it was asked (but for `Synced` and `Spilled`, which know no order); the
//! stores in this process answer in the same turn. It does its work in three moments of the turn:
//! when its descriptor is ready, when its deadline is due, and at the flush, which is when what was
//! asked in this turn leaves in one go.
//!
//! Every store keeps the same three promises. A claim gives a session's next epoch, above all that
//! it ever had, and the same one again to the same token. A save under an epoch older than the
//! store's is refused (fencing). Within an epoch the count never goes down, so that a save that was
//! repeated or came late does no harm.

mod database;
mod expiry;
pub mod memory;
pub mod record;
pub mod redis;
pub mod spill;
pub mod sqlite;

use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token, Waker};

use crate::config::{Config, StoreConfig};
use crate::engine::io::{Claim, Disk, Now, Save, StoreEvent};
use crate::error::Error;
pub use crate::redis::Peer;
use memory::MemoryStore;
use redis::RedisStore;
use spill::SpillingStore;
use sqlite::SqliteStore;

/// A place that keeps sessions. No method blocks (but `finish`, for a moment), and none panics on
/// what the store answers.
pub trait SessionStore: Send {
    /// What it is, for people: without secrets, for the start-up line and the log.
    fn describe(&self) -> String;

    /// Asks for a session's next epoch; [`StoreEvent::Claimed`] or [`StoreEvent::Refused`] answers.
    fn claim(&mut self, claim: Claim);

    /// Asks to save a batch; [`StoreEvent::Saved`] hands it back, less what was refused.
    fn save(&mut self, batch: Vec<Save>);

    /// Asks to make everything saved so far as durable as the store can: [`StoreEvent::Synced`].
    fn sync(&mut self);

    /// Asks to put a batch aside, where it survives the process, since the store does not take it
    /// in time: [`StoreEvent::Spilled`] answers. A store without a spill hands the batch back.
    #[must_use = "what is handed back is not safe"]
    fn spill(&mut self, batch: Vec<Save>) -> Option<Vec<Save>> {
        Some(batch)
    }

    /// Step 3 of the turn: the descriptor may be ready, or a helper thread has woken the loop.
    fn handle_ready(&mut self, now: Now);

    /// Step 4 of the turn: the time that `poll_timeout` gave may have come.
    fn handle_timeout(&mut self, now: Now);

    /// Step 6 of the turn: carries out, or sends, what was asked in this turn.
    fn flush(&mut self, now: Now);

    /// The loop is over after this: what was asked and could not be done yet is tried once more,
    /// and the answers are taken for the last time. It may wait for some 100 ms, since nobody is
    /// served any more.
    fn finish(&mut self) {}

    /// What it leaves behind, once the loop is over.
    fn remains(&self) -> Remains {
        Remains::without_spill(None)
    }

    /// What the store answers, in the order in which it was asked.
    fn poll_event(&mut self) -> Option<StoreEvent>;

    /// When `handle_timeout` wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Where it leads at this moment, if other nodes are in reach there: broadcasts go there, too.
    fn peer(&self) -> Option<Peer> {
        None
    }
}

/// What a store leaves behind.
#[derive(Clone, Copy, Debug)]
pub struct Remains {
    /// Whether what was written is on the disk; `None` if this process has no file for it.
    pub disk: Option<Disk>,
    /// Rows of the spill that are not from this shutdown; `None` if the file does not tell.
    pub rows_waiting: Option<u64>,
}

impl Remains {
    fn without_spill(disk: Option<Disk>) -> Self {
        let rows_waiting = Some(0);
        Self { disk, rows_waiting }
    }
}

/// What a store is opened with.
pub(crate) struct StoreParts<'a> {
    /// Which store, and how long it keeps a session.
    pub(crate) config: &'a Config,
    /// Where a descriptor is registered.
    pub(crate) registry: &'a Registry,
    /// The token to register it with.
    pub(crate) token: Token,
    /// Wakes the loop from a helper thread.
    pub(crate) waker: Arc<Waker>,
    /// Spreads attempts to reconnect over the fleet.
    pub(crate) seed: u64,
    /// The present.
    pub(crate) now: Now,
}

/// Opens the store that the configuration names.
pub(crate) fn open(parts: StoreParts<'_>) -> Result<Box<dyn SessionStore>, Error> {
    let StoreParts {
        config,
        registry,
        token,
        waker,
        seed,
        now,
    } = parts;
    let ttl = config.session_ttl;
    Ok(match &config.store {
        StoreConfig::Memory => Box::new(MemoryStore::new(ttl)),
        StoreConfig::Sqlite(path) => Box::new(SqliteStore::open(path, ttl, waker)?),
        StoreConfig::Redis(url) => {
            let registry = registry
                .try_clone()
                .map_err(Error::io("cannot share the queue"))?;
            let spill_waker = Arc::clone(&waker);
            let redis = RedisStore::open(url, ttl, registry, token, waker, seed, now.instant)?;
            Box::new(SpillingStore::open(
                &config.spill,
                Box::new(redis),
                ttl,
                spill_waker,
                now,
            )?)
        }
    })
}

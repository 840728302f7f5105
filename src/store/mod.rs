//! Where sessions are kept: one interface, three stores, and none that ever blocks.
//!
//! A store is asked (`ask`) and answers later through `poll_event`, in
//! the order in which it was asked (but for `Synced` and `Spilled`, which know no order); the
//! stores in this process answer in the same turn. It does its work in three moments of the turn:
//! when its descriptor is ready, when its deadline is due, and at the flush, which is when what was
//! asked in this turn leaves in one go.
//!
//! Every store keeps the same three promises. A claim gives a session's next epoch, above all that
//! it ever had, and the same one again to the same token. A save under an epoch older than the
//! store's is refused (fencing). Within an epoch the count never goes down, so that a save that was
//! repeated or came late does no harm.

#[cfg(feature = "sqlite")]
mod database;
mod expiry;
pub mod memory;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(all(feature = "redis", feature = "sqlite"))]
pub mod spill;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token, Waker};

use crate::config::{Config, StoreConfig};
use crate::engine::io::{Disk, Now, Save, StoreCommand, StoreEvent};
use crate::error::Error;
#[cfg(feature = "redis")]
pub use crate::redis::Peer;
use memory::MemoryStore;

/// Where a store leads. No store of this build leads anywhere: the feature `redis` is off.
#[cfg(not(feature = "redis"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {}

/// A place that keeps sessions. No method blocks, and none panics on what the store answers.
pub trait SessionStore: Send {
    /// What it is, for people: without secrets, for the start-up line and the log.
    fn describe(&self) -> String;

    /// Asks for something; [`StoreCommand`] says what answers it.
    fn ask(&mut self, command: StoreCommand);

    /// Step 3 of the turn: the descriptor may be ready, or a helper thread has woken the loop.
    fn handle_ready(&mut self, now: Now);

    /// Step 4 of the turn: the time that `poll_timeout` gave may have come.
    fn handle_timeout(&mut self, now: Now);

    /// Step 6 of the turn: carries out, or sends, what was asked in this turn.
    fn flush(&mut self, now: Now);

    /// The loop is over after this: what the store sees only now, such as a file that is gone, is
    /// told once more through `poll_event`.
    fn handle_end(&mut self) {}

    /// What the store answers, in the order in which it was asked.
    fn poll_event(&mut self) -> Option<StoreEvent>;

    /// When `handle_timeout` wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Whether what was written is on the disk; `None` if this process has no file for it.
    fn disk(&self) -> Option<Disk> {
        None
    }

    /// Where it leads at this moment, if other nodes are in reach there: broadcasts go there, too.
    fn peer(&self) -> Option<Peer> {
        None
    }

    /// The spill before this store, if there is one.
    fn spill(&mut self) -> Option<&mut dyn Spill> {
        None
    }
}

/// Where sessions are put aside that a store does not take in time, so that they survive the
/// process.
pub trait Spill {
    /// Puts a batch aside; [`StoreEvent::Spilled`] answers, among the events of the store.
    fn put(&mut self, batch: Vec<Save>);

    /// The loop is over after this: what could not be written yet is tried once more, and the
    /// answers are taken for the last time. No client is served any more, so it may wait: for all
    /// that it does no longer than `until`. Returns how many rows wait that are not from this
    /// shutdown; `None` if the file does not tell.
    fn finish(&mut self, until: Instant) -> Option<u64>;
}

/// What a store is opened with.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only Redis asks for all of them")
)]
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
pub(crate) fn open(parts: &StoreParts<'_>) -> Result<Box<dyn SessionStore>, Error> {
    match &parts.config.store {
        StoreConfig::Memory => Ok(Box::new(MemoryStore::new(parts.config.session_ttl))),
        #[cfg(feature = "sqlite")]
        StoreConfig::Sqlite(path) => {
            let ttl = parts.config.session_ttl;
            sqlite::open(path, ttl, Arc::clone(&parts.waker))
        }
        #[cfg(not(feature = "sqlite"))]
        StoreConfig::Sqlite(_) => Err(Error::Config(missing("sqlite"))),
        #[cfg(feature = "redis")]
        StoreConfig::Redis(url) => open_redis(url, parts),
        #[cfg(not(feature = "redis"))]
        StoreConfig::Redis(_) => Err(Error::Config(missing("redis"))),
    }
}

/// Whether this build can open a store with these words, for a command line that wants to say so
/// early: one line, which never contains a URL or its password. Opens nothing.
pub fn check(config: &StoreConfig) -> Result<(), String> {
    match config {
        StoreConfig::Memory => Ok(()),
        StoreConfig::Sqlite(_) if cfg!(feature = "sqlite") => Ok(()),
        StoreConfig::Sqlite(_) => Err(missing("sqlite")),
        #[cfg(feature = "redis")]
        StoreConfig::Redis(url) => redis::RedisStore::check_url(url),
        #[cfg(not(feature = "redis"))]
        StoreConfig::Redis(_) => Err(missing("redis")),
    }
}

fn missing(feature: &str) -> String {
    format!("this build has no such store: it was built without the feature `{feature}`")
}

#[cfg(feature = "redis")]
fn open_redis(url: &str, parts: &StoreParts<'_>) -> Result<Box<dyn SessionStore>, Error> {
    let registry = parts.registry.try_clone();
    let store = Box::new(redis::RedisStore::open(
        url,
        parts.config.session_ttl,
        registry.map_err(Error::io("cannot share the queue"))?,
        parts.token,
        Arc::clone(&parts.waker),
        parts.seed,
        parts.now.instant,
    )?);
    #[cfg(feature = "sqlite")]
    let store = Box::new(spill::SpillingStore::open(
        &parts.config.spill,
        store,
        parts.config.session_ttl,
        Arc::clone(&parts.waker),
        parts.now,
    )?);
    Ok(store)
}

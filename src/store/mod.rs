//! Where sessions are kept: one interface, three stores, and none that ever blocks. A program that
//! embeds the server can bring its own ([`Server::bind_with`](crate::Server::bind_with)).
//!
//! A store is asked (`ask`) and answers later through `poll_event`, in the order in which it was
//! asked (but for `Synced` and `Spilled`, which know no order); the stores in this process answer
//! in the same turn. It does its work in three moments of the turn: when its descriptor is ready,
//! when its deadline is due, and at the flush, which is when what was asked in this turn leaves in
//! one go.
//!
//! # What a store promises
//!
//! - A claim gives a session's next epoch, above all that it ever had, and the same one again to
//!   the same token; with what the store holds, whose step begins again at 0. A session that is not
//!   found gets that epoch as its incarnation, which it keeps until it has expired.
//! - A commit under an epoch older than the store's is refused (fencing).
//! - Within an epoch it takes only what is of a later step than what it holds, all of it: count and
//!   state are always of the same step, and a commit that was repeated or came late does no harm.
//! - A push to a session that it knows gets the next number, and is kept until it is confirmed;
//!   or it is refused, which changes nothing else. Of a commit that is repeated, or comes with newer
//!   steps, no push is carried out twice. A commit is carried out whole, pushes and all, or not at
//!   all.
//! - It is asked nothing before its first [`Up`](StoreEvent::Up), and nothing while it is down.
//!   While it is up, it answers everything that it is asked; [`Down`](StoreEvent::Down) forgets
//!   what it has not answered, and the engine asks again after the next `Up`. What is asked before
//!   the loop has polled the `Down` is forgotten, too: a store with a thread must drop it.
//! - It says by itself that it is slow: [`Stalled`](StoreEvent::Stalled) when a request has waited
//!   for a second, [`Resumed`](StoreEvent::Resumed) when it answers again, `Down` when it gives up.
//!   Nothing else watches it, and until then the server is ready.
//!
//! Sessions that are open are saved again at intervals, changed or not, which renews their time to
//! live. A claim's token is to be remembered as long as the record; a store that one process has for
//! itself may forget it with the process.
//!
//! [`Record`](record::Record) is the first three for one session, as a value that can be written
//! down, and [`Expiry`](expiry::Expiry) says when a record has expired.
//!
//! # A store of one's own
//!
//! A driver whose calls block is a [`BlockingStore`](threaded::BlockingStore), and
//! [`Threaded`](threaded::Threaded) makes a store of it: with a thread, reconnects, and all that was
//! said of `Up`, `Down`, `Stalled` and the order. `examples/postgres_store` is one.
//!
//! A store that need not block implements [`SessionStore`]. A thread of its own wakes the loop when
//! it has an answer ([`StoreParts::waker`]).
//!
//! ```
//! use std::collections::{HashMap, VecDeque};
//!
//! use sundown::store::{Now, StoreCommand, StoreEvent};
//! use sundown::SessionId;
//! use sundown::store::SessionStore;
//! use sundown::store::record::{Record, carry_out};
//! use sundown::{Chat, Config, Server};
//!
//! /// Keeps sessions in this process, for as long as it lives.
//! struct Forever {
//!     records: HashMap<SessionId, Record>,
//!     asked: Vec<StoreCommand>,
//!     events: VecDeque<StoreEvent>,
//! }
//!
//! impl SessionStore for Forever {
//!     fn describe(&self) -> String {
//!         "forever".to_owned()
//!     }
//!
//!     fn ask(&mut self, command: StoreCommand) {
//!         self.asked.push(command);
//!     }
//!
//!     fn flush(&mut self, _now: Now) {
//!         for command in self.asked.drain(..) {
//!             self.events.push_back(match command {
//!                 StoreCommand::Claim(claim) => {
//!                     let known = self.records.get(&claim.session);
//!                     let (record, grant) = Record::claim(known, true, claim.token, 0);
//!                     self.records.insert(claim.session, record);
//!                     let key = claim.key;
//!                     StoreEvent::Claimed { key, grant }
//!                 }
//!                 StoreCommand::Commit(batch) => {
//!                     let (mut fenced, mut pushed) = (Vec::new(), Vec::new());
//!                     for (position, commit) in batch.iter().enumerate() {
//!                         if !carry_out(&mut self.records, commit, &mut pushed) {
//!                             fenced.push(position);
//!                         }
//!                     }
//!                     StoreEvent::Committed { batch, fenced, pushed }
//!                 }
//!                 StoreCommand::Read(read) => {
//!                     let known = self.records.get(&read.session);
//!                     let mailbox = known.map(|record| record.mailbox().clone());
//!                     let (key, mailbox) = (read.key, mailbox.unwrap_or_default());
//!                     StoreEvent::Mailbox { key, mailbox }
//!                 }
//!                 StoreCommand::Sync => StoreEvent::Synced,
//!             });
//!         }
//!     }
//!
//!     fn poll_event(&mut self) -> Option<StoreEvent> {
//!         self.events.pop_front()
//!     }
//! }
//!
//! let config = Config {
//!     listen: ([127, 0, 0, 1], 0).into(), // any free port
//!     admin: None,
//!     ..Config::default()
//! };
//! let server = Server::bind_with(config, Chat, |_parts| {
//!     Ok(Box::new(Forever {
//!         records: HashMap::new(),
//!         asked: Vec::new(),
//!         events: VecDeque::from([StoreEvent::Up]),
//!     }))
//! })?;
//! server.handle().shutdown();
//! assert!(server.run()?.is_safe());
//! # Ok::<(), sundown::Error>(())
//! ```

pub mod expiry;
pub mod memory;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(all(feature = "redis", feature = "sqlite"))]
pub(crate) mod spill;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_file;
pub mod threaded;

#[cfg(any(feature = "redis", feature = "sqlite"))]
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token, Waker};

use crate::config::{Config, StoreConfig};
use crate::error::Error;
#[cfg(feature = "redis")]
pub(crate) use crate::redis::Peer;
use memory::MemoryStore;

/// What a store is asked, and what it answers.
pub use crate::engine::io::{
    Claim, Commit, Disk, Grant, Mail, Now, Push, Pushed, ReadMailbox, Refused, SessionKey,
    Snapshot, StoreCommand, StoreEvent,
};

/// Where a store leads. No store of this build leads anywhere: the feature `redis` is off.
#[cfg(not(feature = "redis"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {}

/// A place that keeps sessions; the [module](self) says what it promises. No method may block, and
/// none may panic on what a disk or a server answers.
pub trait SessionStore: Send {
    /// What it is, for people: without secrets, for the start-up line and the log.
    fn describe(&self) -> String;

    /// Asks for something; [`StoreCommand`] says what answers it.
    fn ask(&mut self, command: StoreCommand);

    /// Step 3 of the turn: the descriptor may be ready, or a thread has woken the loop.
    fn handle_ready(&mut self, _now: Now) {}

    /// Step 4 of the turn: the time that `poll_timeout` gave may have come.
    fn handle_timeout(&mut self, _now: Now) {}

    /// Step 6 of the turn: carries out, or sends, what was asked in this turn.
    fn flush(&mut self, now: Now);

    /// The loop is over after this: what the store sees only now, such as a file that is gone, is
    /// told once more through `poll_event`. When it is dropped, it may wait until then for its files
    /// to be closed, and no longer.
    fn handle_end(&mut self, _until: Instant) {}

    /// What the store answers, in the order in which it was asked.
    fn poll_event(&mut self) -> Option<StoreEvent>;

    /// When `handle_timeout` wants to be called next.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether what was written is on the disk; `None` if this process has no file for it. A store
    /// with a file must say, or the shutdown report cannot.
    fn disk(&self) -> Option<Disk> {
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
    fn put(&mut self, batch: Vec<Commit>);

    /// The loop is over after this: what could not be written yet is tried once more, and the
    /// answers are taken for the last time. No client is served any more, so it may wait: for all
    /// that it does no longer than `until`. Returns how many rows wait that are not from this
    /// shutdown; `None` if the file does not tell.
    fn finish(&mut self, until: Instant) -> Option<u64>;
}

/// A store that other nodes share.
#[cfg(feature = "redis")]
pub(crate) trait SharedStore: SessionStore {
    /// Where its link is connected at this moment: the bus connects to the same place.
    fn peer(&self) -> Option<Peer>;
}

/// Answers a batch: first what was refused in it, by position, and gives the last answer, which has
/// the rest.
#[cfg(any(feature = "redis", feature = "sqlite"))]
fn answer_batch(
    mut batch: Vec<Commit>,
    mut fenced: Vec<usize>,
    refused: Vec<(usize, String)>,
    pushed: Vec<Pushed>,
    events: &mut VecDeque<StoreEvent>,
) -> StoreEvent {
    // From the end: the positions before it stay what they are.
    for (position, reason) in refused.into_iter().rev() {
        let request = Refused::Commit(batch.remove(position));
        events.push_back(StoreEvent::Refused { request, reason });
        for fenced in fenced.iter_mut().filter(|fenced| **fenced > position) {
            *fenced -= 1;
        }
    }
    StoreEvent::Committed {
        batch,
        fenced,
        pushed,
    }
}

/// A store that was opened: what the loop asks, and whether broadcasts follow it.
pub(crate) enum OpenedStore {
    /// Broadcasts reach this node alone.
    Alone(Box<dyn SessionStore>),
    /// Broadcasts reach the nodes that share it.
    #[cfg(feature = "redis")]
    Shared(Box<dyn SharedStore>),
}

impl OpenedStore {
    /// Where broadcasts go; `None`: other nodes are not in reach.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self {
            Self::Alone(_) => None,
            #[cfg(feature = "redis")]
            Self::Shared(store) => store.peer(),
        }
    }
}

impl Deref for OpenedStore {
    type Target = dyn SessionStore;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Alone(store) => store.as_ref(),
            #[cfg(feature = "redis")]
            Self::Shared(store) => store.as_ref(),
        }
    }
}

impl DerefMut for OpenedStore {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Alone(store) => store.as_mut(),
            #[cfg(feature = "redis")]
            Self::Shared(store) => store.as_mut(),
        }
    }
}

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct StoreParts<'a> {
    /// The server's settings, [`session_ttl`](Config::session_ttl) among them.
    pub config: &'a Config,
    /// Where to register a descriptor, for [`SessionStore::handle_ready`].
    pub registry: &'a Registry,
    /// The token to register it with.
    pub token: Token,
    /// Wakes the loop from another thread, upon which `handle_ready` is called, too.
    pub waker: &'a Arc<Waker>,
    /// Random, to spread attempts to reconnect over the fleet.
    pub seed: u64,
    /// The present.
    pub now: Now,
}

/// Opens the store that the configuration names.
pub(crate) fn open(parts: &StoreParts<'_>) -> Result<OpenedStore, Error> {
    match &parts.config.store {
        StoreConfig::Memory => {
            let store = MemoryStore::new(parts.config.session_ttl).since(parts.now.unix_ms);
            Ok(OpenedStore::Alone(Box::new(store)))
        }
        #[cfg(feature = "sqlite")]
        StoreConfig::Sqlite(path) => {
            let ttl = parts.config.session_ttl;
            sqlite::open(path, ttl, Arc::clone(parts.waker)).map(OpenedStore::Alone)
        }
        #[cfg(not(feature = "sqlite"))]
        StoreConfig::Sqlite(_) => Err(Error::Config(missing("sqlite"))),
        #[cfg(feature = "redis")]
        StoreConfig::Redis(url) => open_redis(url, parts).map(OpenedStore::Shared),
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
fn open_redis(url: &str, parts: &StoreParts<'_>) -> Result<Box<dyn SharedStore>, Error> {
    let store = Box::new(redis::RedisStore::open(url, parts)?);
    #[cfg(feature = "sqlite")]
    let store = Box::new(spill::SpillingStore::open(
        &parts.config.spill,
        OpenedStore::Shared(store),
        parts.config.session_ttl,
        Arc::clone(parts.waker),
        parts.now,
    )?);
    Ok(store)
}

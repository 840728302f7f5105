//! A store whose calls block, made into one whose calls do not: a helper thread makes them, in
//! order, and wakes the loop when it has answers.
//!
//! [`Threaded`] is the loop's side. It owns what is under way and how long that has been so, and
//! says `Stalled` and `Down` by that. The thread's side is `worker`. It must never wait for the
//! thread, nor pass on what a connection answers that was given up.

mod worker;

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::expiry::{Expiry, Times};
use super::{SessionStore, StoreParts};
use crate::engine::io::{
    Claim, Commit, Grant, Mailbox, Now, Pushed, ReadMailbox, SessionId, StoreCommand, StoreEvent,
};
use crate::error::Error;
use worker::{Asked, Told, Work, Worker};

/// One connection to a database, with calls that may block: what [`Threaded`] needs to make a
/// [`SessionStore`] of it. All calls come from one thread, in the order in which the engine asks.
///
/// [The module `store`](super) says what a store promises, and [`Record`](super::record::Record) is
/// that for one session, as a value. Every call may be repeated, alone or with newer requests, after
/// an error or a lost answer, and one that was given up may still be carried out afterwards; the
/// promises make that harmless. An error is for the log: it must show no secret, and no session.
///
/// A call should return in less than a second. Give the driver timeouts, also for the connection:
/// while a call hangs, no other is made.
pub trait BlockingStore: 'static {
    /// Claims these sessions, in order, and returns a grant for each: the next epoch, or for a token
    /// that the session was claimed with last, the same one again. A session is found, and its
    /// snapshot granted, unless it expires at `times.judged_ms` or earlier; it now expires at
    /// `times.expires_ms`.
    fn claim(&mut self, claims: &[Claim], times: Times) -> Result<Vec<Grant>, StoreError>;

    /// Commits these, in order and in one transaction, with all that they do to mailboxes. What is
    /// taken, or held already, now expires at `times.expires_ms`, and so does a session that was
    /// pushed to. One that expires at `times.judged_ms` or earlier is unknown to a push. A result of
    /// `Ok` is what clients are acknowledged on.
    ///
    /// [`carry_out`](super::record::carry_out) is that for records as values.
    fn commit(&mut self, batch: &[Commit], times: Times) -> Result<Committed, StoreError>;

    /// Returns the pushes to a session: an empty mailbox if it is not known, or expires at
    /// `times.judged_ms` or earlier.
    fn read(&mut self, read: &ReadMailbox, times: Times) -> Result<Mailbox, StoreError>;

    /// Makes all that was committed as durable as it can be. By default it is that already.
    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called every second, also while nobody asks for anything: the place to notice that the
    /// database is away, and to delete what has expired, some at a time. No epoch may be granted
    /// again that a deleted session had.
    fn maintain(&mut self, _times: Times) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called after that. Returns the sessions that others have pushed to since this connection was
    /// made or the last call, with the number of the latest push. More is no harm, and of what is
    /// missing a node learns when it next commits the session.
    fn news(&mut self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        Ok(Vec::new())
    }
}

/// What a batch has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The positions, ascending, of the commits that are fenced: their sessions have a higher epoch,
    /// and nothing of them was done.
    pub fenced: Vec<usize>,
    /// What has become of each push of all other commits, in their order.
    pub pushed: Vec<Pushed>,
    /// Sessions of the batch that have pushes, with the number of the latest: so a node finds those
    /// of other nodes which it was not told of. Empty where nobody shares the database.
    pub mail: Vec<(SessionId, u64)>,
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The database answers, and something in this call is not acceptable to it. A call with
    /// several sessions is then made again with each half of them, so that in the end only those at
    /// fault are refused. Of `sync`, `maintain`, `news` and connecting, it is the same as
    /// `Away`.
    Refused(String),
    /// The connection is of no use any more, or the database is not: [`Threaded`] drops it, says
    /// `Down`, and connects again.
    Away(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(reason) | Self::Away(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for StoreError {}

/// A [`BlockingStore`] as a [`SessionStore`]: one thread of its own connects, makes the calls in
/// order, and connects again when one says that the database is away. A call that panics counts as
/// such (if the program unwinds). The store is [`Down`](StoreEvent::Down) until the first connection
/// is there.
///
/// After a second without an answer it is [`Stalled`](StoreEvent::Stalled), and after 15 more
/// `Down`. A new connection is made once the call has returned, and its answer counts for nothing.
/// The engine bounds what waits for the thread: a session has one request under way.
///
/// Dropping it waits for nothing. The thread carries out what it was asked, closes the connection
/// and ends; if its call hangs, it is left to itself, and ends with the process at the latest, which
/// it does not hold up.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use sundown::store::{Claim, Commit, Grant, ReadMailbox};
/// use sundown::{Mailbox, SessionId};
/// use sundown::store::expiry::Times;
/// use sundown::store::record::{Record, carry_out};
/// use sundown::store::threaded::{BlockingStore, Committed, StoreError, Threaded};
/// use sundown::{Chat, Config, Server};
///
/// /// Stands for a database, where sessions live for ever.
/// type Table = Arc<Mutex<HashMap<SessionId, Record>>>;
///
/// /// A connection to it.
/// struct Connection(Table);
///
/// impl BlockingStore for Connection {
///     fn claim(&mut self, claims: &[Claim], _: Times) -> Result<Vec<Grant>, StoreError> {
///         let mut table = self.0.lock().map_err(away)?;
///         let grants = claims.iter().map(|claim| {
///             let known = table.get(&claim.session);
///             let (record, grant) = Record::claim(known, true, claim.token, 0);
///             table.insert(claim.session.clone(), record);
///             grant
///         });
///         Ok(grants.collect())
///     }
///
///     fn commit(&mut self, batch: &[Commit], _: Times) -> Result<Committed, StoreError> {
///         let mut table = self.0.lock().map_err(away)?;
///         let mut committed = Committed::default();
///         for (position, commit) in batch.iter().enumerate() {
///             if !carry_out(&mut *table, commit, &mut committed.pushed) {
///                 committed.fenced.push(position);
///             }
///         }
///         Ok(committed)
///     }
///
///     fn read(&mut self, read: &ReadMailbox, _: Times) -> Result<Mailbox, StoreError> {
///         let table = self.0.lock().map_err(away)?;
///         let mailbox = table.get(&read.session).map(|record| record.mailbox().clone());
///         Ok(mailbox.unwrap_or_default())
///     }
/// }
///
/// fn away(error: impl std::fmt::Display) -> StoreError {
///     StoreError::Away(error.to_string())
/// }
///
/// let config = Config {
///     listen: ([127, 0, 0, 1], 0).into(), // any free port
///     admin: None,
///     ..Config::default()
/// };
/// let table = Table::default();
/// let server = Server::bind_with(config, Chat, |parts| {
///     let connect = move || Ok(Connection(Arc::clone(&table)));
///     Ok(Box::new(Threaded::new(parts, "a table", connect)?))
/// })?;
/// server.handle().shutdown();
/// assert!(server.run()?.is_safe());
/// # Ok::<(), sundown::Error>(())
/// ```
pub struct Threaded<S> {
    described: String,
    expiry: Expiry,
    work: Sender<Work>,
    told: Receiver<Told>,
    state: State,
    /// In this turn.
    asked: Vec<Asked>,
    events: VecDeque<StoreEvent>,
    now: Instant,
    /// It lives on the thread.
    store: PhantomData<fn() -> S>,
}

enum State {
    Down { is_told: bool },
    Up(Link),
}

/// A connection that is up.
struct Link {
    number: u64,
    /// When each request was asked that is not answered, the oldest first.
    waiting: VecDeque<Instant>,
    heard_at: Instant,
    stalled_at: Option<Instant>,
    maintain_at: Instant,
    /// A call of `maintain` is not over.
    is_maintaining: bool,
}

/// The age of a request at which the store counts as stalled.
const STALL_AFTER: Duration = Duration::from_secs(1);
/// How long a stalled store may be silent before it is given up. A process that stood still finds
/// it stalled, and not gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often `maintain` is called.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

impl<S: BlockingStore> Threaded<S> {
    /// Starts the thread, which connects. `described` names the database for people, without
    /// secrets; `connect` makes a connection, and is called for each, on the thread.
    pub fn new(
        parts: &StoreParts<'_>,
        described: impl Into<String>,
        connect: impl FnMut() -> Result<S, StoreError> + Send + 'static,
    ) -> Result<Self, Error> {
        let described = described.into();
        let (work, received) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let waker = Arc::clone(parts.waker);
        let worker = Worker::new(&described, parts.seed, received, tell, waker);
        thread::Builder::new()
            .name("sundown-store".to_owned())
            .spawn(move || worker.run(connect))
            .map_err(Error::io("cannot start the thread of the store"))?;
        Ok(Self {
            described,
            expiry: Expiry::new(parts.config.session_ttl),
            work,
            told,
            state: State::Down { is_told: false },
            asked: Vec::new(),
            events: VecDeque::new(),
            now: parts.now.instant,
            store: PhantomData,
        })
    }
}

impl<S> Threaded<S> {
    fn handle_told(&mut self, told: Told) {
        match (told, &mut self.state) {
            (Told::Up(number), _) => {
                self.state = State::Up(Link::new(number, self.now));
                self.events.push_back(StoreEvent::Up);
            }
            // Given up already.
            (Told::Down(_), State::Down { is_told: true })
            | (Told::Answered(_) | Told::Maintained(_), State::Down { .. }) => {}
            (Told::Down(reason), _) => self.go_down(reason),
            (Told::Answered(events), State::Up(link)) => {
                self.events.extend(events);
                self.events.extend(link.handle_answer(self.now));
            }
            (Told::Maintained(news), State::Up(link)) => {
                link.is_maintaining = false;
                self.events.extend(news);
                self.events.extend(link.handle_answer(self.now));
            }
        }
    }

    /// What was asked and is not answered is forgotten.
    fn go_down(&mut self, reason: String) {
        self.state = State::Down { is_told: true };
        self.asked.clear();
        self.events.push_back(StoreEvent::Down { reason });
    }

    fn is_known_down(&self) -> bool {
        matches!(self.state, State::Down { is_told: true })
    }

    fn send(&self, link: u64, asked: Asked) {
        let times = self.expiry.times();
        // Without the thread, `poll_event` finds the other channel closed.
        if self.work.send(Work { link, times, asked }).is_err() {
            log::debug!("{}: no thread", self.described);
        }
    }
}

impl<S> SessionStore for Threaded<S> {
    fn describe(&self) -> String {
        self.described.clone()
    }

    fn ask(&mut self, command: StoreCommand) {
        if let State::Up(_) = self.state {
            self.asked.push(Asked::Request(command));
        }
    }

    fn handle_ready(&mut self, now: Now) {
        self.now = now.instant;
    }

    fn handle_timeout(&mut self, now: Now) {
        self.now = now.instant;
        let State::Up(link) = &mut self.state else {
            return;
        };
        match link.patience_ends_at() {
            Some(at) if at <= self.now && link.stalled_at.is_some() => {
                let number = link.number;
                self.go_down(format!("no answer in {} s", SILENCE_MAX.as_secs()));
                return self.send(number, Asked::GiveUp);
            }
            Some(at) if at <= self.now => {
                link.stalled_at = Some(self.now);
                self.events.push_back(StoreEvent::Stalled);
            }
            Some(_) | None => {}
        }
        if !link.is_maintaining && link.maintain_at <= self.now {
            link.is_maintaining = true;
            link.maintain_at = self.now + MAINTAIN_EVERY;
            self.asked.push(Asked::Maintain);
        }
    }

    fn flush(&mut self, now: Now) {
        self.now = now.instant;
        self.expiry.handle_now(now);
        let State::Up(link) = &mut self.state else {
            return;
        };
        let number = link.number;
        let times = self.asked.iter().map(|_| now.instant);
        link.waiting.extend(times);
        for asked in std::mem::take(&mut self.asked) {
            self.send(number, asked);
        }
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.told.try_recv() {
                Ok(told) => self.handle_told(told),
                Err(TryRecvError::Disconnected) if !self.is_known_down() => {
                    self.go_down("its thread is gone".to_owned());
                }
                Err(TryRecvError::Disconnected | TryRecvError::Empty) => return None,
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let State::Up(link) = &self.state else {
            return None;
        };
        let maintain_at = (!link.is_maintaining).then_some(link.maintain_at);
        let times = [maintain_at, link.patience_ends_at()];
        times.into_iter().flatten().min()
    }
}

impl Link {
    fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            waiting: VecDeque::new(),
            heard_at: now,
            stalled_at: None,
            maintain_at: now + MAINTAIN_EVERY,
            is_maintaining: false,
        }
    }

    /// The oldest request is answered. Whether the store is no longer stalled.
    fn handle_answer(&mut self, now: Instant) -> Option<StoreEvent> {
        self.heard_at = now;
        self.waiting.pop_front();
        let is_late = |since: &Instant| *since + STALL_AFTER <= now;
        if self.waiting.front().is_some_and(is_late) {
            return None;
        }
        self.stalled_at.take().map(|_| StoreEvent::Resumed)
    }

    /// When the store is stalled, or is given up if it is stalled already.
    fn patience_ends_at(&self) -> Option<Instant> {
        let since = *self.waiting.front()?;
        Some(match self.stalled_at {
            Some(at) => at.max(self.heard_at) + SILENCE_MAX,
            None => since + STALL_AFTER,
        })
    }
}

#[cfg(test)]
mod tests;

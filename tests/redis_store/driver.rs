//! The least loop that can drive a store: poll, ready, timeout, flush, events; in the order of a
//! turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use sundown::engine::io::{
    Claim, Commit, Grant, Mailbox, Now, Pushed, ReadMailbox, Refused, SessionId, SessionKey,
    Snapshot, StoreCommand, StoreEvent,
};
use sundown::store::redis::RedisStore;
use sundown::{Config, Error, SessionStore, StoreParts, clock};

use crate::steps::Promising;

/// Far longer than anything here takes, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Each is another process.
static SEED: AtomicU64 = AtomicU64::new(7);

pub(crate) struct Driver {
    pub(crate) store: RedisStore,
    poll: Poll,
    events: Events,
    answers: VecDeque<StoreEvent>,
    /// How far the store's clock is ahead of ours.
    ahead: Duration,
    url: String,
}

impl Driver {
    pub(crate) fn open(url: &str) -> Self {
        Self::try_open(url).unwrap()
    }

    pub(crate) fn try_open(url: &str) -> Result<Self, Error> {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let config = Config {
            session_ttl: Duration::from_secs(3_600),
            ..Config::default()
        };
        let parts = StoreParts {
            config: &config,
            registry: poll.registry(),
            token: Token(1),
            waker: &waker,
            seed: SEED.fetch_add(1, Ordering::Relaxed),
            now: clock::now(),
        };
        Ok(Self {
            store: RedisStore::open(url, &parts)?,
            poll,
            events: Events::with_capacity(16),
            answers: VecDeque::new(),
            ahead: Duration::ZERO,
            url: url.to_owned(),
        })
    }

    /// Opens and waits until the store can be asked.
    pub(crate) fn up(url: &str) -> Self {
        let mut driver = Self::open(url);
        driver.wait_up();
        driver
    }

    #[track_caller]
    pub(crate) fn wait_up(&mut self) {
        let event = self.next();
        assert!(matches!(event, StoreEvent::Up), "{event:?}");
    }

    #[track_caller]
    pub(crate) fn wait_down(&mut self) -> String {
        match self.next() {
            StoreEvent::Down { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    /// One turn of the loop, which waits for at most so long; whether anything was ready.
    pub(crate) fn turn(&mut self, wait_max: Duration) -> bool {
        self.store.flush(self.now());
        let wait = self.wait().min(wait_max);
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        let now = self.now();
        let ready = !self.events.is_empty();
        if ready {
            self.store.handle_ready(now);
        }
        if self.store.poll_timeout().unwrap() <= now.instant {
            self.store.handle_timeout(now);
        }
        self.store.flush(now);
        while let Some(event) = self.store.poll_event() {
            self.answers.push_back(event);
        }
        ready
    }

    /// How long the store has nothing to do by itself.
    pub(crate) fn wait(&self) -> Duration {
        let due = self.store.poll_timeout().unwrap();
        due.saturating_duration_since(self.now().instant)
    }

    /// Lets time pass for the store, and none for us.
    pub(crate) fn skip(&mut self, time: Duration) {
        self.ahead += time;
    }

    fn now(&self) -> Now {
        let mut now = clock::now();
        now.instant += self.ahead;
        now
    }

    /// The next event but for the two that a busy machine can cause at any time; fails when none
    /// comes.
    #[track_caller]
    pub(crate) fn next(&mut self) -> StoreEvent {
        loop {
            match self.next_of_all() {
                StoreEvent::Stalled | StoreEvent::Resumed => {}
                event => return event,
            }
        }
    }

    /// The next event of any kind; fails when none comes.
    #[track_caller]
    pub(crate) fn next_of_all(&mut self) -> StoreEvent {
        let deadline = clock::now().instant + PATIENCE;
        loop {
            if let Some(event) = self.answers.pop_front() {
                return event;
            }
            let now: Instant = clock::now().instant;
            assert!(now < deadline, "the store says nothing more");
            self.turn(deadline - now);
        }
    }

    /// What has been said and not been read.
    pub(crate) fn heard(&mut self) -> Option<StoreEvent> {
        self.answers.pop_front()
    }

    /// The next event that is no news of a claim or a push. Those come for one's own, too, and
    /// their place among the answers is Redis's choice.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> StoreEvent {
        loop {
            match self.next() {
                StoreEvent::TakenOver { .. } | StoreEvent::Mail { .. } => {}
                event => return event,
            }
        }
    }

    /// The next news of a claim above this epoch: session and epoch.
    #[track_caller]
    pub(crate) fn taken_over(&mut self, above: u64) -> (String, u64) {
        loop {
            match self.next() {
                StoreEvent::TakenOver { session, epoch } if epoch > above => {
                    return (session.as_str().to_owned(), epoch);
                }
                StoreEvent::TakenOver { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Claims, and waits for epoch, count and found.
    #[track_caller]
    pub(crate) fn claim(&mut self, session: &str, token: u64) -> (u64, u64, bool) {
        let grant = self.grant(session, token);
        (grant.epoch, grant.snapshot.count, grant.found)
    }

    /// Claims; the epoch, which must be above this one, goes with this count and found.
    #[track_caller]
    pub(crate) fn claim_above(
        &mut self,
        former: u64,
        session: &str,
        token: u64,
        known: (u64, bool),
    ) -> u64 {
        let (epoch, count, found) = self.claim(session, token);
        assert!(epoch > former, "{epoch} after {former}");
        assert_eq!((count, found), known);
        epoch
    }

    /// Saves, and waits for the positions that were refused.
    #[track_caller]
    pub(crate) fn save(&mut self, batch: &[(&str, u64, u64)]) -> Vec<usize> {
        let asked: Vec<_> = batch.iter().map(|&(s, e, n)| commit(s, e, n)).collect();
        self.store.ask(StoreCommand::Commit(asked.clone()));
        match self.answer() {
            StoreEvent::Committed { batch, fenced, .. } => {
                assert_eq!(batch, asked);
                fenced
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Promising for Driver {
    fn grant(&mut self, session: &str, token: u64) -> Grant {
        self.store.ask(StoreCommand::Claim(claim(session, token)));
        match self.answer() {
            StoreEvent::Claimed { grant, .. } => grant,
            other => panic!("{other:?}"),
        }
    }

    fn commit_batch(&mut self, asked: Vec<Commit>) -> (Vec<usize>, Vec<Pushed>) {
        self.store.ask(StoreCommand::Commit(asked.clone()));
        match self.answer() {
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            } => {
                assert_eq!(batch, asked);
                (fenced, pushed)
            }
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, session: &str) -> Mailbox {
        self.store.ask(StoreCommand::Read(read(session)));
        match self.answer() {
            StoreEvent::Mailbox { mailbox, .. } => mailbox,
            other => panic!("{other:?}"),
        }
    }

    fn reopen(&mut self) {
        *self = Self::up(&self.url);
    }
}

impl Driver {
    /// Asks for one save, and waits for nothing.
    pub(crate) fn store_save(&mut self, session: &str, epoch: u64, count: u64) {
        self.store
            .ask(StoreCommand::Commit(vec![commit(session, epoch, count)]));
    }

    /// Claims; the reason of the refusal.
    #[track_caller]
    pub(crate) fn refused_claim(&mut self, session: &str) -> String {
        self.store.ask(StoreCommand::Claim(claim(session, 99)));
        match self.answer() {
            StoreEvent::Refused {
                request: Refused::Claim(key),
                reason,
            } => {
                assert_eq!(key, KEY);
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    /// Saves; which were refused, and why.
    #[track_caller]
    pub(crate) fn refused_saves(&mut self, batch: &[(&str, u64, u64)]) -> Vec<(String, String)> {
        self.store.ask(StoreCommand::Commit(
            batch.iter().map(|&(s, e, n)| commit(s, e, n)).collect(),
        ));
        let mut refused = Vec::new();
        loop {
            match self.answer() {
                StoreEvent::Refused {
                    request: Refused::Commit(commit),
                    reason,
                } => refused.push((commit.session.to_string(), reason)),
                StoreEvent::Committed { fenced, .. } => {
                    assert!(fenced.is_empty());
                    return refused;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) fn claim(session: &str, token: u64) -> Claim {
    Claim {
        key: KEY,
        session: SessionId::parse(session).unwrap(),
        token,
    }
}

pub(crate) fn read(session: &str) -> ReadMailbox {
    ReadMailbox {
        key: KEY,
        session: SessionId::parse(session).unwrap(),
    }
}

pub(crate) fn commit(session: &str, epoch: u64, count: u64) -> Commit {
    Commit {
        key: KEY,
        session: SessionId::parse(session).unwrap(),
        epoch,
        snapshot: Snapshot::counted(count),
        mail: None,
    }
}

const KEY: SessionKey = SessionKey {
    slot: 3,
    generation: 4,
};

//! The thread of a store whose calls block: it connects, makes the calls, and tells what came of
//! them.
//!
//! It owns the connection, the requests that wait for it, and the wait before the next attempt. It
//! is never joined. It must never carry out a request of an earlier connection, nor end by a panic
//! of the store.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use mio::Waker;

use super::{BlockingStore, Committed, StoreError};
use crate::backoff::Backoff;
use crate::clock;
use crate::engine::io::{
    Claim, Commit, Pushed, ReadMailbox, Refused, SessionId, StoreCommand, StoreEvent,
};
use crate::outage::Outage;
use crate::store::expiry::Times;

/// What the loop asks.
pub(super) struct Work {
    /// Of which connection.
    pub(super) link: u64,
    pub(super) times: Times,
    pub(super) asked: Asked,
}

pub(super) enum Asked {
    Request(StoreCommand),
    Maintain,
    /// The connection has not answered in time.
    GiveUp,
}

/// What the loop is told.
pub(super) enum Told {
    /// The connection of this number is there.
    Up(u64),
    /// It is gone, or the first one cannot be made.
    Down(String),
    /// A request, by these events.
    Answered(Vec<StoreEvent>),
    /// And these sessions were pushed to.
    Maintained(Vec<StoreEvent>),
}

/// Claims in one call: more would take too long for those who wait.
pub(super) const CLAIMS_MAX: usize = 256;
/// How long a connection must last for its loss to be a first failure again: one that ends at the
/// first request would otherwise be made again at full speed.
const HELD_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    received: Receiver<Work>,
    told: Sender<Told>,
    waker: Arc<Waker>,
    outage: Outage,
    backoff: Backoff,
    /// The number of the connection.
    link: u64,
    /// Received, and not begun.
    queue: VecDeque<Work>,
}

/// Why a connection is over.
enum End {
    Failed(String),
    /// The loop's side was dropped.
    Left,
}

impl Worker {
    pub(super) fn new(
        described: &str,
        seed: u64,
        received: Receiver<Work>,
        told: Sender<Told>,
        waker: Arc<Waker>,
    ) -> Self {
        Self {
            received,
            told,
            waker,
            outage: Outage::new(described),
            backoff: Backoff::new(seed),
            link: 0,
            queue: VecDeque::new(),
        }
    }

    /// Returns once the loop's side was dropped, and all that it had asked is carried out.
    pub(super) fn run<S: BlockingStore>(
        mut self,
        mut connect: impl FnMut() -> Result<S, StoreError>,
    ) {
        loop {
            let reason = match guarded(&mut connect) {
                Ok(store) => {
                    self.outage.handle_open("");
                    match self.serve(store) {
                        End::Failed(reason) => reason,
                        End::Left => return,
                    }
                }
                Err(error) => error.to_string(),
            };
            if let Some(reason) = self.outage.handle_failure(reason, "") {
                self.tell([Told::Down(reason)]);
            }
            if self.pause().is_err() {
                return;
            }
        }
    }

    /// Serves a connection until it is over, and closes it.
    fn serve<S: BlockingStore>(&mut self, mut store: S) -> End {
        let opened_at = clock::instant();
        self.link += 1;
        self.tell([Told::Up(self.link)]);
        let end = loop {
            match self.next().and_then(|work| self.call(&mut store, work)) {
                Ok(told) => self.tell(told),
                Err(end) => break end,
            }
        };
        self.queue.clear();
        if opened_at + HELD_AFTER <= clock::instant() {
            self.backoff.reset();
        }
        let close = || {
            drop(store);
            Ok(())
        };
        if let Err(error) = guarded(close) {
            log::warn!("closing the connection of the store: {error}");
        }
        end
    }

    /// The next request to this connection.
    fn next(&mut self) -> Result<Work, End> {
        loop {
            let more = if self.queue.is_empty() {
                Some(self.received.recv().map_err(|_| End::Left)?)
            } else {
                None
            };
            let more = more.into_iter().chain(self.received.try_iter());
            // What is of an earlier connection was forgotten with it.
            let more = more.filter(|work| work.link == self.link);
            self.queue.extend(more);
            let is_given_up = |work: &Work| matches!(work.asked, Asked::GiveUp);
            if self.queue.iter().any(is_given_up) {
                return Err(End::Failed("no answer in time".to_owned()));
            }
            if let Some(work) = self.queue.pop_front() {
                return Ok(work);
            }
        }
    }

    fn call(&mut self, store: &mut impl BlockingStore, work: Work) -> Result<Vec<Told>, End> {
        let times = work.times;
        match work.asked {
            Asked::Request(StoreCommand::Claim(first)) => {
                let mut claims = vec![first];
                claims.extend(std::iter::from_fn(|| self.next_claim()).take(CLAIMS_MAX - 1));
                claim(store, claims, times)
            }
            Asked::Request(StoreCommand::Commit(batch)) => commit(store, batch, times),
            Asked::Request(StoreCommand::Sync) => {
                guarded(|| store.sync()).map(|()| vec![Told::Answered(vec![StoreEvent::Synced])])
            }
            Asked::Maintain => guarded(|| store.maintain(times).and_then(|()| store.news()))
                .map(|mail| vec![Told::Maintained(news(mail))]),
            Asked::Request(StoreCommand::Read(asked)) => read(store, &asked, times),
            Asked::GiveUp => Ok(Vec::new()),
        }
        .map_err(|error| End::Failed(error.to_string()))
    }

    /// The claim that follows at once, if one does.
    fn next_claim(&mut self) -> Option<Claim> {
        let work = self.queue.pop_front()?;
        if let Asked::Request(StoreCommand::Claim(claim)) = work.asked {
            return Some(claim);
        }
        self.queue.push_front(work);
        None
    }

    /// Waits before the next attempt. What is asked meanwhile was asked of the connection before.
    fn pause(&mut self) -> Result<(), RecvTimeoutError> {
        let until = clock::instant() + self.backoff.next_delay();
        loop {
            match self.received.recv_timeout(clock::left_until(until)) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(left @ RecvTimeoutError::Disconnected) => return Err(left),
            }
        }
    }

    fn tell(&self, told: impl IntoIterator<Item = Told>) {
        // Without the loop's side, `next` finds the other channel closed.
        let is_heard = told.into_iter().all(|told| self.told.send(told).is_ok());
        if is_heard && let Err(error) = self.waker.wake() {
            log::error!("the thread of the store cannot wake the loop: {error}");
        }
    }
}

fn claim(
    store: &mut impl BlockingStore,
    claims: Vec<Claim>,
    times: Times,
) -> Result<Vec<Told>, StoreError> {
    let mut answers = Vec::with_capacity(claims.len());
    let call = &mut |part: &[Claim]| store.claim(part, times);
    in_halves(&claims, call, &mut answers)?;
    let told = claims.into_iter().zip(answers).map(|(claim, answer)| {
        let key = claim.key;
        Told::Answered(vec![match answer {
            Ok(grant) => StoreEvent::Claimed { key, grant },
            Err(reason) => StoreEvent::Refused {
                request: Refused::Claim(key),
                reason,
            },
        }])
    });
    Ok(told.collect())
}

fn commit(
    store: &mut impl BlockingStore,
    batch: Vec<Commit>,
    times: Times,
) -> Result<Vec<Told>, StoreError> {
    let mut answers = Vec::with_capacity(batch.len());
    let mut events = Vec::new();
    let call = &mut |part: &[Commit]| {
        let mut committed = store.commit(part, times)?;
        events.extend(news(std::mem::take(&mut committed.mail)));
        by_commit(part, committed)
    };
    in_halves(&batch, call, &mut answers)?;
    let (mut kept, mut fenced, mut pushed) = (Vec::new(), Vec::new(), Vec::new());
    for (commit, answer) in batch.into_iter().zip(answers) {
        match answer {
            Ok(outcomes) => {
                match outcomes {
                    Some(outcomes) => pushed.extend(outcomes),
                    None => fenced.push(kept.len()),
                }
                kept.push(commit);
            }
            Err(reason) => events.push(StoreEvent::Refused {
                request: Refused::Commit(commit),
                reason,
            }),
        }
    }
    let batch = kept;
    events.push(StoreEvent::Committed {
        batch,
        fenced,
        pushed,
    });
    Ok(vec![Told::Answered(events)])
}

fn news(mail: Vec<(SessionId, u64)>) -> Vec<StoreEvent> {
    let event = |(session, sent)| StoreEvent::Mail { session, sent };
    mail.into_iter().map(event).collect()
}

/// What has become of the pushes of each commit; `None`: it is fenced.
fn by_commit(
    batch: &[Commit],
    committed: Committed,
) -> Result<Vec<Option<Vec<Pushed>>>, StoreError> {
    let mut pushed = committed.pushed.into_iter();
    let mut fenced = committed.fenced.into_iter().peekable();
    let outcomes = batch.iter().enumerate().map(|(position, commit)| {
        let is_fenced = fenced.next_if_eq(&position).is_some();
        (!is_fenced).then(|| pushed.by_ref().take(commit.pushes().len()).collect())
    });
    let outcomes: Vec<Option<Vec<Pushed>>> = outcomes.collect();
    let is_short = |(commit, outcomes): (&Commit, &Option<Vec<Pushed>>)| {
        outcomes
            .as_ref()
            .is_some_and(|outcomes| outcomes.len() < commit.pushes().len())
    };
    if let Some(position) = fenced.next() {
        let wrong = format!("it has fenced commit {position} of {}", batch.len());
        return Err(StoreError::Away(wrong));
    }
    if pushed.next().is_some() || batch.iter().zip(&outcomes).any(is_short) {
        let wrong = "it has not told of every push what has become of it";
        return Err(StoreError::Away(wrong.to_owned()));
    }
    Ok(outcomes)
}

fn read(
    store: &mut impl BlockingStore,
    read: &ReadMailbox,
    times: Times,
) -> Result<Vec<Told>, StoreError> {
    let key = read.key;
    let event = match guarded(|| store.read(read, times)) {
        Ok(mailbox) => StoreEvent::Mailbox { key, mailbox },
        Err(StoreError::Refused(reason)) => StoreEvent::Refused {
            request: Refused::Read(key),
            reason,
        },
        Err(away @ StoreError::Away(_)) => return Err(away),
    };
    Ok(vec![Told::Answered(vec![event])])
}

/// Makes a call for all of these, and if something in it is refused, one for each half of them:
/// `answers` gets one for each, with the reason for what is refused by itself.
fn in_halves<T, A>(
    asked: &[T],
    call: &mut impl FnMut(&[T]) -> Result<Vec<A>, StoreError>,
    answers: &mut Vec<Result<A, String>>,
) -> Result<(), StoreError> {
    if asked.is_empty() {
        return Ok(());
    }
    match guarded(|| call(asked)) {
        Ok(all) if all.len() == asked.len() => answers.extend(all.into_iter().map(Ok)),
        Ok(all) => {
            let (answers, asked) = (all.len(), asked.len());
            let reason = format!("it has given {answers} answers to {asked} requests");
            return Err(StoreError::Away(reason));
        }
        Err(StoreError::Refused(reason)) if asked.len() == 1 => answers.push(Err(reason)),
        Err(StoreError::Refused(_)) => {
            let (first, second) = asked.split_at(asked.len() / 2);
            in_halves(first, call, answers)?;
            in_halves(second, call, answers)?;
        }
        Err(away @ StoreError::Away(_)) => return Err(away),
    }
    Ok(())
}

/// A call into the store: a panic in it is an error like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let caught = catch_unwind(AssertUnwindSafe(call));
    caught.unwrap_or_else(|panic| Err(StoreError::Away(describe(&*panic))))
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the store has panicked: {}", text.unwrap_or("(no text)"))
}

//! The sessions that are open on this node: what they hold, their epochs and claims, and what is
//! unsaved.
//!
//! It owns every session until it is both closed and saved, the lists of what the store has not
//! confirmed, and the replies that wait for that. It never calls a store: it returns commands
//! ([`Sessions::poll_store`]) and is given the answers.

mod asking;
mod client;
mod losing;
mod mail;
mod open_steps;
mod refusals;
mod refusing;
mod renewing;
mod replies;
mod spill;
mod unconfirmed;

use std::collections::{HashMap, VecDeque};

use slab::Slab;

pub(super) use self::client::{ClientSession, View};
use self::losing::Released;
pub(super) use self::mail::MailboxRead;
use self::mail::Mailing;
use self::unconfirmed::Unconfirmed;

use super::io::{
    Claim, Commit, ConnId, Grant, SessionId, SessionKey, Snapshot, State, StoreCommand,
};
use super::ledger::{Ledger, Mark};
use super::message::ServerMessage;
use super::spilling::Spilling;
use crate::config::Limits;
use crate::memory::{Account, Kind};
use crate::slots::SlotSet;

/// Every session that is open, or closed and not yet saved.
#[derive(Debug)]
pub(super) struct Sessions {
    slab: Slab<Session>,
    next_generation: u32,
    /// The latest opener of each id: never iterated.
    by_id: HashMap<SessionId, SessionKey>,
    /// Sessions that wait for their epoch.
    claiming: SlotSet,
    unconfirmed: Unconfirmed,
    /// Which of the unsaved go into the spill.
    spilling: Spilling,
    /// Sessions to hand to the store at the next flush, each once.
    dirty: Vec<SessionKey>,
    /// Those of them whose commit does something to mailboxes.
    posting: Vec<SessionKey>,
    /// Sessions whose mailbox is to be read.
    reads: Vec<SessionKey>,
    /// Claims and reads that the store has not answered: each answer may hold a whole mailbox.
    unanswered: usize,
    /// Claims to hand to the store at the next flush, oldest first.
    unclaimed: VecDeque<SessionKey>,
    batch_max: usize,
    /// How many replies of a session may wait, and how many bytes of them: released together, they
    /// must not make the peer a slow reader.
    held_replies_max: usize,
    held_bytes_max: usize,
    released: Released,
    /// Bytes of the replies that wait, and of states.
    memory: Account,
}

/// A batch ends with the session whose state makes it longer than this: a store in this process
/// writes all of a batch in one turn.
const BATCH_STATE_BYTES: usize = 1024 * 1024;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    generation: u32,
    token: u64,
    owner: Option<ConnId>,
    ledger: Ledger,
    incarnation: u64,
    state: State,
    /// Its pushes, if there are any.
    mailing: Option<Box<Mailing>>,
    /// The session of the same id that this one takes over on this node.
    displaces: Option<SessionKey>,
    /// Replies that wait, each with its step.
    held: VecDeque<(u64, ServerMessage)>,
    held_bytes: usize,
    dirty: bool,
    /// Its claim is with the store.
    claim_asked: bool,
    /// It is the process's own: no connection has it, and it is not forgotten.
    is_kept: bool,
    /// The step that is open: it keeps the session, whoever has gone.
    open_step: Option<u64>,
}

/// The connection on this node whose session is taken over by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Displaced {
    /// It counts no more. It ends when the claim is granted, so that replies which wait for the
    /// store still reach it.
    Pending(ConnId),
    /// It had counted nothing, and its session has ended.
    Ended(ConnId),
}

/// The connection and the session that a claim's answer concerns, granted or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    /// The connection that waits for it, unless it has gone meanwhile.
    pub(super) owner: Option<ConnId>,
    /// The session that was taken over on this node and ends now.
    pub(super) displaced: Option<SessionKey>,
}

impl Sessions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            slab: Slab::new(),
            next_generation: 0,
            by_id: HashMap::new(),
            claiming: SlotSet::default(),
            unconfirmed: Unconfirmed::default(),
            spilling: Spilling::default(),
            dirty: Vec::new(),
            posting: Vec::new(),
            reads: Vec::new(),
            unanswered: 0,
            unclaimed: VecDeque::new(),
            batch_max: limits.batch_max,
            held_replies_max: limits.held_replies_max,
            held_bytes_max: (limits.outbound_bytes_max / 2).max(1),
            released: Released::default(),
            memory: Account::default(),
        }
    }

    /// Opens a session for a connection. Returns its key, and the connection on this node that it
    /// is taken over from.
    pub(super) fn open(
        &mut self,
        id: SessionId,
        owner: ConnId,
        token: u64,
    ) -> (SessionKey, Option<Displaced>) {
        let earlier = self.find(&id);
        let key = self.insert(id, Some(owner), token);
        self.claiming.insert(key.slot);
        self.unclaimed.push_back(key);
        (key, earlier.and_then(|earlier| self.displace(earlier, key)))
    }

    fn insert(&mut self, id: SessionId, owner: Option<ConnId>, token: u64) -> SessionKey {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        let key = SessionKey {
            slot: entry.key() as u32,
            generation,
        };
        self.by_id.insert(id.clone(), key);
        entry.insert(Session {
            id,
            generation,
            token,
            owner,
            ledger: Ledger::claiming(),
            incarnation: 0,
            state: State::default(),
            mailing: None,
            displaces: None,
            held: VecDeque::new(),
            held_bytes: 0,
            dirty: false,
            claim_asked: false,
            is_kept: false,
            open_step: None,
        });
        key
    }

    pub(super) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slab
            .get(key.slot as usize)
            .filter(|session| session.generation == key.generation)
    }

    /// The session that counts under this id on this node.
    pub(super) fn find(&self, id: &SessionId) -> Option<SessionKey> {
        self.by_id.get(id).copied()
    }

    /// Whether the store has all of a session. It has all of one that is not in the table any more.
    fn is_saved(&self, key: SessionKey) -> bool {
        self.get(key).is_none() || !self.unconfirmed.unsaved().contains(key.slot)
    }

    /// The session is taken over: it ends, and what the store refused is dropped. Returns the
    /// connection that had it.
    pub(super) fn end(&mut self, key: SessionKey) -> Option<ConnId> {
        let owner = self.get(key)?.owner;
        self.forget(key);
        owner
    }

    pub(super) fn handle_claimed(&mut self, key: SessionKey, grant: Grant) -> Option<Claimed> {
        let session = get_mut(&mut self.slab, key)?;
        self.claiming.remove(key.slot);
        let held = grant.snapshot;
        let is_blank = held.is_blank();
        session.ledger.open(grant.epoch, Mark::of(&held), is_blank);
        session.incarnation = held.incarnation;
        replace_state(&mut self.memory, &mut session.state, held.state);
        let granted = session.claimed();
        self.take_mailbox(key, grant.mailbox);
        self.forget_if_over(key);
        Some(granted)
    }

    pub(super) fn handle_saved(&mut self, commit: &Commit) {
        if let Some(mail) = &commit.mail {
            self.handle_posted(commit, mail);
        }
        if let Some(session) = get_mut(&mut self.slab, commit.key) {
            session.ledger.handle_saved(Mark::of(&commit.snapshot));
            let (is_saved, is_owned) = (session.ledger.is_saved(), session.owner.is_some());
            let has_mail = session.has_mail();
            self.unconfirmed.handle_saved(commit.key.slot, is_saved);
            if is_saved {
                self.spilling.handle_saved(commit.key.slot);
                if !is_owned {
                    self.forget_if_over(commit.key);
                }
            }
            if !is_saved || has_mail {
                self.mark_dirty(commit.key);
            }
        }
    }

    /// The store has forgotten what it had not answered. All of that is handed over again.
    pub(super) fn handle_store_down(&mut self) {
        let claiming: Vec<_> = self
            .claiming
            .iter()
            .filter_map(|slot| self.key_at(slot))
            .collect();
        for &key in &claiming {
            if let Some(session) = get_mut(&mut self.slab, key) {
                session.claim_asked = false;
            }
            self.forget_if_unwanted(key);
        }
        self.unclaimed = claiming.into();
        self.handle_reads_lost();
        self.unanswered = 0;
        for (_, session) in &mut self.slab {
            session.ledger.handle_store_down();
        }
        let unsaved = self.unconfirmed.unsaved().iter();
        let unsaved: Vec<_> = unsaved.filter_map(|slot| self.key_at(slot)).collect();
        for key in unsaved {
            self.mark_dirty(key);
        }
    }

    /// The next command for the store. Commits come first: a claim must find what the session that
    /// it takes over has done.
    pub(super) fn poll_store(&mut self) -> Option<StoreCommand> {
        let mut batch = Vec::with_capacity(self.dirty.len().min(self.batch_max));
        let mut state_bytes = 0;
        while batch.len() < self.batch_max
            && state_bytes < BATCH_STATE_BYTES
            && let Some(key) = self.dirty.pop()
        {
            let Some(session) = get_mut(&mut self.slab, key) else {
                continue;
            };
            if session.has_mail() {
                self.posting.push(key);
                continue;
            }
            session.dirty = false;
            // What is in flight marks it dirty again when it lands.
            if let Some(next) = session.ledger.next_save() {
                state_bytes += session.state.len();
                batch.push(session.commit(key.slot, next));
            }
        }
        if !batch.is_empty() {
            return Some(StoreCommand::Commit(batch));
        }
        if let Some(commits) = self.poll_posting() {
            return Some(commits);
        }
        self.poll_question()
    }

    /// Whether something waits for the next flush that does not wait for a timer: a claim, or a
    /// mailbox to read.
    pub(super) fn has_asked(&self) -> bool {
        !self.unclaimed.is_empty() || !self.reads.is_empty()
    }

    /// How many sessions neither the store nor the spill has confirmed, claims included.
    pub(super) fn unsafe_len(&self) -> usize {
        let unsaved = self.unconfirmed.unsaved().len();
        unsaved - self.spilling.held_len() + self.claiming.len()
    }

    /// How many sessions there are, closed and unsaved ones included.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many of them the store has granted.
    pub(super) fn granted_len(&self) -> usize {
        self.slab.len() - self.claiming.len()
    }

    /// The oldest claim that may be handed over: one that takes a session over on this node waits
    /// until that is saved.
    fn poll_claim(&mut self) -> Option<Claim> {
        for _ in 0..self.unclaimed.len() {
            let key = self.unclaimed.pop_front()?;
            self.forget_if_unwanted(key);
            let Some(session) = self.get(key) else {
                continue;
            };
            let waits = session
                .displaces
                .is_some_and(|earlier| !self.is_saved(earlier));
            if !waits && let Some(session) = get_mut(&mut self.slab, key) {
                session.claim_asked = true;
                let (session, token) = (session.id.clone(), session.token);
                return Some(Claim {
                    key,
                    session,
                    token,
                });
            }
            self.unclaimed.push_back(key);
        }
        None
    }

    fn displace(&mut self, earlier: SessionKey, by: SessionKey) -> Option<Displaced> {
        let session = get_mut(&mut self.slab, earlier)?;
        let owner = session.owner;
        if session.ledger.displace() {
            get_mut(&mut self.slab, by)?.displaces = Some(earlier);
            owner.map(Displaced::Pending)
        } else {
            let inherited = session.displaces.take();
            self.forget(earlier);
            get_mut(&mut self.slab, by)?.displaces = inherited;
            owner.map(Displaced::Ended)
        }
    }

    /// Ends the session that waits to take this one over on this node, unless its claim has been
    /// asked. Returns its connection.
    fn undo_displace(&mut self, key: SessionKey) -> Option<ConnId> {
        let id = self.get(key)?.id.clone();
        let by = self.find(&id)?;
        let successor = self.get(by)?;
        if successor.displaces != Some(key) || successor.claim_asked {
            return None;
        }
        let owner = self.end(by);
        self.by_id.insert(id, key);
        owner
    }

    fn key_at(&self, slot: u32) -> Option<SessionKey> {
        let generation = self.slab.get(slot as usize)?.generation;
        Some(SessionKey { slot, generation })
    }

    fn mark_dirty(&mut self, key: SessionKey) {
        if let Some(session) = get_mut(&mut self.slab, key)
            && !session.dirty
        {
            session.dirty = true;
            self.dirty.push(key);
        }
    }

    fn forget_if_over(&mut self, key: SessionKey) {
        let over = self
            .get(key)
            .is_some_and(|session| session.owner.is_none() && session.displaces.is_none())
            && !self.get(key).is_some_and(Session::has_refusals)
            && self.open_step(key).is_none()
            && !self.get(key).is_some_and(|session| session.is_kept);
        if over && self.is_saved(key) && !self.claiming.contains(key.slot) {
            self.remember_released(key);
            self.forget(key);
        }
    }

    /// A claim that the store does not know of, and that no client waits for, is dropped: it would
    /// take the session from its next owner, which may be the same client on another node.
    fn forget_if_unwanted(&mut self, key: SessionKey) {
        let Some(session) = self.get(key) else { return };
        // The client that was displaced for it is closed when it is granted.
        let displaces = session.displaces.and_then(|earlier| self.get(earlier));
        let unwanted = session.owner.is_none() && displaces.is_none() && !session.claim_asked;
        if unwanted && self.claiming.contains(key.slot) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: SessionKey) {
        if self.get(key).is_some() {
            self.claiming.remove(key.slot);
            self.unconfirmed.forget(key.slot);
            self.spilling.forget(key.slot);
            let mut session = self.slab.remove(key.slot as usize);
            session.drop_held(&mut self.memory);
            session.drop_mail(&mut self.memory);
            replace_state(&mut self.memory, &mut session.state, State::default());
            if self.by_id.get(&session.id) == Some(&key) {
                self.by_id.remove(&session.id);
            }
            debug_assert!(
                !self.slab.is_empty() || self.memory.of(Kind::Replies) == 0,
                "{:?}",
                self.memory
            );
        }
    }
}

impl Session {
    pub(super) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(super) fn processed(&self) -> u64 {
        self.ledger.processed()
    }

    pub(super) fn saved(&self) -> u64 {
        self.ledger.saved()
    }

    /// The epoch that it counts under; `None` while it may not count.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.ledger.epoch()
    }

    /// At this slot, with this epoch and step; what it does to mailboxes is not in it.
    #[inline]
    fn commit(&self, slot: u32, (epoch, mark): (u64, Mark)) -> Commit {
        let generation = self.generation;
        Commit {
            key: SessionKey { slot, generation },
            session: self.id.clone(),
            epoch,
            snapshot: Snapshot {
                incarnation: self.incarnation,
                step: mark.step,
                count: mark.count,
                state: self.state.clone(),
            },
            mail: None,
        }
    }

    pub(super) fn owner(&self) -> Option<ConnId> {
        self.owner
    }

    /// Its claim is answered.
    fn claimed(&mut self) -> Claimed {
        Claimed {
            owner: self.owner,
            displaced: self.displaces.take(),
        }
    }
}

/// A state takes the place of another.
fn replace_state(memory: &mut Account, held: &mut State, state: State) {
    memory.subtract(Kind::States, held.len());
    memory.add(Kind::States, state.len());
    *held = state;
}

fn get_mut(slab: &mut Slab<Session>, key: SessionKey) -> Option<&mut Session> {
    slab.get_mut(key.slot as usize)
        .filter(|session| session.generation == key.generation)
}

#[cfg(test)]
mod tests;

//! The pushes of a session: those that its steps want done, until the store has confirmed the step;
//! and those to it, until its client has confirmed them.
//!
//! It owns what the connection was handed and what the store is still to be told. A push is handed
//! to a connection once, and none before the one with the number below it.

use std::collections::VecDeque;

use super::asking::Asking;
use super::refusals::Refusals;
use super::{
    BATCH_STATE_BYTES, Commit, Ledger, Mark, Session, SessionId, SessionKey, Sessions, get_mut,
};
use crate::engine::ids::ConnId;
use crate::engine::io::StoreCommand;
use crate::engine::mailbox::{Body, Mail, Mailbox, Push};
use crate::engine::step::{Letter, State, Step};
use crate::memory::{Account, Kind};

/// Beside the session, since most have none.
#[derive(Debug, Default)]
pub(super) struct Mailing {
    /// What its steps push: those that the store has not confirmed.
    pushes: VecDeque<Push>,
    /// Bytes of these.
    push_bytes: usize,
    /// The pushes to it, as far as they are known here.
    mailbox: Mailbox,
    /// The number of the last one that its connection was handed.
    delivered: u64,
    /// Up to which number the store knows what the client has received.
    told: u64,
    /// The number of the latest push that was heard of since the store was last asked.
    pub(super) heard: u64,
    pub(super) asking: Asking,
    /// What the store has refused of its pushes, and the application is not told of.
    pub(super) refusals: Refusals,
    /// The connection that had the session last, once none has.
    pub(super) last_owner: Option<ConnId>,
}

/// What has come of reading a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum MailboxRead {
    /// There may be more to deliver.
    Known,
    /// The store has lost it: its numbers have begun anew.
    Lost,
    /// Somebody else has confirmed pushes: the session has a newer owner.
    TakenOver,
}

impl Mailing {
    /// What the store holds, when the session is claimed.
    fn granted(mailbox: Mailbox) -> Self {
        let confirmed = mailbox.confirmed();
        Self {
            mailbox,
            delivered: confirmed,
            told: confirmed,
            ..Self::default()
        }
    }

    /// Whether the store does not know all of it.
    #[cold]
    fn has_news(&self) -> bool {
        !self.pushes.is_empty() || self.mailbox.confirmed() > self.told
    }

    /// What goes with the next commit.
    #[cold]
    fn to_commit(&self) -> Option<Box<Mail>> {
        let confirmed = self.mailbox.confirmed();
        if !self.has_news() {
            return None;
        }
        Some(Box::new(Mail {
            confirmed,
            pushes: self.pushes.iter().cloned().collect(),
        }))
    }

    /// Bytes of pushes to it that its connection was handed, and that its client has not confirmed.
    fn under_way(&self) -> usize {
        let delivered = self.delivered;
        let under_way = self.mailbox.iter();
        let under_way = under_way.take_while(|(number, _)| *number <= delivered);
        under_way.map(|(_, body)| body.len()).sum()
    }

    fn weight(&self) -> usize {
        let refused = self.refusals.iter().map(|(push, _)| push.body.len());
        self.push_bytes + self.mailbox.bytes() + refused.sum::<usize>()
    }
}

impl Sessions {
    /// The mailbox of a session that is claimed.
    pub(super) fn take_mailbox(&mut self, key: SessionKey, mailbox: Mailbox) {
        let Some(session) = get_mut(&mut self.slab, key) else {
            return;
        };
        let before = session.mailing.take().unwrap_or_default();
        let heard = before.heard;
        if mailbox.sent() == 0 && heard == 0 && before.refusals.is_empty() {
            return;
        }
        self.memory.add(Kind::Pushes, mailbox.bytes());
        let mailing = Mailing {
            refusals: before.refusals,
            last_owner: before.last_owner,
            ..Mailing::granted(mailbox)
        };
        session.mailing = Some(Box::new(mailing));
        self.hear(key, heard);
    }

    /// Takes a step that pushes, if the session may take any.
    pub(in crate::engine) fn post(&mut self, key: SessionKey, step: Step, letters: Vec<Letter>) {
        if self
            .get(key)
            .is_none_or(|session| session.epoch().is_none())
        {
            return;
        }
        self.step(key, step);
        let Some(session) = get_mut(&mut self.slab, key) else {
            return;
        };
        let step = session.ledger.latest().step;
        let own = &session.id;
        let mailing = session.mailing.get_or_insert_default();
        for Letter { to, body } in letters {
            mailing.push_bytes += body.len();
            self.memory.add(Kind::Pushes, body.len());
            let to = to.unwrap_or_else(|| own.clone());
            mailing.pushes.push_back(Push { step, to, body });
        }
    }

    /// Whether so much of what its steps push waits for the store that its client is not read from.
    pub(super) fn is_posting(&self, session: &Session, is_paused: bool) -> bool {
        session
            .mailing
            .as_ref()
            .is_some_and(|mailing| self.is_full_of(mailing, is_paused))
    }

    #[cold]
    fn is_full_of(&self, mailing: &Mailing, is_paused: bool) -> bool {
        let (mut max, mut bytes_max) = (self.held_replies_max, self.held_bytes_max);
        if is_paused {
            (max, bytes_max) = (max / 2, bytes_max / 2);
        }
        mailing.pushes.len() > max || mailing.push_bytes > bytes_max
    }

    /// How many pushes of a session wait for the store, and how many bytes they have.
    pub(in crate::engine) fn posted(&self, key: SessionKey) -> (usize, usize) {
        let mailing = self.get(key).and_then(|session| session.mailing.as_ref());
        mailing.map_or((0, 0), |mailing| (mailing.pushes.len(), mailing.push_bytes))
    }

    /// The store has confirmed a commit, which does this to mailboxes.
    #[cold]
    pub(super) fn handle_posted(&mut self, commit: &Commit, mail: &Mail) {
        if let Some(session) = get_mut(&mut self.slab, commit.key)
            && let Some(mailing) = &mut session.mailing
        {
            mailing.told = mailing.told.max(mail.confirmed);
            while let Some(push) = mailing.pushes.front()
                && push.step <= commit.snapshot.step
            {
                mailing.push_bytes -= push.body.len();
                self.memory.subtract(Kind::Pushes, push.body.len());
                mailing.pushes.pop_front();
            }
        }
    }

    /// The store has accepted a push to this session, and given it this number. Returns the session,
    /// if it is open here.
    pub(in crate::engine) fn arrive(
        &mut self,
        to: &SessionId,
        number: u64,
        body: &Body,
    ) -> Option<SessionKey> {
        let key = self.find(to)?;
        let session = get_mut(&mut self.slab, key)?;
        session.ledger.granted_epoch()?;
        let mailing = session.mailing.get_or_insert_default();
        if number == mailing.mailbox.sent() + 1 && mailing.mailbox.push(body.clone()).is_ok() {
            self.memory.add(Kind::Pushes, body.len());
        } else {
            // Below what is known: the store has lost it, and says so when it is asked.
            self.ask_for_mailbox(key);
        }
        Some(key)
    }

    /// Somebody has pushed to this session, which may be open here.
    pub(in crate::engine) fn hear_of(&mut self, session: &SessionId, sent: u64) {
        if let Some(key) = self.find(session) {
            self.hear(key, sent);
        }
    }

    fn hear(&mut self, key: SessionKey, sent: u64) {
        let Some(session) = get_mut(&mut self.slab, key) else {
            return;
        };
        let mailing = session.mailing.get_or_insert_default();
        mailing.heard = mailing.heard.max(sent);
        if mailing.heard > mailing.mailbox.sent() && session.ledger.granted_epoch().is_some() {
            self.ask_for_mailbox(key);
        }
    }

    /// What has become of a push to this session is not known.
    pub(in crate::engine) fn look_into(&mut self, session: &SessionId) {
        if let Some(key) = self.find(session)
            && let Some(session) = self.get(key)
            && session.ledger.granted_epoch().is_some()
        {
            self.ask_for_mailbox(key);
        }
    }

    /// The next commits that do something to mailboxes: a batch ends with the session whose pushes
    /// and state make it longer than others.
    pub(super) fn poll_posting(&mut self) -> Option<StoreCommand> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < self.batch_max
            && bytes < BATCH_STATE_BYTES
            && let Some(key) = self.posting.pop()
        {
            let Some(session) = get_mut(&mut self.slab, key) else {
                continue;
            };
            session.dirty = false;
            if let Some(next) = session.ledger.next_save() {
                bytes += session.state.len() + session.posted_bytes();
                let mut commit = session.commit_with_mail(key.slot, next);
                // A batch has only commits with mail.
                commit.mail.get_or_insert_default();
                batch.push(commit);
            }
        }
        (!batch.is_empty()).then_some(StoreCommand::Commit(batch))
    }

    /// The store says what a mailbox holds.
    pub(in crate::engine) fn handle_mailbox(
        &mut self,
        key: SessionKey,
        mut mailbox: Mailbox,
    ) -> Option<MailboxRead> {
        let session = get_mut(&mut self.slab, key)?;
        let mailing = session.mailing.as_mut()?;
        mailing.asking = Asking::No;
        if mailbox.sent() < mailing.mailbox.sent() {
            // With its record, as far as is known.
            session.ledger.handle_lost();
            if !session.ledger.is_saved() {
                self.unconfirmed.handle_unsaved(key.slot);
            }
            self.mark_dirty(key);
            return Some(MailboxRead::Lost);
        }
        if mailbox.confirmed() > mailing.mailbox.confirmed() {
            return Some(MailboxRead::TakenOver);
        }
        mailbox.confirm(mailing.mailbox.confirmed());
        self.memory.subtract(Kind::Pushes, mailing.mailbox.bytes());
        self.memory.add(Kind::Pushes, mailbox.bytes());
        mailing.mailbox = mailbox;
        // What was heard of since it was asked may have come after the read.
        if mailing.heard > mailing.mailbox.sent() {
            self.ask_for_mailbox(key);
        }
        Some(MailboxRead::Known)
    }

    /// The next push for the connection of a session, if no more than half of what may wait for a
    /// connection is under way.
    pub(in crate::engine) fn next_delivery(&mut self, key: SessionKey) -> Option<(u64, Body)> {
        let session = get_mut(&mut self.slab, key)?;
        let mailing = session.mailing.as_mut()?;
        let delivered = mailing.delivered;
        if delivered >= mailing.mailbox.sent() {
            return None;
        }
        let (number, body) = mailing.mailbox.get(delivered + 1)?;
        let under_way = mailing.under_way();
        if under_way > 0 && under_way + body.len() > self.held_bytes_max {
            return None;
        }
        let body = body.clone();
        mailing.delivered = number;
        Some((number, body))
    }

    /// The client has received all pushes up to this number, of those that it was handed (`None`:
    /// all of those). Returns whether it is news, which goes with the next commit. A number that no
    /// push has says nothing: it may be of an earlier life of the session.
    ///
    /// What the kernel has taken must be stored: it would be sent again. That is a step. What a client
    /// says by itself, it says again on its next connection: nobody waits for that.
    pub(in crate::engine) fn confirm(&mut self, key: SessionKey, number: Option<u64>) -> bool {
        let Some(session) = get_mut(&mut self.slab, key) else {
            return false;
        };
        let Some(mailing) = &mut session.mailing else {
            return false;
        };
        let is_step = number.is_none();
        if number.is_some_and(|number| number > mailing.mailbox.sent()) {
            return false;
        }
        let number = number.map_or(mailing.delivered, |number| number.min(mailing.delivered));
        let before = mailing.mailbox.bytes();
        let is_news = number > mailing.mailbox.confirmed();
        mailing.mailbox.confirm(number);
        self.memory
            .subtract(Kind::Pushes, before - mailing.mailbox.bytes());
        if is_news && is_step {
            self.step(key, Step::default());
        } else if is_news {
            self.mark_dirty(key);
        }
        is_news
    }

    /// The client has received all pushes up to this number on another connection.
    pub(in crate::engine) fn skip(&mut self, key: SessionKey, received: u64) {
        if let Some(session) = get_mut(&mut self.slab, key)
            && let Some(mailing) = &mut session.mailing
            && received <= mailing.mailbox.sent()
        {
            mailing.delivered = mailing.delivered.max(received);
            self.confirm(key, Some(received));
        }
    }

    /// Whether the store has a step of a session.
    pub(in crate::engine) fn has_saved(&self, key: SessionKey, step: u64) -> bool {
        self.get(key)
            .is_some_and(|session| session.ledger.may_tell(step))
    }

    /// The number of a session's latest step.
    pub(in crate::engine) fn latest_step(&self, key: SessionKey) -> u64 {
        self.get(key)
            .map_or(0, |session| session.ledger.latest().step)
    }

    /// The number of the latest push to a session.
    pub(in crate::engine) fn sent(&self, key: SessionKey) -> u64 {
        let mailing = self.get(key).and_then(|session| session.mailing.as_ref());
        mailing.map_or(0, |mailing| mailing.mailbox.sent())
    }

    /// Begins a session whose name nobody else can know, so that nobody else can have claimed it: the
    /// store makes its record at its first commit.
    pub(in crate::engine) fn begin(
        &mut self,
        id: SessionId,
        owner: Option<ConnId>,
        count: u64,
        state: State,
    ) -> SessionKey {
        let key = self.insert(id, owner, 0);
        if let Some(session) = get_mut(&mut self.slab, key) {
            session.is_kept = owner.is_none();
            session.incarnation = FIRST_EPOCH;
            session.ledger = Ledger::begun(FIRST_EPOCH, count);
            self.memory.add(Kind::States, state.len());
            session.state = state;
        }
        key
    }
}

/// The epoch of a session that was never claimed.
const FIRST_EPOCH: u64 = 1;

impl Session {
    /// A commit with all that it does.
    #[cold]
    pub(super) fn commit_with_mail(&self, slot: u32, next: (u64, Mark)) -> Commit {
        let mailing = self.mailing.as_ref();
        Commit {
            mail: mailing.and_then(|mailing| mailing.to_commit()),
            ..self.commit(slot, next)
        }
    }

    /// Whether its next commit does something to mailboxes.
    pub(super) fn has_mail(&self) -> bool {
        self.mailing
            .as_ref()
            .is_some_and(|mailing| mailing.has_news())
    }

    /// Bytes of what its steps push.
    pub(super) fn posted_bytes(&self) -> usize {
        self.mailing
            .as_ref()
            .map_or(0, |mailing| mailing.push_bytes)
    }

    /// Pushes to it that its client has not confirmed.
    pub(super) fn unconfirmed_pushes(&self) -> usize {
        self.mailing
            .as_ref()
            .map_or(0, |mailing| mailing.mailbox.len())
    }

    /// It is gone.
    pub(super) fn drop_mail(&mut self, memory: &mut Account) {
        if let Some(mailing) = self.mailing.take() {
            memory.subtract(Kind::Pushes, mailing.weight());
        }
    }

    /// Bytes of its pushes, one by one.
    #[cfg(test)]
    pub(super) fn mail_bytes(&self) -> usize {
        self.mailing.as_ref().map_or(0, |mailing| {
            let own = mailing.pushes.iter().map(|push| push.body.len());
            let kept = mailing.mailbox.iter().map(|(_, body)| body.len());
            let refused = mailing.refusals.iter().map(|(push, _)| push.body.len());
            own.chain(kept).chain(refused).sum()
        })
    }
}

//! What a node does in one turn: one thing happens, and what is due goes to the store at its end.
//!
//! It follows `src/engine` (session, saving, answers, closing) and `src/store/spill`; what a count may do
//! is not followed but shared: [`Ledger`](sundown::engine::ledger::Ledger).

use sundown::engine::ledger::Mark;
use sundown::engine::mailbox::Mailbox;

use crate::client::Said;
use crate::events::Event;
use crate::flaws::Flaw;
use crate::mail::{Asking, Own};
use crate::node::{Link, NodeId, Phase, Session, Talk};
use crate::protocol::Broken;
use crate::step::Step;
use crate::store::{Answer, Commit, Outcomes, Request};

impl Step<'_> {
    /// A client connects: the session is claimed, and whoever has it here counts no more.
    pub(crate) fn accept(&mut self, at: NodeId) {
        let (key, received) = (self.unused_key(), self.state.client.received);
        let node = &mut self.state.nodes[at];
        if let Some(mut displaced) = node.current.replace(Session::opened(key, received))
            && displaced.ledger.displace()
        {
            node.earlier = Some(displaced);
            self.model.seen.note(Event::TakenOverHere);
        }
        node.forget_what_is_over();
        self.flush(at);
    }

    /// Reads so many messages of the current session's connection.
    pub(crate) fn read(&mut self, at: NodeId, messages: u64) {
        for _ in 0..messages {
            let Some(session) = &mut self.state.nodes[at].current else {
                return;
            };
            session.wire.read += 1;
            let number = session.wire.read;
            let Some(count) = session.ledger.step(true) else {
                continue;
            };
            session.due = true;
            session.state = number as u8;
            session
                .posts
                .put(count as usize - 1, session.ledger.latest().step);
            if count != number {
                self.state.broken.insert(Broken::NotExact);
            }
            if self.has(Flaw::DeliverBeforeCommit) {
                self.deliver_at_once(at, number as u8);
            }
            self.late_or_answered(at);
        }
        self.flush(at);
    }

    fn late_or_answered(&mut self, at: NodeId) {
        let Some(session) = &mut self.state.nodes[at].current else {
            return;
        };
        if session.talk == Talk::GoodbyeSent {
            self.note(Event::LateCounted);
            let node = &self.state.nodes[at];
            if node.gave_up {
                if !node.spill_is_full {
                    self.note(Event::LateSpilled);
                }
                self.spill(at);
            }
        } else if self.has(Flaw::AcknowledgeBeforeSave)
            && let Some(session) = &mut self.state.nodes[at].current
        {
            session.told = session.ledger.processed();
            let (key, count) = (session.key, session.told);
            self.say(at, key, Said::Count(count));
        }
    }

    /// The connection is over, however much of what was sent has been read.
    pub(crate) fn see_gone(&mut self, at: NodeId, key: u64) {
        let node = &mut self.state.nodes[at];
        if let Some(session) = node.session_mut(key) {
            session.talk = Talk::Gone;
        }
        node.forget_what_is_over();
        self.flush(at);
    }

    /// The client's Close has been read, and all before it.
    pub(crate) fn read_close(&mut self, at: NodeId) {
        if let Some(session) = &mut self.state.nodes[at].current {
            session.talk = Talk::Closed;
        }
        self.finish_if_saved(at);
        self.flush(at);
    }

    /// Lets a client go that has closed, once nothing of its session can get lost by that.
    pub(crate) fn finish_if_saved(&mut self, at: NodeId) {
        let is_flawed = self.has(Flaw::NoBarrier);
        let node = &mut self.state.nodes[at];
        let Some(session) = &mut node.current else {
            return;
        };
        let hopeless = node.gave_up && node.link != Link::Up;
        let may_go = session.is_saved() || hopeless || is_flawed;
        if session.talk != Talk::Closed || !may_go {
            return;
        }
        session.talk = Talk::Gone;
        let sent = session.wire.sent;
        if !hopeless {
            self.note(Event::BarrierKept);
            if self.state.store.count() < sent {
                self.state.broken.insert(Broken::Barrier);
            }
        }
        self.end_line(at);
        self.state.nodes[at].forget_what_is_over();
    }

    /// The store's next answer.
    pub(crate) fn hear_answer(&mut self, at: NodeId) {
        match self.state.nodes[at].answers.remove(0) {
            Answer::Claimed {
                key,
                epoch,
                held,
                state,
                mailbox,
            } => self.claimed(at, key, (epoch, held, state), mailbox),
            Answer::Committed {
                commit,
                fenced,
                outcomes,
                sent,
            } => match commit.key {
                Some(key) if fenced => {
                    self.note(Event::SaveFenced);
                    self.settle(at, commit);
                    self.lose_session(at, key);
                }
                Some(Own::KEY) => self.own_saved(at, commit, outcomes),
                Some(key) => {
                    self.hear(at, sent);
                    self.saved(at, key, commit, outcomes);
                }
                None => self.replayed(at, commit, fenced),
            },
            Answer::Mailbox { key, mailbox } => self.mailbox_read(at, key, mailbox),
            Answer::Refused(request) => self.refused(at, request),
        }
        self.flush(at);
    }

    fn claimed(
        &mut self,
        at: NodeId,
        key: u64,
        (epoch, held, state): (u64, Mark, u8),
        mailbox: Mailbox,
    ) {
        let node = &mut self.state.nodes[at];
        let Some(session) = node.session_mut(key) else {
            return;
        };
        let count = held.count;
        session.ledger.open(epoch, held, count == 0);
        session.state = state;
        (session.base, session.told) = (count, count);
        session.due = false;
        let waits = session.talk == Talk::Waiting;
        node.earlier = None;
        self.take_mailbox(at, key, mailbox);
        if waits {
            let node = &mut self.state.nodes[at];
            if let Some(session) = node.session_mut(key) {
                session.talk = Talk::Open;
            }
            if self.state.nodes[1 - at].phase == Phase::Draining {
                self.note(Event::GreetedWhileOthersDrain);
            }
            self.say(at, key, Said::Hello(count));
            self.skip_received(at, key);
            self.deliver(at, key);
        } else {
            self.note(Event::ClaimAfterGone);
        }
        self.state.nodes[at].forget_what_is_over();
    }

    fn saved(&mut self, at: NodeId, key: u64, commit: Commit, outcomes: Outcomes) {
        self.settle(at, commit);
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return;
        };
        session.ledger.handle_saved(commit.mark);
        let is_all = session.mail.mailbox.confirmed() <= commit.confirmed;
        session.due |= !session.ledger.is_saved() || !is_all;
        self.release(at, key);
        if let Some(session) = self.state.nodes[at].session_mut(key) {
            session.posts.confirm(commit.mark.step);
        }
        if self.model.faults.pushes > 0 {
            self.pushed(at, commit, outcomes);
        }
        self.finish_if_saved(at);
        self.state.nodes[at].forget_what_is_over();
    }

    /// The store refuses one request. Whoever waits for it is closed. A session that it has not
    /// saved is kept and saved again, and so is a row of the spill at the next replay.
    fn refused(&mut self, at: NodeId, request: Request) {
        match request {
            Request::Claim { key } => {
                self.note(Event::ClaimRefused);
                if self.state.nodes[at].session_mut(key).is_some() {
                    self.state.nodes[at].earlier = None;
                    self.turn_away(at, key);
                    self.state.nodes[at].remove(key);
                }
            }
            Request::Commit(Commit { key: None, .. }) => {
                self.note(Event::RowRefused);
                if !self.state.nodes[at].is_replaying() {
                    self.store_up(at);
                }
            }
            Request::Commit(Commit {
                key: Some(Own::KEY),
                ..
            }) => self.own_refused(at),
            Request::Read { key } => {
                if let Some(session) = self.state.nodes[at].session_mut(key) {
                    // The answer to the next renewal says that there is something to read.
                    session.mail_mut().asking = Asking::Soon;
                }
            }
            Request::Commit(commit) => self.save_refused(at, commit),
        }
        self.state.nodes[at].forget_what_is_over();
    }

    fn save_refused(&mut self, at: NodeId, commit: Commit) {
        let counts = self.has(Flaw::RefusedSaveCounts);
        let node = &mut self.state.nodes[at];
        let is_saving = matches!(node.phase, Phase::Persisting | Phase::Closing);
        let Some(session) = commit.key.and_then(|key| node.session_mut(key)) else {
            return;
        };
        if counts {
            session.ledger.handle_saved(commit.mark);
            let key = session.key;
            return self.release(at, key);
        }
        session.ledger.handle_refused();
        session.due = true;
        let (key, stays) = (
            session.key,
            matches!(session.talk, Talk::GoodbyeSent | Talk::Closed),
        );
        self.note(Event::SaveRefused);
        // Its claim waits for the save, and is not asked for any more.
        let node = &mut self.state.nodes[at];
        let is_earlier = node
            .earlier
            .as_ref()
            .is_some_and(|session| session.key == key);
        let waits = |session: &Session| session.is_claiming() && session.due;
        if is_earlier && node.current.as_ref().is_some_and(waits) {
            let successor = node.current.as_ref().map_or(0, |session| session.key);
            self.turn_away(at, successor);
            self.state.nodes[at].remove(successor);
        }
        if !stays {
            self.turn_away(at, key);
        }
        if is_saving && self.spill_session(at, key) {
            self.note(Event::RefusedSpilled);
        }
    }

    /// A client is closed, and its session has nobody.
    fn turn_away(&mut self, at: NodeId, key: u64) {
        self.say(at, key, Said::Close);
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return;
        };
        session.talk = Talk::Gone;
        if session.wire.is_attached {
            self.end_line(at);
        }
    }

    /// Replies leave whose counts the store has.
    fn release(&mut self, at: NodeId, key: u64) {
        while let Some(session) = self.state.nodes[at].session_mut(key)
            && matches!(session.talk, Talk::Open | Talk::Closed)
            && session.told < session.ledger.processed()
            && session.ledger.may_tell(session.posts.step_of(session.told))
        {
            session.told += 1;
            let count = session.told;
            self.say(at, key, Said::Count(count));
        }
    }

    /// A newer claim has the session: it ends here, and what the store refused is dropped.
    pub(crate) fn lose_session(&mut self, at: NodeId, key: u64) {
        let node = &mut self.state.nodes[at];
        if node.session_mut(key).is_none() {
            return;
        }
        self.say(at, key, Said::Close);
        let session = self.state.nodes[at].remove(key);
        if session.is_some_and(|session| session.wire.is_attached) {
            self.note(Event::AttachedClientFenced);
            self.end_line(at);
        }
    }

    /// Word of a newer claim.
    pub(crate) fn hear_news(&mut self, at: NodeId) {
        let node = &mut self.state.nodes[at];
        let newer = node.news.take();
        let ours = node.current.as_ref().and_then(|s| s.ledger.epoch());
        if let (Some(session), Some(ours), Some(newer)) = (&node.current, ours, newer)
            && ours < newer
        {
            let key = session.key;
            self.note(Event::TakenOverElsewhere);
            self.lose_session(at, key);
        }
        self.flush(at);
    }

    /// The end of the turn: saves first, since a claim must find what the session that it takes
    /// over has counted.
    pub(crate) fn flush(&mut self, at: NodeId) {
        let node = &mut self.state.nodes[at];
        if node.link != Link::Up {
            return;
        }
        let mut asked = Vec::new();
        for session in node.sessions_mut() {
            if session.due && !session.is_claiming() {
                session.due = false;
                asked.extend(session.poll_commit().map(Request::Commit));
            }
        }
        if let Some(own) = &mut node.own
            && own.due
        {
            own.due = false;
            asked.extend(own.poll_commit().map(Request::Commit));
        }
        let may_claim = node.earlier.as_ref().is_none_or(Session::is_saved);
        if let Some(session) = &mut node.current
            && session.is_claiming()
            && session.due
            && may_claim
        {
            session.due = false;
            asked.push(Request::Claim { key: session.key });
        }
        for session in node.sessions_mut() {
            if session.mail.asking == Asking::Soon && !session.is_claiming() {
                session.mail_mut().asking = Asking::Now;
                session.mail_mut().heard = 0;
                asked.push(Request::Read { key: session.key });
            }
        }
        node.requests.extend(asked);
    }

    /// The link is back: the spill is handed over first.
    pub(crate) fn link_up(&mut self, at: NodeId) {
        let node = &mut self.state.nodes[at];
        if node.spill.is_empty() {
            return self.store_up(at);
        }
        node.link = Link::Replaying;
        let rows = node.spill.iter();
        let rows = rows.map(|row| Request::Commit(Commit { key: None, ..*row }));
        node.requests.extend(rows);
    }

    fn replayed(&mut self, at: NodeId, commit: Commit, fenced: bool) {
        self.note(if fenced {
            Event::SpillFenced
        } else {
            Event::SpillReplayed
        });
        if self.state.nodes[at]
            .row_of(commit.of)
            .is_some_and(|row| row.mark > commit.mark)
        {
            self.note(Event::SpillGrewDuringReplay);
        }
        if self.has(Flaw::DeleteNewerRow) {
            self.state.nodes[at].spill.retain(|row| row.of != commit.of);
        }
        self.settle(at, commit);
        if !self.state.nodes[at].is_replaying() {
            self.store_up(at);
        }
    }

    /// The store has taken or refused this save: a row that it covers is not wanted any more.
    pub(crate) fn settle(&mut self, at: NodeId, commit: Commit) {
        let covered = |row: &Commit| row.epoch == commit.epoch && row.mark <= commit.mark;
        if self.state.nodes[at].row_of(commit.of).is_some_and(covered) {
            if commit.key.is_some() {
                self.note(Event::SpillOutdatedByStore);
            }
            self.state.nodes[at].spill.retain(|row| row.of != commit.of);
        }
    }

    /// All sessions are renewed in the store, changed or not.
    fn store_up(&mut self, at: NodeId) {
        let node = &mut self.state.nodes[at];
        node.link = Link::Up;
        for session in node.sessions_mut().filter(|session| !session.is_claiming()) {
            session.due = true;
        }
        if let Some(own) = &mut node.own {
            own.due = true;
        }
        self.finish_if_saved(at);
        self.flush(at);
    }

    /// The link is gone, and with it all that was not answered. The first `kept` requests are in
    /// the store's buffers, and may be carried out at any time from now on.
    pub(crate) fn link_down(&mut self, at: NodeId, kept: usize) {
        self.drop_link(at, kept);
        let forgets = self.has(Flaw::ForgetLostSaves);
        let mut repeated = Vec::new();
        for session in self.state.nodes[at].sessions_mut() {
            let was_asked = session.is_claiming() && !session.due;
            repeated.extend(was_asked.then_some(Event::ClaimRepeated));
            if session.is_claiming() {
                session.due = true;
            } else if !forgets {
                session.ledger.handle_store_down();
                session.due = !session.ledger.is_saved();
                repeated.extend(session.due.then_some(Event::SaveRepeated));
            }
        }
        for event in repeated {
            self.note(event);
        }
        for session in self.state.nodes[at].sessions_mut() {
            if session.mail.asking == Asking::Now {
                session.mail_mut().asking = Asking::Soon;
            }
        }
        if let Some(own) = &mut self.state.nodes[at].own {
            own.ledger.handle_store_down();
            own.due = !own.ledger.is_saved();
        }
        self.state.nodes[at].forget_what_is_over();
        self.finish_if_saved(at);
    }

    pub(crate) fn drop_link(&mut self, at: NodeId, kept: usize) {
        let node = &mut self.state.nodes[at];
        node.link = Link::Down;
        node.answers.clear();
        node.news = None;
        node.mail_news = None;
        node.late.extend(node.requests.drain(..).take(kept));
    }

    fn unused_key(&self) -> u64 {
        let is_used = |key: u64| {
            let nodes = &self.state.nodes;
            nodes.iter().any(|node| node.uses_key(key)) || self.state.store.knows_token(key)
        };
        let mut key = 1;
        while is_used(key) {
            key += 1;
        }
        key
    }
}

//! What a node does in one turn: one thing happens, and what is due goes to the store at its end.
//!
//! It follows `src/engine` (session, saving, answers, closing) and `src/store/spill`; what a count may do
//! is not followed but shared: [`Ledger`](sundown::engine::ledger::Ledger).

use sundown::engine::ledger::Mark;

use crate::client::Said;
use crate::events::Event;
use crate::flaws::Flaw;
use crate::node::{Link, NodeId, Phase, Session, Talk};
use crate::protocol::Broken;
use crate::step::Step;
use crate::store::{Answer, Commit, Request};

impl Step<'_> {
    /// A client connects: the session is claimed, and whoever has it here counts no more.
    pub(crate) fn accept(&mut self, at: NodeId) {
        let key = self.unused_key();
        let node = &mut self.state.nodes[at];
        if let Some(mut displaced) = node.current.replace(Session::opened(key))
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
            if count != number {
                self.state.broken.insert(Broken::NotExact);
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
            } => self.claimed(at, key, (epoch, held, state)),
            Answer::Committed { commit, fenced } => match commit.key {
                Some(key) if fenced => {
                    self.note(Event::SaveFenced);
                    self.settle(at, commit);
                    self.lose_session(at, key);
                }
                Some(key) => self.saved(at, key, commit),
                None => self.replayed(at, commit, fenced),
            },
            Answer::Refused(request) => self.refused(at, request),
        }
        self.flush(at);
    }

    fn claimed(&mut self, at: NodeId, key: u64, (epoch, held, state): (u64, Mark, u8)) {
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
        if waits {
            let node = &mut self.state.nodes[at];
            if let Some(session) = node.session_mut(key) {
                session.talk = Talk::Open;
            }
            if self.state.nodes[1 - at].phase == Phase::Draining {
                self.note(Event::GreetedWhileOthersDrain);
            }
            self.say(at, key, Said::Hello(count));
        } else {
            self.note(Event::ClaimAfterGone);
        }
        self.state.nodes[at].forget_what_is_over();
    }

    fn saved(&mut self, at: NodeId, key: u64, commit: Commit) {
        self.settle(at, commit);
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return;
        };
        session.ledger.handle_saved(commit.mark);
        session.due |= !session.ledger.is_saved();
        self.release(at, key);
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
                self.store_up(at);
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
            && session.ledger.may_tell(session.told + 1 - session.base)
        {
            session.told += 1;
            let count = session.told;
            self.say(at, key, Said::Count(count));
        }
    }

    /// A newer claim has the session: it ends here, and what the store refused is dropped.
    fn lose_session(&mut self, at: NodeId, key: u64) {
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
        let may_claim = node.earlier.as_ref().is_none_or(Session::is_saved);
        if let Some(session) = &mut node.current
            && session.is_claiming()
            && session.due
            && may_claim
        {
            session.due = false;
            asked.push(Request::Claim { key: session.key });
        }
        node.requests.extend(asked);
    }

    /// The link is back: the spill is handed over first.
    pub(crate) fn link_up(&mut self, at: NodeId) {
        let node = &mut self.state.nodes[at];
        if let Some(row) = node.spill {
            node.link = Link::Replaying;
            node.requests
                .push(Request::Commit(Commit { key: None, ..row }));
        } else {
            self.store_up(at);
        }
    }

    fn replayed(&mut self, at: NodeId, commit: Commit, fenced: bool) {
        self.note(if fenced {
            Event::SpillFenced
        } else {
            Event::SpillReplayed
        });
        if self.state.nodes[at]
            .spill
            .is_some_and(|row| row.mark > commit.mark)
        {
            self.note(Event::SpillGrewDuringReplay);
        }
        if self.has(Flaw::DeleteNewerRow) {
            self.state.nodes[at].spill = None;
        }
        self.settle(at, commit);
        self.store_up(at);
    }

    /// The store has taken or refused this save: a row that it covers is not wanted any more.
    fn settle(&mut self, at: NodeId, commit: Commit) {
        let covered = |row: &Commit| row.epoch == commit.epoch && row.mark <= commit.mark;
        if self.state.nodes[at].spill.as_ref().is_some_and(covered) {
            if commit.key.is_some() {
                self.note(Event::SpillOutdatedByStore);
            }
            self.state.nodes[at].spill = None;
        }
    }

    /// All sessions are renewed in the store, changed or not.
    fn store_up(&mut self, at: NodeId) {
        let node = &mut self.state.nodes[at];
        node.link = Link::Up;
        for session in node.sessions_mut().filter(|session| !session.is_claiming()) {
            session.due = true;
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
        self.state.nodes[at].forget_what_is_over();
        self.finish_if_saved(at);
    }

    fn drop_link(&mut self, at: NodeId, kept: usize) {
        let node = &mut self.state.nodes[at];
        node.link = Link::Down;
        node.answers.clear();
        node.news = None;
        node.late.extend(node.requests.drain(..).take(kept));
    }

    /// Persisting has saved everything, or gives up: goodbyes.
    pub(crate) fn say_goodbye(&mut self, at: NodeId) {
        let (early, spilled) = (Flaw::GoodbyeBeforeSave, Flaw::GoodbyeTellsSpilled);
        let (early, spilled) = (self.has(early), self.has(spilled));
        self.state.nodes[at].phase = Phase::Closing;
        self.part(at, early, spilled);
    }

    /// The client has said that it leaves: goodbye to it alone.
    pub(crate) fn let_go(&mut self, at: NodeId) {
        self.note(Event::LeftBeforeOthers);
        self.part(at, self.has(Flaw::LeavesBeforeSave), false);
    }

    fn part(&mut self, at: NodeId, early: bool, spilled: bool) {
        let node = &mut self.state.nodes[at];
        let Some(session) = &mut node.current else {
            return self.flush(at);
        };
        let key = session.key;
        match session.talk {
            Talk::Waiting => {
                session.talk = Talk::Gone;
                self.note(Event::SentAwayWithoutHello);
                self.say(at, key, Said::Close);
                self.end_line(at);
            }
            Talk::Open => {
                session.talk = Talk::GoodbyeSent;
                let (ledger, row) = (&session.ledger, node.spill);
                let total = if early {
                    ledger.processed()
                } else if spilled && ledger.is_safe() {
                    row.map_or(ledger.saved(), |row| row.mark.count.max(ledger.saved()))
                } else {
                    ledger.saved()
                };
                let is_all = total == ledger.processed();
                self.note(if is_all {
                    Event::GoodbyeOfAll
                } else {
                    Event::GoodbyeOfLess
                });
                self.say(at, key, Said::Goodbye(total));
                self.say(at, key, Said::Close);
            }
            Talk::GoodbyeSent | Talk::Closed | Talk::Gone => {}
        }
        self.finish_if_saved(at);
        self.flush(at);
    }

    /// The store has had its time: what it lacks goes into the spill.
    pub(crate) fn give_up(&mut self, at: NodeId) {
        self.state.nodes[at].gave_up = true;
        self.spill(at);
    }

    fn spill(&mut self, at: NodeId) {
        let refused_counts = self.has(Flaw::RefusedSpillCounts);
        let node = &mut self.state.nodes[at];
        let is_full = node.spill_is_full;
        if is_full && !refused_counts {
            return;
        }
        let mut rows = Vec::new();
        for session in node.sessions_mut() {
            if let Some(row) = session.poll_spill() {
                session.ledger.handle_spilled(row.mark);
                rows.push(row);
            }
        }
        for row in rows.into_iter().filter(|_| !is_full) {
            self.keep_row(at, row);
        }
    }

    /// One that the store refuses, with no time to try again; `false`: the spill has all of it, or
    /// takes nothing.
    fn spill_session(&mut self, at: NodeId, key: u64) -> bool {
        let node = &mut self.state.nodes[at];
        let takes = !node.spill_is_full;
        let Some(session) = node.session_mut(key).filter(|_| takes) else {
            return false;
        };
        let Some(row) = session.poll_spill() else {
            return false;
        };
        session.ledger.handle_spilled(row.mark);
        self.keep_row(at, row);
        true
    }

    /// Of two rows for one session the newer is kept.
    fn keep_row(&mut self, at: NodeId, row: Commit) {
        let node = &mut self.state.nodes[at];
        let held = node.spill.map(|held| (held.epoch, held.mark));
        if held < Some((row.epoch, row.mark)) {
            node.spill = Some(row);
        }
        self.note(Event::Spilled);
    }

    /// The end of a shutdown: what it says of itself must be true.
    pub(crate) fn exit(&mut self, at: NodeId, kept: usize) {
        let node = &self.state.nodes[at];
        let is_safe = node.sessions().all(|session| session.ledger.is_safe());
        let store = &self.state.store;
        let holds = |session: &Session| {
            let (ledger, row) = (&session.ledger, node.spill);
            let Some(epoch) = ledger.granted_epoch() else {
                return true;
            };
            let is_spilled =
                row.is_some_and(|row| row.epoch == epoch && row.mark >= ledger.latest());
            // A newer claim has it: what was counted here beyond that claim, the client has.
            let is_fenced = store.epoch() > epoch;
            is_spilled || is_fenced || store.count() >= ledger.processed()
        };
        if is_safe && !node.sessions().all(holds) {
            self.state.broken.insert(Broken::ExitLied);
        }
        self.note(if is_safe {
            Event::ExitSafe
        } else {
            Event::ExitUnsafe
        });
        self.go_off(at, kept);
    }

    /// The process ends, with all that it knew; the spill file stays.
    pub(crate) fn go_off(&mut self, at: NodeId, kept: usize) {
        self.drop_link(at, kept);
        let node = &mut self.state.nodes[at];
        node.phase = Phase::Off;
        (node.gave_up, node.spill_is_full) = (false, false);
        (node.current, node.earlier) = (None, None);
        self.end_line(at);
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

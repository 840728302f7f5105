//! How a node ends: its goodbyes, what goes into its spill, and what its exit says.
//!
//! It follows `src/engine` (closing, spilling) and `src/store/spill`.

use crate::client::Said;
use crate::events::Event;
use crate::flaws::Flaw;
use crate::mail::Own;
use crate::node::{NodeId, Phase, Session, Talk};
use crate::protocol::Broken;
use crate::step::Step;
use crate::store::{CLIENT, Commit};

impl Step<'_> {
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
        let row = node.row_of(CLIENT).copied();
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
                let (ledger, row) = (&session.ledger, row);
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

    pub(crate) fn spill(&mut self, at: NodeId) {
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
        if let Some(own) = &mut node.own
            && let Some(row) = own.poll_spill()
        {
            own.ledger.handle_spilled(row.mark);
            rows.push(row);
        }
        for row in rows.into_iter().filter(|_| !is_full) {
            self.keep_row(at, row);
        }
    }

    /// One that the store refuses, with no time to try again; `false`: the spill has all of it, or
    /// takes nothing.
    pub(crate) fn spill_session(&mut self, at: NodeId, key: u64) -> bool {
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
    pub(crate) fn keep_row(&mut self, at: NodeId, row: Commit) {
        let node = &mut self.state.nodes[at];
        let held = node.row_of(row.of).map(|held| (held.epoch, held.mark));
        if held < Some((row.epoch, row.mark)) {
            node.spill.retain(|held| held.of != row.of);
            node.spill.push(row);
            node.spill.sort_by_key(|row| row.of);
        }
        self.note(if row.of == CLIENT {
            Event::Spilled
        } else {
            Event::OwnSessionSpilled
        });
    }

    /// The end of a shutdown: what it says of itself must be true.
    pub(crate) fn exit(&mut self, at: NodeId, kept: usize) {
        let node = &self.state.nodes[at];
        let own = node.own.as_deref();
        let is_safe = node.sessions().all(|session| session.ledger.is_safe())
            && own.is_none_or(|own| own.ledger.is_safe());
        let store = &self.state.store;
        let holds = |session: &Session| {
            let (ledger, row) = (&session.ledger, node.row_of(CLIENT));
            let Some(epoch) = ledger.granted_epoch() else {
                return true;
            };
            let is_spilled =
                row.is_some_and(|row| row.epoch == epoch && row.mark >= ledger.latest());
            // A newer claim has it: what was counted here beyond that claim, the client has.
            let is_fenced = store.epoch() > epoch;
            is_spilled || is_fenced || store.count() >= ledger.processed()
        };
        let holds_own = |own: &Own| {
            let missing = store.new_pushes(own.name, own.posts);
            let row = node.row_of(own.name);
            missing & !row.map_or(0, |row| store.new_pushes(row.of, row.posts)) == 0
        };
        if is_safe && !(node.sessions().all(holds) && own.is_none_or(holds_own)) {
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
        (node.current, node.earlier, node.own) = (None, None, None);
        self.end_line(at);
    }
}

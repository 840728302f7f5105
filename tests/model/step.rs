//! One step of the whole: what the client and the store do, and what goes wrong. What a node does
//! in its turn is in `turn.rs`.

use crate::action::Action;
use crate::client::{Line, Said, Stage};
use crate::events::Event;
use crate::flaws::Flaw;
use crate::node::{Link, NodeId, Phase};
use crate::protocol::{Broken, State, Sundown};
use crate::store::{Answer, CLIENT, Request};

/// A step under way.
pub(crate) struct Step<'a> {
    pub(crate) model: &'a Sundown,
    pub(crate) state: State,
}

impl Step<'_> {
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::ClientConnects { to } => self.client_connects(to),
            Action::ClientSends => self.client_sends(),
            Action::ClientReads => self.client_reads(),
            Action::ClientSeesTheEnd => self.client_sees_the_end(),
            Action::ClientMoves => self.client_moves(),
            Action::ClientCloses => self.client_closes(),
            Action::ClientConfirms => self.client_confirms(),
            Action::NodeReads { at, messages } => self.read(at, messages),
            Action::NodeReadsClose { at } => self.read_close(at),
            Action::NodeReadsConfirmation { at } => self.read_confirmation(at),
            Action::Pushes { at } => self.push(at),
            Action::NodeSeesConnectionGone { at, key } => self.see_gone(at, key),
            Action::StoreCarriesOut { of } => self.carry_out(of, false),
            Action::StoreCarriesOutLateRequest { of } => self.carry_out(of, true),
            Action::StoreRefuses { of } => self.refuse(of),
            Action::StoreRestarts => self.store_restarts(),
            Action::NodeHearsAnswer { at } => self.hear_answer(at),
            Action::NodeHearsOfNewerClaim { at } => self.hear_news(at),
            Action::NodeHearsOfPush { at } => self.hear_of_push(at),
            Action::LinkComesUp { at } => self.link_up(at),
            Action::LinkBreaks { at, kept } => {
                self.state.left.link_losses -= 1;
                self.link_down(at, kept);
            }
            Action::ClientLeaves => self.client_leaves(),
            Action::ShutdownBegins { at } => self.begin_shutdown(at),
            Action::NodeLetsClientGo { at } => self.let_go(at),
            Action::NodeStopsReading { at } => {
                self.state.nodes[at].phase = Phase::Persisting;
            }
            Action::NodeHasSavedAndSaysGoodbye { at } => self.say_goodbye(at),
            Action::NodeGivesUpAndSaysGoodbye { at, spill_is_full } => {
                self.state.left.full_disks -= u8::from(spill_is_full);
                self.state.nodes[at].spill_is_full = spill_is_full;
                self.give_up(at);
                self.say_goodbye(at);
            }
            Action::NodeIsCutShort { at, kept } => {
                self.give_up(at);
                self.exit(at, kept);
            }
            Action::NodeExits { at } => self.exit(at, 0),
            Action::NodeStarts { at } => {
                self.state.nodes[at].phase = Phase::Serving;
                self.link_up(at);
            }
            Action::NodeCrashes { at, kept } => self.crash(at, kept),
        }
    }

    fn client_connects(&mut self, to: NodeId) {
        self.state.client.line = Some(Line {
            node: to,
            stage: Stage::Waiting,
            inbox: Vec::new(),
            confirmed: self.state.client.received,
            ended: false,
        });
        self.accept(to);
    }

    fn client_sees_the_end(&mut self) {
        let line = self.state.client.line.take();
        let Some(line) = line else { return };
        if !line.inbox.is_empty() {
            self.note(Event::ReplyLost);
        }
        if line
            .inbox
            .iter()
            .any(|said| matches!(said, Said::Push { .. }))
        {
            self.note(Event::PushLostOnTheWay);
        }
    }

    fn crash(&mut self, at: NodeId, kept: usize) {
        self.state.left.crashes -= 1;
        if !self.state.nodes[at].is_saved() {
            self.note(Event::CrashWithUnsaved);
        }
        self.go_off(at, kept);
    }

    fn begin_shutdown(&mut self, at: NodeId) {
        self.state.left.shutdowns -= 1;
        let drains = &mut self.state.left.drains;
        self.state.nodes[at].phase = if *drains > 0 {
            *drains -= 1;
            Phase::Draining
        } else {
            Phase::Persisting
        };
        if self.has(Flaw::GoodbyeBeforeSave) {
            self.say_goodbye(at);
        }
    }

    /// All links break, and what was under way is gone.
    fn store_restarts(&mut self) {
        self.state.left.store_restarts -= 1;
        for at in 0..self.state.nodes.len() {
            if self.state.nodes[at].link != Link::Down {
                self.link_down(at, 0);
            }
            self.state.nodes[at].late.clear();
        }
    }

    fn client_sends(&mut self) {
        let client = &mut self.state.client;
        if let (Some(line), Some(number)) = (&client.line, client.outbox.send())
            && let Some(session) = &mut self.state.nodes[line.node].current
            && session.wire.is_attached
        {
            // Nothing is on the way at the first message after a hello.
            if session.wire.read == session.wire.sent {
                session.wire.read = number - 1;
            }
            session.wire.sent = number;
        }
    }

    fn client_reads(&mut self) {
        let ignores_hello = self.has(Flaw::ClientIgnoresHello);
        let trusts_goodbye = self.has(Flaw::ClientTrustsGoodbye);
        let client = &mut self.state.client;
        let Some(line) = &mut client.line else { return };
        let said = line.inbox.remove(0);
        match said {
            Said::Hello(count) => {
                line.stage = Stage::Open;
                if count < client.outbox.acknowledged() {
                    self.state.broken.insert(Broken::Lost);
                }
                if count > client.outbox.acknowledged() {
                    self.model.seen.note(Event::HelloShowsMore);
                }
                client.outbox.resume(if ignores_hello { 0 } else { count });
            }
            Said::Count(count) => client.outbox.drop_up_to(count),
            Said::Goodbye(total) => {
                let sent = client.outbox.sent();
                client
                    .outbox
                    .drop_up_to(if trusts_goodbye { sent } else { total });
            }
            Said::Push { number, body } => {
                if number != client.received + 1 {
                    self.state.broken.insert(Broken::PushOrder);
                }
                if self.state.store.push_of(number) != Some(body) {
                    self.state.broken.insert(Broken::PushUnknown);
                }
                self.model.seen.note(Event::PushDelivered);
                client.received = number;
            }
            Said::Close => {
                line.stage = Stage::Closing;
                if !line.ended
                    && let Some(session) = &mut self.state.nodes[line.node].current
                {
                    session.wire.close = true;
                }
            }
        }
    }

    /// The client says which pushes it has received.
    fn client_confirms(&mut self) {
        let client = &mut self.state.client;
        if let Some(line) = &mut client.line {
            line.confirmed = client.received;
            if let Some(session) = &mut self.state.nodes[line.node].current
                && session.wire.is_attached
            {
                session.wire.confirmed = client.received;
            }
        }
    }

    fn client_closes(&mut self) {
        self.state.left.closes -= 1;
        if let Some(line) = &mut self.state.client.line {
            line.stage = Stage::Closing;
            if let Some(session) = &mut self.state.nodes[line.node].current {
                session.wire.close = true;
            }
        }
    }

    fn client_leaves(&mut self) {
        if let Some(line) = &mut self.state.client.line {
            line.stage = Stage::Leaving;
        }
    }

    fn client_moves(&mut self) {
        self.state.left.moves -= 1;
        if let Some(line) = self.state.client.line.take() {
            for session in self.state.nodes[line.node].sessions_mut() {
                session.wire.is_attached = false;
            }
        }
    }

    /// The store answers, and has not carried out this one request.
    fn refuse(&mut self, of: NodeId) {
        self.state.left.refusals -= 1;
        let node = &mut self.state.nodes[of];
        let request = node.requests.remove(0);
        node.answers.push(Answer::Refused(request));
    }

    fn carry_out(&mut self, of: NodeId, late: bool) {
        let node = &mut self.state.nodes[of];
        let from = if late {
            &mut node.late
        } else {
            &mut node.requests
        };
        let request = from.remove(0);
        let pushed_by = match &request {
            Request::Commit(commit) => commit.of,
            Request::Claim { .. } | Request::Read { .. } => CLIENT,
        };
        let done = self.state.store.carry_out(request, self.model.protocol);
        if done.counted_twice {
            self.state.broken.insert(Broken::CountedTwice);
        }
        if done.effects_differ {
            self.state.broken.insert(Broken::Effects);
        }
        if late {
            self.note(match done.answer {
                Answer::Claimed { .. } => Event::LateClaimCarriedOut,
                Answer::Committed { .. } | Answer::Mailbox { .. } | Answer::Refused(_) => {
                    Event::LateSaveCarriedOut
                }
            });
        } else {
            self.state.nodes[of].answers.push(done.answer);
        }
        if let Some(epoch) = done.news {
            for node in &mut self.state.nodes {
                if node.link == Link::Up && node.current.is_some() {
                    node.news = Some(epoch);
                }
            }
        }
        if let Some(sent) = done.mail_news {
            for (at, node) in self.state.nodes.iter_mut().enumerate() {
                let has_pushed = at == of && node.is_of(pushed_by);
                if !has_pushed && node.link == Link::Up && node.current.is_some() {
                    node.mail_news = Some(sent);
                }
            }
        }
    }

    /// Says something to the client of a session, if it is still at the other end.
    pub(crate) fn say(&mut self, at: NodeId, key: u64, said: Said) {
        let session = self.state.nodes[at].session_mut(key);
        let Some(session) = session.filter(|session| session.wire.is_attached) else {
            return;
        };
        if let (Some(epoch), Some(_)) = (session.ledger.granted_epoch(), said.count()) {
            self.state.spoke[at] |= 1 << epoch;
        }
        if let Some(line) = &mut self.state.client.line {
            line.inbox.push(said);
        }
    }

    /// The node's end of the client's connection is gone.
    pub(crate) fn end_line(&mut self, at: NodeId) {
        if let Some(line) = &mut self.state.client.line
            && line.node == at
        {
            line.ended = true;
            for session in self.state.nodes[at].sessions_mut() {
                session.wire.is_attached = false;
            }
        }
    }

    pub(crate) fn note(&self, event: Event) {
        self.model.seen.note(event);
    }

    pub(crate) fn has(&self, flaw: Flaw) -> bool {
        self.model.protocol.has(flaw)
    }
}

//! Pushes in a node: those that its sessions and its process ask for, and the way of each to the
//! client.
//!
//! It follows `src/engine` (delivering, hub, session/mail); what a mailbox may do is not followed but
//! shared: [`Mailbox`](sundown::engine::mailbox::Mailbox).

use sundown::engine::ledger::{Ledger, Mark};
use sundown::engine::mailbox::Mailbox;

use crate::client::Said;
use crate::events::Event;
use crate::flaws::Flaw;
use crate::node::{NodeId, Phase, Session, Talk};
use crate::protocol::Broken;
use crate::step::Step;
use crate::store::{
    CLIENT, Commit, OWN_MAX, Outcome, Outcomes, Posts, body_of, number_in, of_outside,
};

/// The pushes to a session, as its node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Mailing {
    pub(crate) mailbox: Mailbox,
    /// The number of the last one that the connection was handed.
    pub(crate) delivered: u64,
    /// The number of the latest that was heard of, since the store was last asked.
    pub(crate) heard: u64,
    pub(crate) asking: Asking,
}

/// Whether the store is asked what the mailbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Asking {
    #[default]
    No,
    /// At the next flush.
    Soon,
    Now,
}

impl Mailing {
    pub(crate) fn ask(&mut self) {
        if self.asking == Asking::No {
            self.asking = Asking::Soon;
        }
    }
}

/// The process's own session, whose steps are the pushes that other threads ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Own {
    /// A process never has the name of another one.
    pub(crate) name: u8,
    pub(crate) ledger: Ledger,
    pub(crate) due: bool,
    pub(crate) posts: Posts,
}

impl Own {
    /// The key of its requests, which no client's session has.
    pub(crate) const KEY: u64 = 0;
    /// Nobody claims it.
    const EPOCH: u64 = 1;

    fn named(name: u8) -> Self {
        Self {
            name,
            ledger: Ledger::begun(Self::EPOCH, 0),
            due: false,
            posts: Posts::default(),
        }
    }

    pub(crate) fn poll_commit(&mut self) -> Option<Commit> {
        let next = self.ledger.next_save()?;
        Some(self.commit_of(next))
    }

    pub(crate) fn poll_spill(&self) -> Option<Commit> {
        Some(self.commit_of(self.ledger.next_spill()?))
    }

    fn commit_of(&self, (epoch, mark): (u64, Mark)) -> Commit {
        Commit {
            key: Some(Self::KEY),
            of: self.name,
            epoch,
            mark,
            state: 0,
            base: 0,
            confirmed: 0,
            posts: self.posts,
        }
    }
}

impl Step<'_> {
    /// Another thread of the process pushes to the client's session.
    pub(crate) fn push(&mut self, at: NodeId) {
        let nth = self.model.faults.pushes - self.state.left.pushes;
        self.state.left.pushes -= 1;
        let name = self.unused_name();
        let own = &mut self.state.nodes[at].own;
        let own = own.get_or_insert_with(|| Box::new(Own::named(name)));
        own.ledger.step(false);
        own.posts.put(nth.into(), own.ledger.latest().step);
        own.due = true;
        self.flush(at);
    }

    #[expect(
        clippy::expect_used,
        reason = "fewer processes push than there are names"
    )]
    fn unused_name(&self) -> u8 {
        let nodes = &self.state.nodes;
        let is_used = |name: &u8| nodes.iter().any(|node| node.uses_name(*name));
        let unused = (CLIENT + 1..=OWN_MAX).find(|name| !is_used(name));
        unused.expect("more processes than names")
    }

    /// The store has taken a commit of the process's own session.
    pub(crate) fn own_saved(&mut self, at: NodeId, commit: Commit, outcomes: Outcomes) {
        self.settle(at, commit);
        if let Some(own) = &mut self.state.nodes[at].own {
            own.ledger.handle_saved(commit.mark);
            own.due |= !own.ledger.is_saved();
            own.posts.confirm(commit.mark.step);
        }
        for (nth, _) in commit.posts.iter() {
            self.tell(of_outside(nth), outcomes.of(nth));
        }
        self.pushed(at, commit, outcomes);
        self.finish_if_saved(at);
    }

    /// The store has refused a commit of the process's own session, for now.
    pub(crate) fn own_refused(&mut self, at: NodeId) {
        self.note(Event::SaveRefused);
        let node = &mut self.state.nodes[at];
        let is_saving = matches!(node.phase, Phase::Persisting | Phase::Closing);
        let takes = is_saving && !node.spill_is_full;
        let Some(own) = &mut node.own else { return };
        own.ledger.handle_refused();
        own.due = true;
        if takes && let Some(row) = own.poll_spill() {
            own.ledger.handle_spilled(row.mark);
            self.keep_row(at, row);
        }
    }

    /// A push to itself is delivered without regard to the store.
    pub(crate) fn deliver_at_once(&mut self, at: NodeId, body: u8) {
        let Some(session) = &mut self.state.nodes[at].current else {
            return;
        };
        let pushed = session.mail_mut().mailbox.push(body_of(body));
        let key = session.key;
        if pushed.is_ok() {
            self.deliver(at, key);
        }
    }

    /// Whoever has pushed is told what has come of it.
    fn tell(&mut self, body: u8, outcome: Outcome) {
        let store = &self.state.store;
        let is_true = match outcome {
            Outcome::Accepted(number) => {
                self.note(Event::PushAccepted);
                store.push_of(number) == Some(body)
            }
            Outcome::Before => {
                self.note(Event::PushRepeated);
                true
            }
            Outcome::Unknown => {
                self.note(Event::PushRefused);
                !store.has_accepted(body)
            }
        };
        if !is_true {
            self.state.broken.insert(Broken::Receipt);
        }
    }

    /// What has come of the pushes of a commit to the client's session.
    pub(crate) fn pushed(&mut self, at: NodeId, commit: Commit, outcomes: Outcomes) {
        for (nth, _) in commit.posts.iter() {
            match outcomes.of(nth) {
                Outcome::Accepted(number) => self.arrive(at, number, commit.body(nth)),
                Outcome::Before if self.has(Flaw::BeforeIsNotAsked) => {}
                Outcome::Before => {
                    if let Some(session) = self.granted(at) {
                        session.mail_mut().ask();
                    }
                }
                Outcome::Unknown => {}
            }
        }
    }

    fn granted(&mut self, at: NodeId) -> Option<&mut Session> {
        let current = self.state.nodes[at].current.as_mut();
        current.filter(|session| !session.is_claiming())
    }

    fn arrive(&mut self, at: NodeId, number: u64, body: u8) {
        let Some(session) = self.granted(at) else {
            return;
        };
        let mail = session.mail_mut();
        if number != mail.mailbox.sent() + 1 || mail.mailbox.push(body_of(body)).is_err() {
            mail.ask();
        }
        let key = session.key;
        self.deliver(at, key);
    }

    /// Word of a push.
    pub(crate) fn hear_of_push(&mut self, at: NodeId) {
        if let Some(sent) = self.state.nodes[at].mail_news.take() {
            self.note(Event::PushHeardOf);
            self.hear(at, sent);
        }
        self.flush(at);
    }

    /// The client's session has this many pushes.
    pub(crate) fn hear(&mut self, at: NodeId, sent: u64) {
        if let Some(session) = &mut self.state.nodes[at].current
            && sent > 0
        {
            session.mail_mut().heard = session.mail.heard.max(sent);
            if session.mail.heard > session.mail.mailbox.sent() && !session.is_claiming() {
                session.mail_mut().ask();
            }
        }
    }

    /// The store has said what the mailbox holds.
    pub(crate) fn mailbox_read(&mut self, at: NodeId, key: u64, mut mailbox: Mailbox) {
        let forgets = self.has(Flaw::HeardIsForgotten);
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return;
        };
        let mail = session.mail_mut();
        mail.asking = Asking::No;
        if mailbox.sent() < mail.mailbox.sent() {
            self.state.broken.insert(Broken::MailboxLost);
            return;
        }
        if mailbox.confirmed() > mail.mailbox.confirmed() {
            self.note(Event::MailboxOfNewerOwner);
            return self.lose_session(at, key);
        }
        mailbox.confirm(mail.mailbox.confirmed());
        mail.mailbox = mailbox;
        if forgets {
            mail.heard = 0;
        }
        if mail.heard > mail.mailbox.sent() {
            mail.ask();
            self.model.seen.note(Event::MailboxReadAgain);
        }
        self.deliver(at, key);
    }

    /// The claim was granted with these pushes to the session.
    pub(crate) fn take_mailbox(&mut self, at: NodeId, key: u64, mailbox: Mailbox) {
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return;
        };
        let (heard, delivered) = (session.mail.heard, mailbox.confirmed());
        if mailbox.sent() > 0 || heard > 0 {
            *session.mail_mut() = Mailing {
                mailbox,
                delivered,
                ..Mailing::default()
            };
        }
        self.hear(at, heard);
    }

    /// The client has said at the upgrade up to which number it has received pushes.
    pub(crate) fn skip_received(&mut self, at: NodeId, key: u64) {
        let ignored = self.has(Flaw::ReceivedIgnored);
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return;
        };
        let received = std::mem::take(&mut session.received);
        if !ignored && received > 0 && received <= session.mail.mailbox.sent() {
            session.mail_mut().delivered = session.mail.delivered.max(received);
            if self.confirm(at, key, received) {
                self.note(Event::ReceivedSaidAtUpgrade);
            }
        }
    }

    /// Hands the client of a session what it may get.
    pub(crate) fn deliver(&mut self, at: NodeId, key: u64) {
        let is_handed = self.has(Flaw::HandedIsConfirmed);
        while let Some(session) = self.state.nodes[at].session_mut(key)
            && session.talk == Talk::Open
            && let Some((number, body)) = session.mail.mailbox.get(session.mail.delivered + 1)
        {
            let body = number_in(body.as_bytes());
            session.mail_mut().delivered = number;
            self.say(at, key, Said::Push { number, body });
        }
        if is_handed && let Some(session) = self.state.nodes[at].session_mut(key) {
            let delivered = session.mail.delivered;
            self.confirm(at, key, delivered);
        }
    }

    /// The client has received all pushes up to this number, of those that it was handed. Whether
    /// that is news.
    fn confirm(&mut self, at: NodeId, key: u64, number: u64) -> bool {
        let Some(session) = self.state.nodes[at].session_mut(key) else {
            return false;
        };
        let number = number.min(session.mail.delivered);
        let is_news = number > session.mail.mailbox.confirmed();
        if is_news {
            session.mail_mut().mailbox.confirm(number);
            session.due |= !session.is_claiming();
        }
        is_news
    }

    /// The node reads which pushes the client has received.
    pub(crate) fn read_confirmation(&mut self, at: NodeId) {
        let Some(session) = &mut self.state.nodes[at].current else {
            return;
        };
        let key = session.key;
        let number = std::mem::take(&mut session.wire.confirmed);
        self.confirm(at, key, number);
        self.flush(at);
    }
}

//! States that differ only in what can never matter again are made one, so that fewer are left.
//!
//! Each rule here must be safe: what it drops would change nothing, now or later, for anyone.

use crate::client::{Client, Stage};
use crate::flaws::Protocol;
use crate::mail::{Asking, Mailing, Own};
use crate::node::{Node, Session, Talk, Wire};
use crate::protocol::State;
use crate::store::{Answer, CLIENT, Request};

use sundown::engine::mailbox::Mailbox;

impl State {
    pub(crate) fn normalize(&mut self, protocol: Protocol) {
        client(&mut self.client);
        for node in &mut self.nodes {
            node.sessions_mut().for_each(session);
            heard(node);
            own(node, self.left.pushes > 0);
            node.forget_what_is_over();
            node.late
                .retain(|request| self.store.may_be_changed_by(request, protocol));
            answers(node);
            mail_news(node);
            let is_older = |news: &u64| node.epoch().is_some_and(|epoch| epoch < *news);
            node.news = node.news.filter(is_older);
        }
        let nodes = &self.nodes;
        let is_used = |name: u8| nodes.iter().any(|node| node.uses_name(name));
        self.store.forget_own(is_used);
        let base = self.nodes.iter().flat_map(bases).min();
        self.store.forget_counts_up_to(base.unwrap_or(u64::MAX));
        let live = self
            .nodes
            .iter()
            .flat_map(epochs)
            .chain([self.store.epoch()]);
        let live = live.fold(0, |bits, epoch| bits | 1_u32 << epoch);
        self.spoke = self.spoke.map(|bits| bits & live);
    }
}

/// A client that has read all and whose connection has ended leaves it, and what it sent there is
/// of no interest before the next hello.
fn client(client: &mut Client) {
    let is_left = |line: &crate::client::Line| line.ended && line.inbox.is_empty();
    client.line = client.line.take().filter(|line| !is_left(line));
    let waits = client
        .line
        .as_ref()
        .is_none_or(|line| line.stage == Stage::Waiting || line.ended);
    if waits {
        client.outbox.forget_sent();
    }
    let received = client.received;
    if let Some(line) = &mut client.line
        && line.ended
    {
        line.confirmed = received;
    }
}

/// When a client has left and nothing of it is on the way, its session need not wait to be told.
/// What it sent is of no interest when it cannot be counted any more.
fn session(session: &mut Session) {
    let wire = session.wire;
    let is_displaced = !session.is_claiming() && session.ledger.epoch().is_none();
    let is_read = wire.read == wire.sent && wire.confirmed == 0;
    if !wire.is_attached && (is_read || is_displaced) {
        session.talk = Talk::Gone;
    }
    if session.talk == Talk::Gone {
        session.wire = Wire::default();
        // Nothing is delivered any more.
        let confirmed = session.mail.mailbox.confirmed();
        let over = Mailing {
            mailbox: Mailbox::new(confirmed, []),
            delivered: confirmed,
            ..Mailing::default()
        };
        if *session.mail != over {
            *session.mail_mut() = over;
        }
        session.received = 0;
    }
}

/// Word of pushes that makes no difference: of what is known, or is going to be asked.
fn heard(node: &mut Node) {
    let requests = &node.requests;
    for session in node.earlier.iter_mut().chain(&mut node.current) {
        let key = session.key;
        let is_asked = |request: &Request| match request {
            Request::Read { key: other } | Request::Claim { key: other } => *other == key,
            Request::Commit(_) => false,
        };
        let is_to_ask = session.mail.asking == Asking::Soon || session.is_claiming() && session.due;
        let is_known = !session.is_claiming() && session.mail.heard <= session.mail.mailbox.sent();
        let changes_nothing = is_known || is_to_ask || requests.iter().any(is_asked);
        if session.mail.heard > 0 && changes_nothing {
            session.mail_mut().heard = 0;
        }
    }
}

/// The process's own session, when all is saved and nobody pushes any more.
fn own(node: &mut Node, may_push: bool) {
    let asks = |own: &Own| {
        let is_it = |request: &Request| request.key() == Some(Own::KEY);
        own.due || node.requests.iter().any(is_it)
    };
    let is_over = |own: &Own| own.ledger.is_saved() && !asks(own);
    if !may_push && node.own.as_deref().is_some_and(is_over) {
        node.own = None;
    }
}

/// News of pushes that are known, or that a claim is going to find.
fn mail_news(node: &mut Node) {
    let Some(session) = &node.current else {
        node.mail_news = None;
        return;
    };
    let is_claim = |request: &Request| *request == Request::Claim { key: session.key };
    let is_found = if session.is_claiming() {
        session.due || node.requests.iter().any(is_claim)
    } else {
        session.talk == Talk::Gone || node.mail_news <= Some(session.mail.mailbox.sent())
    };
    if is_found {
        node.mail_news = None;
    }
}

/// Answers that nobody waits for.
fn answers(node: &mut Node) {
    let keys: Vec<u64> = node.sessions().map(|session| session.key).collect();
    let knows = |key: u64| keys.contains(&key);
    let own = node.own.is_some();
    let knows_commit = |key: u64| knows(key) || own && key == Own::KEY;
    let has_row = !node.spill.is_empty();
    node.answers.retain(|answer| match *answer {
        Answer::Claimed { key, .. } | Answer::Mailbox { key, .. } => knows(key),
        Answer::Committed { commit, .. } => has_row || commit.key.is_none_or(knows_commit),
        Answer::Refused(request) => request.key().is_none_or(knows_commit),
    });
}

/// The counts that the epochs of all saves began with which may still be asked of the store.
fn bases(node: &Node) -> impl Iterator<Item = u64> {
    let granted = node.sessions().filter(|session| !session.is_claiming());
    let to_hear = node.answers.iter().filter_map(|answer| match *answer {
        Answer::Claimed { held, .. } => Some(held.count),
        Answer::Committed { .. } | Answer::Mailbox { .. } | Answer::Refused(_) => None,
    });
    let saves = node.commits().filter(|commit| commit.of == CLIENT);
    let saves = saves.map(|commit| commit.base);
    granted
        .map(|session| session.base)
        .chain(to_hear)
        .chain(saves)
}

/// The epochs under which someone may still acknowledge.
fn epochs(node: &Node) -> impl Iterator<Item = u64> {
    let granted = node
        .sessions()
        .filter_map(|session| session.ledger.granted_epoch());
    let to_hear = node.answers.iter().filter_map(|answer| match *answer {
        Answer::Claimed { epoch, .. } => Some(epoch),
        Answer::Committed { .. } | Answer::Mailbox { .. } | Answer::Refused(_) => None,
    });
    granted.chain(to_hear)
}

//! States that differ only in what can never matter again are made one, so that fewer are left.
//!
//! Each rule here must be safe: what it drops would change nothing, now or later, for anyone.

use crate::client::{Client, Stage};
use crate::flaws::Protocol;
use crate::node::{Node, Session, Talk, Wire};
use crate::protocol::State;
use crate::store::{Answer, Commit, Request};

impl State {
    pub(crate) fn normalize(&mut self, protocol: Protocol) {
        client(&mut self.client);
        for node in &mut self.nodes {
            node.sessions_mut().for_each(session);
            node.forget_what_is_over();
            node.late
                .retain(|request| self.store.may_be_changed_by(request, protocol));
            answers(node);
            let is_older = |news: &u64| node.epoch().is_some_and(|epoch| epoch < *news);
            node.news = node.news.filter(is_older);
        }
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
}

/// When a client has left and nothing of it is on the way, its session need not wait to be told.
/// What it sent is of no interest when it cannot be counted any more.
fn session(session: &mut Session) {
    let wire = session.wire;
    let is_displaced = !session.is_claiming() && session.ledger.epoch().is_none();
    if !wire.is_attached && (wire.read == wire.sent || is_displaced) {
        session.talk = Talk::Gone;
    }
    if session.talk == Talk::Gone {
        session.wire = Wire::default();
    }
}

/// Answers that nobody waits for.
fn answers(node: &mut Node) {
    let keys: Vec<u64> = node.sessions().map(|session| session.key).collect();
    let knows = |key: u64| keys.contains(&key);
    let has_row = node.spill.is_some();
    node.answers.retain(|answer| match *answer {
        Answer::Claimed { key, .. } => knows(key),
        Answer::Committed { commit, .. } => has_row || commit.key.is_none_or(knows),
        Answer::Refused(request) => request.key().is_none_or(knows),
    });
}

fn saves(node: &Node) -> impl Iterator<Item = &Commit> {
    let asked = node.requests.iter().chain(&node.late);
    let asked = asked.filter_map(|request| match request {
        Request::Commit(commit) => Some(commit),
        Request::Claim { .. } => None,
    });
    asked.chain(&node.spill)
}

/// The counts that the epochs of all saves began with which may still be asked of the store.
fn bases(node: &Node) -> impl Iterator<Item = u64> {
    let granted = node.sessions().filter(|session| !session.is_claiming());
    let to_hear = node.answers.iter().filter_map(|answer| match *answer {
        Answer::Claimed { held, .. } => Some(held.count),
        Answer::Committed { .. } | Answer::Refused(_) => None,
    });
    let saves = saves(node).map(|commit| commit.base);
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
        Answer::Committed { .. } | Answer::Refused(_) => None,
    });
    granted.chain(to_hear)
}

//! How far the end is. Every step that is no fault must lower it, so that without more faults no
//! run goes on for ever: numbers that only fall come to an end.

use std::hash::{Hash, Hasher};

use crate::client::{Said, Stage};
use crate::mail::{Asking, Own};
use crate::node::{Link, Node, Phase, Session, Talk};
use crate::protocol::State;
use crate::store::{Answer, Commit, Request};

/// Compared part by part, the first difference decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Pushes that the store may still accept, and those on their way from there to the client, and
    /// as a confirmation back.
    pushes: [u8; 3],
    /// Phases that nodes have before them.
    phases: u64,
    /// Refusals to be heard of, requests of lost links, claims of clients that have left, and links to be made.
    leftovers: u64,
    /// Connections that are going to end.
    endings: u64,
    /// What is under way on those that stay.
    work: u64,
}

/// It follows from the rest of a state.
impl Hash for Rank {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl Rank {
    pub(crate) fn of(state: &State) -> Self {
        let nodes = &state.nodes;
        Self {
            pushes: pushes(state),
            phases: nodes.iter().map(|node| phases(node.phase)).sum(),
            leftovers: nodes.iter().map(leftovers).sum(),
            endings: endings(state),
            work: client_work(state)
                + nodes
                    .iter()
                    .map(|node| node_work(node, state.store.sent()))
                    .sum::<u64>(),
        }
    }
}

fn phases(phase: Phase) -> u64 {
    match phase {
        Phase::Serving => 0,
        Phase::Off => 1,
        Phase::Closing => 2,
        Phase::Persisting => 3,
        Phase::Draining => 4,
    }
}

fn leftovers(node: &Node) -> u64 {
    let link = match node.link {
        Link::Up => 0,
        Link::Replaying => 1,
        Link::Down => 2,
    };
    let has_client = |key: u64| {
        let mut sessions = node.sessions();
        sessions.any(|session| session.key == key && session.wire.is_attached)
    };
    let unasked = |session: &&Session| session.is_claiming() && session.due;
    let unasked = node.sessions().filter(unasked).map(|session| session.key);
    let asked = node.requests.iter().filter_map(|request| match request {
        Request::Claim { key } => Some(*key),
        Request::Commit(_) | Request::Read { .. } => None,
    });
    let abandoned = unasked.chain(asked).filter(|&key| !has_client(key)).count();
    let is_refusal = |answer: &&Answer| matches!(answer, Answer::Refused(_));
    let refused = node.answers.iter().filter(is_refusal).count();
    link + (node.late.len() + abandoned + refused) as u64
}

/// A connection that will be replaced by another one: its successor's work begins anew.
fn endings(state: &State) -> u64 {
    let Some(line) = &state.client.line else {
        return 1;
    };
    let is_over = line.ended
        || matches!(line.stage, Stage::Leaving | Stage::Closing)
        || line.inbox.contains(&Said::Close);
    let epoch = state.nodes[line.node].epoch();
    let is_doomed = epoch.is_some_and(|epoch| epoch < state.store.epoch());
    if is_over || is_doomed { 2 } else { 0 }
}

/// The bodies of pushes that are not accepted yet, and may be; the pushes that the client has not
/// received; those that the store does not know to be received.
fn pushes(state: &State) -> [u8; 3] {
    let store = &state.store;
    if !store.has_pushes() {
        return [0; 3];
    }
    let own = state.nodes.iter().filter_map(|node| node.own.as_deref());
    let own = own.map(|own| store.new_pushes(own.name, own.posts));
    let commits = state.nodes.iter().flat_map(Node::commits);
    let commits = commits.map(|commit| store.new_pushes(commit.of, commit.posts));
    let outside = own.chain(commits).fold(0, |all, bodies| all | bodies);
    let messages = state.client.outbox.len() as u8;
    let to_come = (1..=messages).filter(|&number| !store.has_accepted(number));
    let bodies = to_come.fold(outside, |all, number| all | 1 << number);
    let (sent, received) = (store.sent(), state.client.received);
    [
        bodies.count_ones() as u8,
        sent.saturating_sub(received) as u8,
        sent.saturating_sub(store.confirmed()) as u8,
    ]
}

fn client_work(state: &State) -> u64 {
    let client = &state.client;
    let Some(line) = &client.line else { return 0 };
    let to_send = match line.stage {
        _ if line.ended => 0,
        Stage::Waiting => client.outbox.len() + 1,
        Stage::Open => client.outbox.unsent(),
        Stage::Leaving | Stage::Closing => 0,
    };
    let to_confirm = line.may_confirm() && client.received > line.confirmed;
    line.inbox.len() as u64 + to_send * 60 + u64::from(to_confirm) * 60
}

fn node_work(node: &Node, sent: u64) -> u64 {
    let sessions: u64 = node
        .sessions()
        .map(|session| session_work(session, sent))
        .sum();
    let own = node.own.as_deref();
    let saves_too_little = |commit: &Commit| {
        if commit.key == Some(Own::KEY) {
            return own.is_some_and(|own| own.ledger.latest() > commit.mark);
        }
        let session = node
            .sessions()
            .find(|session| commit.key == Some(session.key));
        session.is_some_and(|session| {
            let confirmed = session.mail.mailbox.confirmed();
            session.ledger.latest() > commit.mark || confirmed > commit.confirmed
        })
    };
    let asked = node.requests.iter().map(|request| match request {
        Request::Commit(commit) if saves_too_little(commit) => 31,
        Request::Commit(_) => 15,
        Request::Claim { .. } => 55,
        Request::Read { .. } => 7,
    });
    let answered = node.answers.iter().map(|answer| match answer {
        Answer::Committed { commit, .. } if saves_too_little(commit) => 28,
        Answer::Committed { .. } => 12,
        Answer::Claimed { .. } => 50,
        Answer::Mailbox { .. } => 4,
        Answer::Refused(_) => 0,
    });
    let news = u64::from(node.news.is_some()) + u64::from(node.mail_news.is_some()) * 12;
    let own = u64::from(own.is_some_and(|own| own.due)) * 16;
    sessions + own + asked.chain(answered).sum::<u64>() + news
}

fn session_work(session: &Session, sent: u64) -> u64 {
    let talk = match session.talk {
        Talk::Waiting => 6,
        Talk::Open => 5,
        Talk::GoodbyeSent => 2,
        Talk::Closed => 1,
        Talk::Gone => 0,
    };
    let unread = session.wire.sent - session.wire.read;
    let unsaved = session.ledger.processed() - session.ledger.saved();
    let due = match session.due {
        true if session.is_claiming() => 60,
        true => 16,
        false => 0,
    };
    let to_deliver = if session.talk == Talk::Gone {
        0
    } else {
        sent.saturating_sub(session.mail.delivered)
    };
    let mail = &session.mail;
    let asking = match mail.asking {
        Asking::Soon => 9,
        Asking::Now if mail.heard > mail.mailbox.sent() => 9,
        Asking::Now | Asking::No => 0,
    };
    let confirmed = u64::from(session.wire.confirmed > 0) * 50;
    talk + unread * 40 + unsaved * 6 + due + to_deliver * 2 + asking + confirmed
}

//! How far the end is. Every step that is no fault must lower it, so that without more faults no
//! run goes on for ever: numbers that only fall come to an end.

use crate::client::{Said, Stage};
use crate::node::{Link, Node, Phase, Session, Talk};
use crate::protocol::State;
use crate::store::{Answer, Commit, Request};

/// Compared part by part, the first difference decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Phases that nodes have before them.
    phases: u64,
    /// Refusals to be heard of, requests of lost links, claims of clients that have left, and links to be made.
    leftovers: u64,
    /// Connections that are going to end.
    endings: u64,
    /// What is under way on those that stay.
    work: u64,
}

impl Rank {
    pub(crate) fn of(state: &State) -> Self {
        let nodes = &state.nodes;
        Self {
            phases: nodes.iter().map(|node| phases(node.phase)).sum(),
            leftovers: nodes.iter().map(leftovers).sum(),
            endings: endings(state),
            work: client_work(state) + nodes.iter().map(node_work).sum::<u64>(),
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
        Request::Commit(_) => None,
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

fn client_work(state: &State) -> u64 {
    let client = &state.client;
    let Some(line) = &client.line else { return 0 };
    let to_send = match line.stage {
        _ if line.ended => 0,
        Stage::Waiting => client.outbox.len() + 1,
        Stage::Open => client.outbox.unsent(),
        Stage::Leaving | Stage::Closing => 0,
    };
    line.inbox.len() as u64 + to_send * 30
}

fn node_work(node: &Node) -> u64 {
    let sessions: u64 = node.sessions().map(session_work).sum();
    let saves_too_little = |commit: &Commit| {
        let session = node
            .sessions()
            .find(|session| commit.key == Some(session.key));
        session.is_some_and(|session| session.ledger.latest() > commit.mark)
    };
    let asked = node.requests.iter().map(|request| match request {
        Request::Commit(commit) if saves_too_little(commit) => 13,
        Request::Commit(_) | Request::Claim { .. } => 5,
    });
    let answered = node.answers.iter().map(|answer| match answer {
        Answer::Committed { commit, .. } if saves_too_little(commit) => 10,
        Answer::Committed { .. } | Answer::Claimed { .. } => 2,
        Answer::Refused(_) => 0,
    });
    sessions + asked.chain(answered).sum::<u64>() + u64::from(node.news.is_some())
}

fn session_work(session: &Session) -> u64 {
    let talk = match session.talk {
        Talk::Waiting => 6,
        Talk::Open => 5,
        Talk::GoodbyeSent => 2,
        Talk::Closed => 1,
        Talk::Gone => 0,
    };
    let unread = session.wire.sent - session.wire.read;
    let unsaved = session.ledger.processed() - session.ledger.saved();
    talk + unread * 20 + unsaved * 6 + u64::from(session.due) * 6
}

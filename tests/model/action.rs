//! What may happen in a state: what takes its course, and what goes wrong.

use std::fmt;

use crate::client::Stage;
use crate::flaws::{Flaw, Protocol};
use crate::node::{Link, Node, NodeId, Phase, Talk};
use crate::protocol::State;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    ClientConnects { to: NodeId },
    ClientSends,
    ClientReads,
    ClientSeesTheEnd,
    NodeReads { at: NodeId, messages: u64 },
    NodeReadsClose { at: NodeId },
    ClientConfirms,
    NodeReadsConfirmation { at: NodeId },
    NodeSeesConnectionGone { at: NodeId, key: u64 },
    StoreCarriesOut { of: NodeId },
    StoreCarriesOutLateRequest { of: NodeId },
    StoreRefuses { of: NodeId },
    NodeHearsAnswer { at: NodeId },
    NodeHearsOfNewerClaim { at: NodeId },
    NodeHearsOfPush { at: NodeId },
    LinkComesUp { at: NodeId },
    NodeLetsClientGo { at: NodeId },
    NodeStopsReading { at: NodeId },
    NodeHasSavedAndSaysGoodbye { at: NodeId },
    NodeExits { at: NodeId },
    NodeStarts { at: NodeId },
    ClientMoves,
    ClientCloses,
    ClientLeaves,
    NodeCrashes { at: NodeId, kept: usize },
    ShutdownBegins { at: NodeId },
    NodeGivesUpAndSaysGoodbye { at: NodeId, spill_is_full: bool },
    NodeIsCutShort { at: NodeId, kept: usize },
    LinkBreaks { at: NodeId, kept: usize },
    StoreRestarts,
    Pushes { at: NodeId },
}

/// Steps that will be taken sooner or later if nothing goes wrong.
pub(crate) fn regular(state: &State, protocol: Protocol, actions: &mut Vec<Action>) {
    let leaves_unsaved = protocol.has(Flaw::LeavesBeforeSave);
    client_actions(state, actions);
    for at in 0..state.nodes.len() {
        node_actions(&state.nodes[at], at, actions);
    }
    let line = state.client.line.as_ref();
    if let Some(line) = line.filter(|line| line.stage == Stage::Leaving && !line.ended)
        && let node = &state.nodes[line.node]
        && node.phase == Phase::Draining
        && let Some(session) = &node.current
        && session.talk == Talk::Open
        && session.wire.read == session.wire.sent
        && (session.is_saved() || leaves_unsaved)
    {
        actions.push(Action::NodeLetsClientGo { at: line.node });
    }
}

/// What may go wrong, deadlines, and pushes, which need not come.
pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    let left = state.left;
    if let Some(line) = &state.client.line
        && !line.ended
    {
        if left.moves > 0 {
            actions.push(Action::ClientMoves);
        }
        if left.closes > 0 && line.stage == Stage::Open {
            actions.push(Action::ClientCloses);
        }
        if line.stage == Stage::Open && state.nodes[line.node].phase == Phase::Draining {
            actions.push(Action::ClientLeaves);
        }
    }
    for (at, node) in state.nodes.iter().enumerate() {
        if left.pushes > 0 && matches!(node.phase, Phase::Serving | Phase::Draining) {
            actions.push(Action::Pushes { at });
        }
        if node.is_idle() {
            continue;
        }
        let kept = 0..=node.requests.len();
        if left.refusals > 0 && !node.requests.is_empty() {
            actions.push(Action::StoreRefuses { of: at });
        }
        if left.crashes > 0 {
            actions.extend(kept.clone().map(|kept| Action::NodeCrashes { at, kept }));
        }
        if left.link_losses > 0 && node.link != Link::Down {
            actions.extend(kept.clone().map(|kept| Action::LinkBreaks { at, kept }));
        }
        match node.phase {
            Phase::Serving if left.shutdowns > 0 => {
                actions.push(Action::ShutdownBegins { at });
            }
            Phase::Persisting => {
                let outcomes = [false, true]
                    .into_iter()
                    .take(1 + usize::from(left.full_disks));
                actions.extend(
                    outcomes.map(|spill_is_full| Action::NodeGivesUpAndSaysGoodbye {
                        at,
                        spill_is_full,
                    }),
                );
            }
            Phase::Closing => {
                actions.extend(kept.map(|kept| Action::NodeIsCutShort { at, kept }));
            }
            Phase::Off | Phase::Serving | Phase::Draining => {}
        }
    }
    if left.store_restarts > 0 {
        actions.push(Action::StoreRestarts);
    }
}

fn client_actions(state: &State, actions: &mut Vec<Action>) {
    let client = &state.client;
    let Some(line) = &client.line else {
        let accepting = (0..2).filter(|&at| state.nodes[at].accepts());
        actions.extend(accepting.map(|to| Action::ClientConnects { to }));
        return;
    };
    if line.stage == Stage::Open && !line.ended && client.outbox.unsent() > 0 {
        actions.push(Action::ClientSends);
    }
    if !line.inbox.is_empty() {
        actions.push(Action::ClientReads);
    }
    if line.may_confirm() && client.received > line.confirmed {
        actions.push(Action::ClientConfirms);
    }
    if line.ended {
        actions.push(Action::ClientSeesTheEnd);
    }
}

fn node_actions(node: &Node, at: NodeId, actions: &mut Vec<Action>) {
    if !node.requests.is_empty() {
        actions.push(Action::StoreCarriesOut { of: at });
    }
    if !node.late.is_empty() {
        actions.push(Action::StoreCarriesOutLateRequest { of: at });
    }
    if !node.answers.is_empty() {
        actions.push(Action::NodeHearsAnswer { at });
    }
    if node.news.is_some() {
        actions.push(Action::NodeHearsOfNewerClaim { at });
    }
    if node.mail_news.is_some() {
        actions.push(Action::NodeHearsOfPush { at });
    }
    if node.phase == Phase::Off {
        actions.push(Action::NodeStarts { at });
        return;
    }
    if node.link == Link::Down {
        actions.push(Action::LinkComesUp { at });
    }
    for session in node.sessions() {
        if !session.wire.is_attached && session.talk != Talk::Gone {
            let key = session.key;
            actions.push(Action::NodeSeesConnectionGone { at, key });
        }
    }
    if let Some(session) = &node.current {
        let reads = match session.talk {
            Talk::Open => matches!(node.phase, Phase::Serving | Phase::Draining),
            Talk::GoodbyeSent => true,
            Talk::Waiting | Talk::Closed | Talk::Gone => false,
        };
        let (unread, wire) = (session.wire.sent - session.wire.read, session.wire);
        if reads {
            actions.extend((1..=unread).map(|messages| Action::NodeReads { at, messages }));
        }
        if reads && wire.confirmed > 0 {
            actions.push(Action::NodeReadsConfirmation { at });
        }
        if reads && unread == 0 && wire.confirmed == 0 && wire.close {
            actions.push(Action::NodeReadsClose { at });
        }
    }
    match node.phase {
        Phase::Draining => actions.push(Action::NodeStopsReading { at }),
        Phase::Persisting if node.is_saved() => {
            actions.push(Action::NodeHasSavedAndSaysGoodbye { at });
        }
        Phase::Closing
            if node.is_saved() && node.sessions().all(|session| session.talk == Talk::Gone) =>
        {
            actions.push(Action::NodeExits { at });
        }
        Phase::Off | Phase::Serving | Phase::Persisting | Phase::Closing => {}
    }
}

impl Action {
    /// Whether it may go wrong, and need not.
    pub(crate) fn is_fault(self) -> bool {
        match self {
            Self::ClientMoves
            | Self::ClientCloses
            | Self::ClientLeaves
            | Self::StoreRefuses { .. }
            | Self::NodeCrashes { .. }
            | Self::ShutdownBegins { .. }
            | Self::NodeGivesUpAndSaysGoodbye { .. }
            | Self::NodeIsCutShort { .. }
            | Self::LinkBreaks { .. }
            | Self::StoreRestarts
            | Self::Pushes { .. } => true,
            Self::ClientConnects { .. }
            | Self::ClientSends
            | Self::ClientReads
            | Self::ClientSeesTheEnd
            | Self::NodeReads { .. }
            | Self::NodeReadsClose { .. }
            | Self::ClientConfirms
            | Self::NodeReadsConfirmation { .. }
            | Self::NodeSeesConnectionGone { .. }
            | Self::StoreCarriesOut { .. }
            | Self::StoreCarriesOutLateRequest { .. }
            | Self::NodeHearsAnswer { .. }
            | Self::NodeHearsOfNewerClaim { .. }
            | Self::NodeHearsOfPush { .. }
            | Self::LinkComesUp { .. }
            | Self::NodeLetsClientGo { .. }
            | Self::NodeStopsReading { .. }
            | Self::NodeHasSavedAndSaysGoodbye { .. }
            | Self::NodeExits { .. }
            | Self::NodeStarts { .. } => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |at: NodeId| ["A", "B"][at];
        match *self {
            Self::ClientConnects { to } => write!(f, "the client connects to {}", name(to)),
            Self::ClientSends => write!(f, "the client sends its next message"),
            Self::ClientReads => write!(f, "the client reads what it was told"),
            Self::ClientSeesTheEnd => write!(f, "the client sees its connection end"),
            Self::ClientLeaves => f.write_str("the client says that it sends no more"),
            Self::ClientCloses => write!(f, "the client sends its Close"),
            Self::ClientMoves => write!(f, "the client loses its connection"),
            Self::ClientConfirms => write!(f, "the client says which pushes it has received"),
            Self::Pushes { at } => write!(f, "{} pushes to the client's session", name(at)),
            Self::NodeReadsConfirmation { at } => write!(f, "{} reads the confirmation", name(at)),
            Self::NodeHearsOfPush { at } => write!(f, "{} hears of a push", name(at)),
            Self::NodeReads { at, messages } => write!(f, "{} counts {messages}", name(at)),
            Self::NodeReadsClose { at } => write!(f, "{} reads the client's Close", name(at)),
            Self::NodeSeesConnectionGone { at, .. } => {
                write!(f, "{} sees that the client has gone", name(at))
            }
            Self::StoreCarriesOut { of } => write!(f, "the store does what {} asks", name(of)),
            Self::StoreCarriesOutLateRequest { of } => {
                write!(
                    f,
                    "the store does what {} asked over a link that is gone",
                    name(of)
                )
            }
            Self::StoreRefuses { of } => write!(f, "the store refuses what {} asks", name(of)),
            Self::NodeHearsAnswer { at } => write!(f, "{} hears the store's answer", name(at)),
            Self::NodeHearsOfNewerClaim { at } => write!(f, "{} hears of a newer claim", name(at)),
            Self::LinkComesUp { at } => write!(f, "{} reaches the store again", name(at)),
            Self::LinkBreaks { at, kept } => {
                write!(
                    f,
                    "{} loses its link ({kept} requests are with the store)",
                    name(at)
                )
            }
            Self::StoreRestarts => write!(f, "the store restarts"),
            Self::ShutdownBegins { at } => write!(f, "{} is asked to shut down", name(at)),
            Self::NodeLetsClientGo { at } => write!(f, "{} lets the client go", name(at)),
            Self::NodeStopsReading { at } => write!(f, "{} reads nothing any more", name(at)),
            Self::NodeHasSavedAndSaysGoodbye { at } => {
                write!(f, "{} has saved all, and says goodbye", name(at))
            }
            Self::NodeGivesUpAndSaysGoodbye { at, spill_is_full } => {
                let what = ["spills", "cannot spill"][usize::from(spill_is_full)];
                write!(
                    f,
                    "{} gives up on the store, {what}, and says goodbye",
                    name(at)
                )
            }
            Self::NodeIsCutShort { at, kept } => {
                write!(
                    f,
                    "{} spills and exits ({kept} requests are with the store)",
                    name(at)
                )
            }
            Self::NodeExits { at } => write!(f, "{} exits", name(at)),
            Self::NodeStarts { at } => write!(f, "{} starts, and reaches the store", name(at)),
            Self::NodeCrashes { at, kept } => {
                write!(
                    f,
                    "{} crashes ({kept} requests are with the store)",
                    name(at)
                )
            }
        }
    }
}

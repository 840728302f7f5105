//! The whole as a state machine: one client, two nodes, one store, and all that may go wrong.

use std::sync::Arc;

use stateright::{Model, Property};

use crate::action::{self, Action};
use crate::client::{Client, Outbox};
use crate::events::Seen;
use crate::flaws::Protocol;
use crate::node::Node;
use crate::rank::Rank;
use crate::step::Step;
use crate::store::{MESSAGES_MAX, Store};

/// What is explored: how many messages, and how much may go wrong.
#[derive(Clone, Debug)]
pub(crate) struct Sundown {
    pub(crate) messages: u64,
    pub(crate) faults: Faults,
    pub(crate) protocol: Protocol,
    pub(crate) seen: Arc<Seen>,
}

/// How often each may still happen, on either node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub(crate) crashes: u8,
    pub(crate) shutdowns: u8,
    /// Shutdowns in which the client may leave before the node has stopped reading.
    pub(crate) drains: u8,
    /// Links to the store that break.
    pub(crate) link_losses: u8,
    /// All links at once, with all that was under way.
    pub(crate) store_restarts: u8,
    /// Connections that the client loses, or leaves for another.
    pub(crate) moves: u8,
    /// Closing handshakes that the client begins.
    pub(crate) closes: u8,
    /// Shutdowns in which the spill takes nothing.
    pub(crate) full_disks: u8,
    /// Claims, saves and rows of a replay that the store refuses by themselves.
    pub(crate) refusals: u8,
    /// No fault: pushes to the client's session from outside of its steps. If there may be any,
    /// each message has its session push to itself as well.
    pub(crate) pushes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) client: Client,
    pub(crate) nodes: [Node; 2],
    pub(crate) store: Store,
    pub(crate) left: Faults,
    /// For the check alone: the epochs under which each node has acknowledged, as bits.
    pub(crate) spoke: [u32; 2],
    pub(crate) broken: BrokenSet,
    /// Of all the rest, so that it is computed once.
    pub(crate) rank: Rank,
}

/// A promise that a step can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A hello showed less than the client had been told before.
    Lost,
    /// The store took a message twice.
    CountedTwice,
    /// The effect of a message was carried out twice, or not at all.
    Effects,
    /// A message got a number that is not its own.
    NotExact,
    /// A shutdown said that all is safe, and it was not.
    ExitLied,
    /// A client completed the closing handshake, and not all that it had sent was in the store.
    Barrier,
    /// A step that is no fault did not bring the end nearer.
    NoProgress,
    /// A push came to the client for the second time, or before the one with the number below.
    PushOrder,
    /// A push came to the client that is not in its mailbox with this number.
    PushUnknown,
    /// Whoever has pushed was told what is not so.
    Receipt,
    /// A node has taken a mailbox for lost.
    MailboxLost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct BrokenSet(u16);

impl State {
    /// The client has received all pushes, and the store knows it.
    fn has_all_pushes(&self) -> bool {
        let sent = self.store.sent();
        self.client.received == sent && self.store.confirmed() == sent
    }
}

impl BrokenSet {
    pub(crate) fn insert(&mut self, broken: Broken) {
        self.0 |= 1 << broken as u8;
    }

    pub(crate) fn has(self, broken: Broken) -> bool {
        self.0 & 1 << broken as u8 != 0
    }
}

impl Sundown {
    pub(crate) fn new(messages: u64, faults: Faults, protocol: Protocol) -> Self {
        assert!(messages <= MESSAGES_MAX as u64 && faults.pushes <= MESSAGES_MAX as u8);
        Self {
            messages,
            faults,
            protocol,
            seen: Arc::default(),
        }
    }

    /// Nothing is left to do but what is a fault.
    fn is_quiet(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        action::regular(state, self.protocol, &mut actions);
        actions.is_empty()
    }

    /// Everything is acknowledged, and the store has it.
    fn is_done(&self, state: &State) -> bool {
        state.client.outbox.is_done() && state.store.count() == self.messages
    }
}

impl Model for Sundown {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let start = State {
            client: Client {
                outbox: Outbox::of(self.messages),
                received: 0,
                line: None,
            },
            nodes: [Node::started(), Node::started()],
            store: Store::new(self.faults.pushes > 0),
            left: self.faults,
            spoke: [0; 2],
            broken: BrokenSet::default(),
            rank: Rank::default(),
        };
        let mut step = Step {
            model: self,
            state: start,
        };
        // The nodes are alike: whichever the client chooses first, call it the first.
        step.perform(Action::ClientConnects { to: 0 });
        step.state.rank = Rank::of(&step.state);
        vec![step.state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        action::regular(state, self.protocol, actions);
        action::faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut step = Step {
            model: self,
            state: last.clone(),
        };
        step.perform(action);
        step.state.normalize(self.protocol);
        step.state.rank = Rank::of(&step.state);
        if !action.is_fault() && step.state.rank >= last.rank {
            step.state.broken.insert(Broken::NoProgress);
        }
        Some(step.state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no acknowledged message is lost", |_, state: &State| {
                !state.broken.has(Broken::Lost)
            }),
            Property::always(
                "what is acknowledged is in the store",
                |_, state: &State| state.client.outbox.acknowledged() <= state.store.count(),
            ),
            Property::always("no message is counted twice", |_, state: &State| {
                !state.broken.has(Broken::CountedTwice)
            }),
            Property::always(
                "count and state are of the same step",
                |_, state: &State| state.store.is_consistent(),
            ),
            Property::always("every effect is carried out once", |_, state: &State| {
                !state.broken.has(Broken::Effects)
            }),
            Property::always(
                "a message is counted as its own number",
                |_, state: &State| !state.broken.has(Broken::NotExact),
            ),
            Property::always("one node acknowledges for an epoch", |_, state: &State| {
                state.spoke[0] & state.spoke[1] == 0
            }),
            Property::always("exit code 0 means that all is safe", |_, state: &State| {
                !state.broken.has(Broken::ExitLied)
            }),
            Property::always(
                "the closing handshake waits for the save",
                |_, state: &State| !state.broken.has(Broken::Barrier),
            ),
            Property::always(
                "without more faults, all is acknowledged",
                |model, state: &State| model.is_done(state) || !model.is_quiet(state),
            ),
            Property::always("each push arrives once, in order", |_, state: &State| {
                !state.broken.has(Broken::PushOrder)
            }),
            Property::always("only what is accepted arrives", |_, state: &State| {
                !state.broken.has(Broken::PushUnknown)
            }),
            Property::always("no accepted push is lost", |_, state: &State| {
                state.store.keeps_pushes()
            }),
            Property::always("only what has arrived is confirmed", |_, state: &State| {
                state.store.confirmed() <= state.client.received
            }),
            Property::always("a receipt is true", |_, state: &State| {
                !state.broken.has(Broken::Receipt)
            }),
            Property::always("no mailbox is taken for lost", |_, state: &State| {
                !state.broken.has(Broken::MailboxLost)
            }),
            Property::always(
                "without more faults, all pushes arrive",
                |model, state: &State| state.has_all_pushes() || !model.is_quiet(state),
            ),
            Property::always("without more faults, an end comes", |_, state: &State| {
                !state.broken.has(Broken::NoProgress)
            }),
        ]
    }
}

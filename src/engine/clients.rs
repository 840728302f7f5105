//! The WebSocket connections as the engine knows them, at the slots that the shell gave them.

use super::io::{CloseReason, ConnId, Protocol};
use super::session::ClientSession;
use crate::slots::table::Table;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// What it understands.
    pub(super) protocol: Protocol,
    /// Its session; an ephemeral one after it has lost its own.
    pub(super) session: ClientSession,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Whether the shell has been told not to read from it.
    pub(super) paused: bool,
    /// A Close that waits until the replies before it have left.
    pub(super) close: Option<Box<CloseReason>>,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its session is asked for; nothing is read yet.
    Waiting,
    /// Messages are processed and answered.
    Open,
    /// Goodbye and Close are sent; what still comes is counted, and not answered.
    Bidden,
    /// A Close was sent for another reason; what still comes is dropped.
    Closing,
    /// The peer has closed; its session's save is awaited, then ours follows.
    PeerClosed,
}

/// All clients, by slot.
#[derive(Debug, Default)]
pub(super) struct Clients(Table<(u32, Client)>);

impl Clients {
    /// Takes in a client at the slot of its connection, which the shell uses again only after the
    /// engine has forgotten the one before.
    pub(super) fn insert(&mut self, conn: ConnId, client: Client) {
        self.0.put(conn.slot, (conn.generation, client));
    }

    /// The client, if it is still there.
    pub(super) fn get(&self, conn: ConnId) -> Option<&Client> {
        let (generation, client) = self.0.get(conn.slot)?;
        (*generation == conn.generation).then_some(client)
    }

    /// The client, to change it.
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        let (generation, client) = self.0.get_mut(conn.slot)?;
        (*generation == conn.generation).then_some(client)
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Client> {
        self.get(conn)?;
        self.0.remove(conn.slot).map(|(_, client)| client)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first slot from which on there is no client: the end of a walk by [`Clients::at`]. It
    /// may lie before the place that a walk has come to, which has seen all of them then.
    pub(super) fn slots_end(&self) -> usize {
        self.0.rows_len()
    }

    /// The client at a slot, for walks that go on over several turns.
    pub(super) fn at(&self, slot: usize) -> Option<(ConnId, &Client)> {
        let slot = slot as u32;
        let &(generation, ref client) = self.0.get(slot)?;
        Some((ConnId { slot, generation }, client))
    }
}

//! The clients: WebSocket connections, at the slots that the shell gave them.

use std::time::Instant;

use super::app::Tells;
use super::io::{CloseReason, ConnId, Protocol, Received, SessionKey};
use super::session::ClientSession;
use super::step::State;
use crate::slots::SlotSet;
use crate::slots::table::Table;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    protocol: Protocol,
    tells: Tells,
    session: ClientSession,
    stage: Stage,
    /// Whether the store knew its session.
    is_resumed: bool,
    /// The application has been told that it came, and not that it went.
    is_known: bool,
    /// Whether the shell has been told not to read from it.
    is_paused: bool,
    /// What few clients have.
    rare: Option<Box<Rare>>,
}

/// Apart, since a client at rest must cost little memory.
#[derive(Debug, Default)]
struct Rare {
    /// A Close that waits until the replies before it have left.
    close: Option<CloseReason>,
    /// The state of an ephemeral session.
    state: State,
    /// The step that is open.
    open_step: Option<u64>,
    /// Which push it had received last when it came.
    received: Received,
    /// When its session is to be woken.
    wake_at: Option<Instant>,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its session is claimed; nothing is read yet.
    Waiting,
    /// Messages are processed and answered.
    Open,
    /// Goodbye and Close are sent; late messages are processed, and not answered.
    GoodbyeSent,
    /// A Close is sent for another reason; late messages are dropped.
    Closing,
    /// The peer has closed; it is finished once its session is saved.
    PeerClosed,
}

impl Client {
    /// A client that is read from.
    pub(super) fn new(
        protocol: Protocol,
        tells: Tells,
        session: ClientSession,
        stage: Stage,
    ) -> Self {
        Self {
            protocol,
            tells,
            session,
            stage,
            is_resumed: false,
            is_known: false,
            is_paused: false,
            rare: None,
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What it is told by sundown itself.
    pub(super) fn tells(&self) -> Tells {
        self.tells
    }

    /// Its session is granted, and the application is told.
    pub(super) fn open(&mut self, is_resumed: bool) {
        self.stage = Stage::Open;
        self.is_resumed = is_resumed;
        self.is_known = true;
    }

    /// Whether the application knows of it.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The application is told that it went. Returns whether that is owed.
    pub(super) fn take_known(&mut self) -> bool {
        std::mem::take(&mut self.is_known)
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Its session; an ephemeral one after it has lost its own.
    pub(super) fn session(&self) -> ClientSession {
        self.session
    }

    /// Counts a message in its ephemeral session.
    pub(super) fn count(&mut self, counts: bool) {
        if let ClientSession::Ephemeral(count) = &mut self.session {
            *count += u64::from(counts);
        }
    }

    /// Takes its session from it.
    pub(super) fn take_session(&mut self) -> ClientSession {
        std::mem::replace(&mut self.session, ClientSession::EPHEMERAL)
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether to read from it. Returns whether that has changed.
    pub(super) fn set_paused(&mut self, paused: bool) -> bool {
        std::mem::replace(&mut self.is_paused, paused) != paused
    }

    /// A Close waits until the replies before it have left.
    pub(super) fn close_later(&mut self, reason: CloseReason) {
        self.rare.get_or_insert_default().close = Some(reason);
    }

    /// The Close that waits.
    pub(super) fn take_close(&mut self) -> Option<CloseReason> {
        self.rare.as_mut()?.close.take()
    }

    /// The step that is open: until it ends nothing is read from the client.
    pub(super) fn open_step(&self) -> Option<u64> {
        self.rare.as_ref()?.open_step
    }

    pub(super) fn set_open_step(&mut self, step: Option<u64>) {
        if step.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().open_step = step;
        }
    }

    /// It has received pushes up to this number on another connection.
    pub(super) fn set_received(&mut self, received: Received) {
        if received.number > 0 {
            self.rare.get_or_insert_default().received = received;
        }
    }

    pub(super) fn received(&self) -> Received {
        let rare = self.rare.as_ref();
        rare.map_or(Received::default(), |rare| rare.received)
    }

    /// When its session is to be woken.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.rare.as_ref()?.wake_at
    }

    /// Returns when it was to be woken before.
    pub(super) fn set_wake_at(&mut self, at: Option<Instant>) -> Option<Instant> {
        std::mem::replace(&mut self.rare.get_or_insert_default().wake_at, at)
    }

    /// Its session is a stored one from here on.
    pub(super) fn set_session(&mut self, key: SessionKey) {
        self.session = ClientSession::Stored(key);
    }

    /// The state of its ephemeral session.
    pub(super) fn state(&self) -> &State {
        self.rare.as_ref().map_or(State::NONE, |rare| &rare.state)
    }

    pub(super) fn state_mut(&mut self) -> &mut State {
        &mut self.rare.get_or_insert_default().state
    }
}

/// All clients, by slot.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: Table<(u32, Client)>,
    /// Those who send no more messages.
    leaving: SlotSet,
    /// Those of them who wait for their goodbye.
    waiting: SlotSet,
}

impl Clients {
    /// Takes in a client at the slot of its connection, which the shell uses again only after the
    /// engine has forgotten the one before.
    pub(super) fn insert(&mut self, conn: ConnId, client: Client) {
        self.all.put(conn.slot, (conn.generation, client));
    }

    /// The client, if it is still there.
    pub(super) fn get(&self, conn: ConnId) -> Option<&Client> {
        let (generation, client) = self.all.get(conn.slot)?;
        (*generation == conn.generation).then_some(client)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        let (generation, client) = self.all.get_mut(conn.slot)?;
        (*generation == conn.generation).then_some(client)
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Client> {
        self.get(conn)?;
        self.leaving.remove(conn.slot);
        self.waiting.remove(conn.slot);
        self.all.remove(conn.slot).map(|(_, client)| client)
    }

    /// How far a client has come.
    pub(super) fn enter(&mut self, conn: ConnId, stage: Stage) {
        if let Some(client) = self.get_mut(conn) {
            client.stage = stage;
            self.waiting.remove(conn.slot);
        }
    }

    /// The client sends no more messages.
    pub(super) fn leave(&mut self, conn: ConnId) {
        if let Some(client) = self.get(conn) {
            if client.stage == Stage::Open {
                self.waiting.insert(conn.slot);
            }
            self.leaving.insert(conn.slot);
        }
    }

    /// Whether it has said so.
    pub(super) fn is_leaving(&self, conn: ConnId) -> bool {
        self.get(conn).is_some() && self.leaving.contains(conn.slot)
    }

    /// Whether it has said so, and nobody has begun to close since.
    pub(super) fn waits_for_slot(&self, conn: ConnId) -> bool {
        self.get(conn).is_some() && self.waiting.contains(conn.slot)
    }

    /// How many have said so, and nobody has begun to close since.
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// How many have said so, and are being closed.
    pub(super) fn left_len(&self) -> usize {
        self.leaving.len() - self.waiting.len()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The end of the slots, for [`Clients::at`]. It may fall below a cursor that goes on over
    /// several turns.
    pub(super) fn slots_end(&self) -> usize {
        self.all.rows_len()
    }

    pub(super) fn at(&self, slot: usize) -> Option<(ConnId, &Client)> {
        let slot = slot as u32;
        let &(generation, ref client) = self.all.get(slot)?;
        Some((ConnId { slot, generation }, client))
    }
}

//! Pushes from outside of a step: other threads ask for them, and the application in
//! `on_shutdown`.
//!
//! It owns the session of the process's own whose steps they are: so a commit that was repeated
//! pushes nothing twice, as for any session. Nobody else can know its name, and none is claimed. It
//! owns the receipts, too: each is answered once.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;

use rand::RngExt as _;

use super::Engine;
use super::io::{SessionId, SessionKey};
use super::mailbox::{PushRefused, Pushed};
use super::receipt::{PushError, PushRequest, Told, tell};
use super::step::{Letter, State, Step};

/// The process's own session, and who waits for its steps.
#[derive(Debug, Default)]
pub(super) struct Own {
    key: Option<SessionKey>,
    /// By the number of the step.
    receipts: VecDeque<(u64, Sender<Told>)>,
    /// The step of what the application pushes in `on_shutdown`, until the store has it.
    farewell: Option<u64>,
}

/// Pushes from outside of a step that wait for the store: with more, the next ones wait with those
/// who ask.
const WAITING_MAX: usize = 1_024;

/// The same in bytes: a store in this process writes all of them in one turn.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

impl Own {
    /// Whether it is this session.
    pub(super) fn is(&self, key: SessionKey) -> bool {
        self.key == Some(key)
    }

    /// This has come of a push in this step.
    pub(super) fn answer(&mut self, step: u64, outcome: Pushed) {
        while let Some((waiting, _)) = self.receipts.front()
            && *waiting <= step
            && let Some((waiting, receipt)) = self.receipts.pop_front()
        {
            if waiting == step {
                return tell(
                    &receipt,
                    match outcome {
                        Pushed::Accepted(number) => Ok(number),
                        Pushed::Refused(PushRefused::Full) => Err(PushError::Full),
                        Pushed::Refused(PushRefused::Unknown) => Err(PushError::Unknown),
                        Pushed::Before => Err(PushError::AnswerLost),
                    },
                );
            }
        }
    }
}

impl Engine {
    /// Whether pushes from outside of a step are taken now: those that are not wait.
    pub fn has_room_for_pushes(&self) -> bool {
        let (waiting, bytes) = self.hub.key.map_or((0, 0), |key| self.sessions.posted(key));
        // Those that come too late are refused at once.
        let has_room = waiting < WAITING_MAX && bytes < WAITING_BYTES_MAX;
        has_room || self.saving.is_persisting()
    }

    /// Another thread pushes.
    pub(super) fn push(&mut self, request: PushRequest) {
        if self.saving.is_persisting() {
            return request.refuse(PushError::ShuttingDown);
        }
        let PushRequest { to, body, receipt } = request;
        let to = Some(to);
        let step = self.step_outside(vec![Letter { to, body }]);
        self.hub.receipts.push_back((step, receipt));
    }

    /// The process pushes these. Returns the number of the step.
    pub(super) fn step_outside(&mut self, letters: Vec<Letter>) -> u64 {
        let key = self.own_session();
        self.sessions.post(key, Step::default(), letters);
        self.saving.save_soon();
        self.sessions.latest_step(key)
    }

    /// The application has pushed this in `on_shutdown`: no goodbye comes before it is committed, but
    /// for those at the end of the shutdown's phases.
    pub(super) fn say_farewell(&mut self, letters: Vec<Letter>) {
        self.hub.farewell = Some(self.step_outside(letters));
    }

    /// Whether that waits for the store.
    pub(super) fn owes_farewell(&self) -> bool {
        let owed = self.hub.key.zip(self.hub.farewell);
        owed.is_some_and(|(key, step)| !self.sessions.has_saved(key, step))
    }

    /// The store has some of the process's own steps: clients may wait for that with their goodbye.
    pub(super) fn look_at_farewell(&mut self) {
        if self.hub.farewell.is_some() && !self.owes_farewell() {
            self.hub.farewell = None;
            self.for_each_client(Self::look_at_slot);
        }
    }

    fn own_session(&mut self) -> SessionKey {
        if let Some(key) = self.hub.key
            && self.sessions.get(key).is_some()
        {
            return key;
        }
        let id = SessionId::from_random(self.rng.random());
        let key = self.sessions.begin(id, None, 0, State::default());
        self.hub.key = Some(key);
        key
    }
}

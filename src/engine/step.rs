//! What a step does to a session, and what a session holds after it: plain values.
//!
//! A step is whatever changes a session: a message, a timer, an open, a close, a confirmation. Its
//! number is counted within the epoch. A step never commits itself: the store is handed what the
//! session holds after its latest one, whole.

use std::fmt;
use std::sync::Arc;

use super::ids::SessionId;
use super::mailbox::Body;

/// What a step changes, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// It counts: it is a message.
    pub counts: bool,
    /// The session's new state; `None` leaves it as it is.
    pub state: Option<State>,
}

/// A push as a callback asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The session that it is for; `None`: the one of the step.
    pub to: Option<SessionId>,
    /// The message.
    pub body: Body,
}

/// What a session holds after a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The epoch of the claim that created the session: another one means that the session began
    /// anew, and its count at 0. A record of version 0.1.0 has 0 until its next claim.
    pub incarnation: u64,
    /// The number of the step in its epoch; 0 when the session is claimed.
    pub step: u64,
    /// Messages processed so far.
    pub count: u64,
    /// The application's.
    pub state: State,
}

impl Snapshot {
    /// After so many messages, all of them in this epoch, without a state: for tests.
    pub fn counted(count: u64) -> Self {
        Self {
            incarnation: 1,
            step: count,
            count,
            state: State::default(),
        }
    }

    /// Whether there is nothing in it that a new session would not have.
    pub fn is_blank(&self) -> bool {
        self.count == 0 && self.state.is_empty()
    }
}

/// A session's state: bytes that mean something to the application alone. A copy shares them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct State(Option<Arc<[u8]>>);

impl State {
    /// The most bytes of a state: each commit carries all of them.
    pub const MAX: usize = 64 * 1024;

    /// An empty one.
    pub(super) const NONE: &'static Self = &Self(None);

    /// A state of these bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, StateTooBig> {
        if bytes.len() > Self::MAX {
            return Err(StateTooBig { bytes: bytes.len() });
        }
        // An empty one costs no allocation, here and in each copy.
        Ok(Self((!bytes.is_empty()).then(|| bytes.into())))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has none, as that of a new session.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// Its length only: what is in it is the application's secret.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} bytes)", self.len())
    }
}

/// A state would be longer than [`State::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTooBig {
    /// How long.
    pub bytes: usize,
}

impl fmt::Display for StateTooBig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, max) = (self.bytes, State::MAX);
        write!(
            f,
            "a state of {bytes} bytes, and a session's has {max} at most"
        )
    }
}

impl std::error::Error for StateTooBig {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_its_limit() {
        let longest = vec![7; State::MAX];
        let state = State::new(&longest).unwrap();
        assert_eq!((state.as_bytes(), state.len()), (&longest[..], State::MAX));
        assert_eq!(format!("{state:?}"), "State(65536 bytes)");
        let error = State::new(&vec![7; State::MAX + 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a state of 65537 bytes, and a session's has 65536 at most"
        );
    }

    #[test]
    fn an_empty_state_is_that_of_a_new_session() {
        assert_eq!(State::new(b"").unwrap(), State::default());
        assert!(State::default().is_empty());
        assert!(!State::new(b"0").unwrap().is_empty());
    }
}

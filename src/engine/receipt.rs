//! A push that another thread asks for, and how it is told what has come of it: once, or that the
//! server has ended.

use std::fmt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::ids::SessionId;
use super::mailbox::{Body, Mailbox, PushRefused};

/// What has become of a push.
pub(super) type Told = Result<u64, PushError>;

/// Whoever asked may have gone.
pub(super) fn tell(receipt: &Sender<Told>, told: Told) {
    receipt.send(told).unwrap_or_default();
}

/// A push that another thread asks for.
#[derive(Debug)]
pub struct PushRequest {
    pub(super) to: SessionId,
    pub(super) body: Body,
    pub(super) receipt: Sender<Told>,
}

impl PushRequest {
    /// Returns also where its outcome is told.
    pub fn new(to: SessionId, body: Body) -> (Self, Receipt) {
        let (receipt, told) = mpsc::channel();
        (Self { to, body, receipt }, Receipt(told))
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    /// It is refused before the store has seen it.
    pub(crate) fn refuse(self, why: PushError) {
        tell(&self.receipt, Err(why));
    }
}

/// What comes of a push: its number, once it is committed.
#[derive(Debug)]
pub struct Receipt(Receiver<Result<u64, PushError>>);

impl Receipt {
    /// Waits until it is known.
    pub fn wait(self) -> Result<u64, PushError> {
        self.0.recv().unwrap_or(Err(PushError::Stopped))
    }

    /// Waits so long at most; `None`: it is not known yet.
    pub fn wait_for(&self, timeout: Duration) -> Option<Result<u64, PushError>> {
        match self.0.recv_timeout(timeout) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(PushError::Stopped)),
        }
    }
}

/// Why a push has no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// Too many pushes wait for this session, or too many bytes of them: nothing was pushed.
    Full,
    /// There is no such session: nothing was pushed.
    Unknown,
    /// It is longer than a mailbox may be, which is 256 KiB: nothing was pushed.
    TooBig,
    /// Too many pushes wait for the store: nothing was pushed.
    TooMany,
    /// A shutdown is past its draining: nothing was pushed.
    ShuttingDown,
    /// The link to the store was lost before its answer came. The push was carried out, or refused.
    AnswerLost,
    /// The server has ended before the store has answered. The push may have been carried out, or
    /// may be later, from the spill.
    Stopped,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => PushRefused::Full.fmt(f),
            Self::Unknown => PushRefused::Unknown.fmt(f),
            Self::TooBig => write!(f, "a push of more than {} bytes", Mailbox::BYTES_MAX),
            Self::TooMany => f.write_str("too many pushes wait for the store"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::AnswerLost => f.write_str("the store's answer was lost"),
            Self::Stopped => f.write_str("the server has ended before the store has answered"),
        }
    }
}

impl std::error::Error for PushError {}

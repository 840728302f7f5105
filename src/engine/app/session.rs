//! A session as a callback sees it, and what the callback wants done.
//!
//! It collects the effects of one step and carries out none: if the step fails, nothing has
//! happened.

use std::borrow::Cow;
use std::time::Duration;

use super::deferred::{Deferred, Desk};
use crate::engine::ids::{ConnId, SessionId};
use crate::engine::io::CloseReason;
use crate::engine::mailbox::{Body, Mailbox};
use crate::engine::message::ServerMessage;
use crate::engine::step::{Letter, State, StateTooBig};

/// The session that a callback is called for, on one connection.
#[derive(Debug)]
pub struct Session<'a> {
    pub(crate) conn: ConnId,
    pub(crate) id: Option<&'a SessionId>,
    pub(crate) count: u64,
    pub(crate) incarnation: u64,
    /// Before this step.
    pub(crate) state: &'a State,
    pub(crate) is_resumed: bool,
    pub(crate) can_reply: bool,
    pub(crate) effects: &'a mut Effects,
    pub(crate) desk: &'a mut Desk,
}

/// What a callback wants done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) state: Option<State>,
    pub(crate) replies: Vec<ServerMessage>,
    pub(crate) close: Option<CloseReason>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) wake_in: Option<Duration>,
}

/// A close code that an application may not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCloseCode(pub u16);

impl std::fmt::Display for InvalidCloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.0;
        write!(
            f,
            "close code {code}: an application has 1000, 1003, 1008, 3000-3999 and 4010-4999"
        )
    }
}

impl std::error::Error for InvalidCloseCode {}

/// A push as a callback asks for it.
pub(super) fn letter(to: Option<SessionId>, body: Body) -> Result<Letter, PushTooBig> {
    if body.len() > Mailbox::BYTES_MAX {
        return Err(PushTooBig { bytes: body.len() });
    }
    Ok(Letter { to, body })
}

/// A push is longer than a mailbox may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushTooBig {
    /// How long.
    pub bytes: usize,
}

impl std::fmt::Display for PushTooBig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bytes, max) = (self.bytes, Mailbox::BYTES_MAX);
        write!(
            f,
            "a push of {bytes} bytes, and a mailbox has {max} at most"
        )
    }
}

impl std::error::Error for PushTooBig {}

impl Effects {
    /// Nothing is wanted any more.
    pub(crate) fn clear(&mut self) {
        self.state = None;
        self.replies.clear();
        self.close = None;
        self.letters.clear();
        self.wake_in = None;
    }
}

impl Session<'_> {
    /// The connection; unique as long as the server runs.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The session's id; `None` for a client whose session ends with its connection.
    pub fn id(&self) -> Option<&SessionId> {
        self.id
    }

    /// Messages processed in this session, the one that the callback is called for included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Which life of the session this is: with [`id`](Self::id) and [`count`](Self::count) it is the
    /// key for effects elsewhere that must not happen twice. It is another one after the session has
    /// expired or was lost, with or without its store, when its count begins at 1 again. 0 for a client
    /// whose session ends with its connection.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The session's state: what was last [set](Self::set_state), on whichever node. Empty at first.
    pub fn state(&self) -> &[u8] {
        self.effects.state.as_ref().unwrap_or(self.state).as_bytes()
    }

    /// Sets the state: at most 64 KiB ([`State::MAX`](crate::State::MAX)). It is committed with the
    /// message that the callback is called for, so that a client which comes back finds both or
    /// neither. Every commit of the session carries it whole.
    pub fn set_state(&mut self, state: &[u8]) -> Result<(), StateTooBig> {
        self.effects.state = Some(State::new(state)?);
        Ok(())
    }

    /// Whether the store knew the session before this connection.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Whether the client can still be sent something: not after the goodbye, and not once it is
    /// closed. A reply that cannot be sent is dropped.
    pub fn can_reply(&self) -> bool {
        self.can_reply
    }

    /// Leaves the step open, for what takes longer than a callback may: the message is counted,
    /// and all that was asked for is done, when [`Deferred::complete`] has run. Until then the
    /// session's next message waits. At most `Limits::deferred_max` steps are open before no client
    /// is read from any more. A second call takes the place of the first, which is cancelled.
    ///
    /// A lost connection does not end the step, if the session has a name; a newer connection that
    /// claims the session does. In a shutdown it has until the end of draining to be answered, and
    /// until the cut to be counted. In `on_close` a step cannot be deferred: the `Deferred` is
    /// cancelled then.
    ///
    /// ```
    /// use std::thread;
    /// use sundown::{Application, Message, Session};
    ///
    /// struct Slow;
    ///
    /// impl Application for Slow {
    ///     fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
    ///         let Message::Text(text) = message else { return };
    ///         let (text, deferred) = (text.to_owned(), session.defer());
    ///         thread::spawn(move || {
    ///             let answer = text.to_uppercase(); // something slow
    ///             deferred.complete(|session| session.reply_text(answer));
    ///         });
    ///     }
    /// }
    /// ```
    pub fn defer(&mut self) -> Deferred {
        self.desk.defer()
    }

    /// Calls [`on_timer`](crate::Application::on_timer) for this session after this time, once, unless
    /// its connection has been closed by then. A later call takes the place of an earlier one. The
    /// time begins when the step ends, and the session is not woken while a step of it is open. It is
    /// not stored: whoever needs it on the next connection asks again in `on_open`. A session that is
    /// woken at once, again and again, keeps the processor busy.
    pub fn wake_in(&mut self, after: Duration) {
        self.effects.wake_in = Some(after);
    }

    /// Sends a text message.
    pub fn reply_text(&mut self, text: impl Into<String>) {
        self.reply(ServerMessage::Text(text.into()));
    }

    /// Sends a binary message.
    pub fn reply_binary(&mut self, bytes: impl Into<Vec<u8>>) {
        self.reply(ServerMessage::Binary(bytes.into()));
    }

    /// Pushes a message to this session: to its client, wherever and whenever that is connected. The
    /// push is committed with the message that the callback is called for, and has a number then; the
    /// store keeps it until the client has received it. A client of `sundown.v2` gets each push
    /// once, in the order of their numbers; another one gets a bare message, which counts as received
    /// when the kernel has taken it.
    ///
    /// At most 256 pushes or 256 KiB of them are kept for a session ([`Mailbox`]). One that finds no
    /// room is refused by itself ([`on_push_refused`](crate::Application::on_push_refused)).
    pub fn push(&mut self, body: impl Into<Body>) -> Result<(), PushTooBig> {
        self.post(None, body.into())
    }

    /// The same to another session, on whichever node it is open, if it is. One that no store knows
    /// is refused.
    pub fn push_to(&mut self, to: &SessionId, body: impl Into<Body>) -> Result<(), PushTooBig> {
        self.post(Some(to.clone()), body.into())
    }

    /// Closes the connection, after the replies. The code is 1000, 1003, 1008 (RFC 6455, section
    /// 7.4.1), 3000–3999 or 4010–4999: the others cannot be sent, or are sundown's own. The text is
    /// cut to the 123 bytes that a Close frame can hold.
    pub fn close(
        &mut self,
        code: u16,
        text: impl Into<Cow<'static, str>>,
    ) -> Result<(), InvalidCloseCode> {
        if !matches!(code, 1000 | 1003 | 1008 | 3000..=3999 | 4010..=4999) {
            return Err(InvalidCloseCode(code));
        }
        if self.can_reply {
            let text = text.into();
            self.effects.close = Some(CloseReason::Application { code, text });
        }
        Ok(())
    }

    fn post(&mut self, to: Option<SessionId>, body: Body) -> Result<(), PushTooBig> {
        self.effects.letters.push(letter(to, body)?);
        Ok(())
    }

    fn reply(&mut self, message: ServerMessage) {
        if self.can_reply {
            self.effects.replies.push(message);
        }
    }
}

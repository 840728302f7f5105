//! What goes into the engine, what comes out, and the types that both sides share.
//!
//! These are plain values: no socket, no file descriptor, no clock, and no type of mio, tungstenite
//! or redis.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

pub use super::app::Tells;
pub use super::ids::{ConnId, InvalidSessionId, SessionId, SessionKey};
pub use super::mailbox::{Body, Mail, Mailbox, Push, PushRefused, Pushed, Received};
pub use super::message::Protocol;
use super::message::v2::Invalid;
use super::message::{Message, ServerMessage};
pub use super::receipt::PushRequest;
use super::shutdown::Request;
pub use super::step::{Snapshot, State, StateTooBig};

/// The turn's time, read once at its start: a monotonic instant for deadlines and the wall clock,
/// in milliseconds since the Unix epoch, for timestamps and expiry.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines and durations; never goes back.
    pub instant: Instant,
    /// Milliseconds since 1970-01-01T00:00:00Z; may jump when the clock is set.
    pub unix_ms: u64,
}

/// Ask the store for the next epoch of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Comes back with the answer.
    pub key: SessionKey,
    /// The session to open.
    pub session: SessionId,
    /// Random, one for each opening: a store that has already granted this very claim answers
    /// with the same epoch again, so that a claim may be repeated when its answer was lost.
    pub token: u64,
}

/// What a claim is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The epoch to commit with.
    pub epoch: u64,
    /// Whether the store knew the session before.
    pub found: bool,
    /// What the store holds of the session. Its step is 0, unless the claim was repeated after a
    /// commit under its epoch.
    pub snapshot: Snapshot,
    /// The pushes to the session.
    pub mailbox: Mailbox,
}

/// Ask the store to keep what a session holds, all of it: so a record that was lost is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Comes back with the answer.
    pub key: SessionKey,
    /// The session to save.
    pub session: SessionId,
    /// The epoch that the session was claimed with; a newer one in the store refuses the commit.
    pub epoch: u64,
    /// After the session's latest step. Within an epoch a store takes only what is of a later step
    /// than what it holds.
    pub snapshot: Snapshot,
    /// What it does to mailboxes; `None`: nothing. A batch has only commits with it, or only commits
    /// without.
    pub mail: Option<Box<Mail>>,
}

impl Commit {
    /// What the session's steps push.
    pub fn pushes(&self) -> &[Push] {
        self.mail.as_ref().map_or(&[], |mail| &mail.pushes)
    }
}

/// Ask the store for the pushes to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadMailbox {
    /// Comes back with the answer.
    pub key: SessionKey,
    /// The session.
    pub session: SessionId,
}

/// Whether what was written is on the disk, and not only in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// All of it.
    Synced,
    /// Not all of it, as far as is known: the disk was not asked, or has not answered.
    Unfinished,
    /// The disk has refused: what was written may be lost.
    Failed,
}

/// What a store answers, in the order of the commands.
#[derive(Debug)]
pub enum StoreEvent {
    /// The store can be asked. Whatever was asked before it went down and was not answered must
    /// be asked again.
    Up,
    /// The store is out of reach: what was asked and not answered is forgotten.
    Down {
        /// For the log, without secrets.
        reason: String,
    },
    /// What the store has confirmed is gone: its file was removed, replaced or damaged. `Down`
    /// follows, unless the store is down already; a later `Up` says that the file is there again.
    Lost {
        /// For the log, without secrets.
        reason: String,
    },
    /// The store does not answer in good time, but nothing is forgotten yet.
    Stalled,
    /// A stalled store answers again.
    Resumed,
    /// A claim was granted.
    Claimed {
        /// The key of the claim.
        key: SessionKey,
        /// What it is answered.
        grant: Grant,
    },
    /// A batch was carried out.
    Committed {
        /// The batch, handed back, less the commits that were refused ([`StoreEvent::Refused`]). It
        /// is the last answer to the batch, and comes if nothing is left of it, too.
        batch: Vec<Commit>,
        /// Positions in the batch, ascending, that were refused because a newer claim exists.
        fenced: Vec<usize>,
        /// What has become of the pushes of all other commits in the batch, in their order.
        pushed: Vec<Pushed>,
    },
    /// What a mailbox holds.
    Mailbox {
        /// The key of the request.
        key: SessionKey,
        /// The pushes; an empty one if the store does not know the session.
        mailbox: Mailbox,
    },
    /// Somebody else has pushed to a session that may be open here. A store that several processes
    /// share says so, soon, or when it is asked for the next commit of the session. It may say so
    /// more than once, and of this process's own pushes.
    Mail {
        /// The session.
        session: SessionId,
        /// The number of its latest push, or of an earlier one.
        sent: u64,
    },
    /// The store answers, and does not carry out this one request: its record is unusable, or
    /// there is no room for it. No other request is affected.
    Refused {
        /// What was asked.
        request: Refused,
        /// For the log: without secrets, and without the session.
        reason: String,
    },
    /// Everything saved so far is as durable as the store can make it.
    Synced,
    /// A batch is in the spill, or is not: only where there is a spill.
    Spilled {
        /// The batch, handed back.
        batch: Vec<Commit>,
        /// All of it is where it survives the process. Otherwise none of it is.
        kept: bool,
    },
    /// Another connection, here or on another node, has claimed this session with this epoch. Only
    /// a store that several processes share needs to say so.
    TakenOver {
        /// The session.
        session: SessionId,
        /// The newer epoch.
        epoch: u64,
    },
}

/// A request that a store refuses by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This claim. It is over.
    Claim(SessionKey),
    /// This mailbox cannot be read.
    Read(SessionKey),
    /// This commit, of a batch whose `Committed` follows. The session is not in the store, until a later
    /// commit of it is taken.
    Commit(Commit),
}

/// What the engine asks of the store; the shell hands it over once a turn, in this order.
#[derive(Debug)]
pub enum StoreCommand {
    /// Save these; [`StoreEvent::Committed`] hands the batch back, less what was refused.
    Commit(Vec<Commit>),
    /// Give this session's next epoch; [`StoreEvent::Claimed`] or [`StoreEvent::Refused`] answers.
    Claim(Claim),
    /// Give the pushes to this session; [`StoreEvent::Mailbox`] or [`StoreEvent::Refused`] answers.
    Read(ReadMailbox),
    /// Make everything saved so far as durable as the store can: [`StoreEvent::Synced`].
    Sync,
}

/// A message to every client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// The whole message.
    pub text: Arc<str>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a broadcast comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An operator's request on this connection. The answer is the number of clients that it was
    /// queued for.
    Operator(ConnId),
    /// Another thread of this process, which was promised that it goes to all clients.
    Handle,
    /// Another node, which has promised the same.
    Node,
}

/// What has happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A WebSocket handshake is complete.
    Opened {
        /// The new connection.
        conn: ConnId,
        /// Which messages the client understands.
        protocol: Protocol,
        /// What it is told beside.
        tells: Tells,
        /// The session that it asks for.
        session: Option<SessionId>,
        /// Which push it has received last.
        received: Received,
    },
    /// A data message has arrived whole.
    Message {
        /// The connection.
        conn: ConnId,
        /// The message.
        message: Message<'a>,
    },
    /// The peer has closed its side: its Close frame or its FIN has been read, and everything
    /// before that.
    PeerClosed {
        /// The connection.
        conn: ConnId,
        /// By its Close frame: the closing handshake is complete. Otherwise by a bare FIN.
        by_frame: bool,
    },
    /// The socket is gone.
    Gone {
        /// The connection.
        conn: ConnId,
    },
    /// A message was not queued ([`Output::Send`]): too much waits for this peer already.
    SlowReader {
        /// The connection.
        conn: ConnId,
        /// The message that the peer does not get.
        message: &'a ServerMessage,
    },
    /// The store has answered.
    Store(StoreEvent),
    /// A deferred step has come back ([`Engine::has_completions`](super::Engine::has_completions)).
    Completed,
    /// Another thread pushes.
    Push(PushRequest),
    /// The kernel has taken all that was queued for this connection, a push among it: for a client
    /// that cannot confirm pushes. It comes before any other input of its turn.
    Taken {
        /// The connection.
        conn: ConnId,
    },
    /// A message to every client.
    Broadcast(Broadcast),
    /// A shutdown is requested. The first request begins it, the second skips the drain, the third
    /// stops at once.
    Shutdown(Request),
    /// What only the shell can see, once a turn.
    Levels(Levels),
}

/// What may be let in at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Readiness is 200.
    pub ready: bool,
    /// Upgrades are answered 101: there is room, and no shutdown.
    pub upgrades: bool,
    /// Upgrades that need the store are answered 101.
    pub sessions: bool,
}

impl Gate {
    /// Whether a client may come in that names a session, or names none; or what its 503 says.
    pub fn admit(self, protocol: Protocol, names_session: bool) -> Result<(), &'static str> {
        let needs_store = names_session || protocol.is_own();
        if !self.upgrades {
            Err("try another instance")
        } else if needs_store && !self.sessions {
            Err("store unavailable")
        } else {
            Ok(())
        }
    }
}

/// Levels that the shell reads from the lengths of its own lists, once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Connections with bytes that the kernel has not taken yet.
    pub unsent: usize,
    /// Connections with input that has been received and not been processed.
    pub unread: usize,
    /// Open sockets of every kind: clients, handshakes, HTTP exchanges, and closed connections
    /// that still linger.
    pub sockets: usize,
    /// When a WebSocket peer was last heard.
    pub heard_at: Option<Instant>,
    /// Broadcasts that other threads were promised and that are not yet queued for all clients.
    pub promised: usize,
}

/// What to do now.
#[derive(Debug)]
pub enum Output {
    /// Queue a message. [`Input::SlowReader`] says that there was no room for it.
    Send {
        /// The connection.
        conn: ConnId,
        /// How the message is written.
        protocol: Protocol,
        /// The message.
        message: ServerMessage,
    },
    /// Queue a Close frame (RFC 6455, section 5.5.1) and read on until the peer's.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why it is closed.
        reason: CloseReason,
        /// The peer must answer within `close_timeout`; otherwise it may until the shutdown ends.
        bounded: bool,
    },
    /// Queue a Close frame, and use nothing any more that the peer has sent.
    Fail {
        /// The connection.
        conn: ConnId,
        /// Why it is closed.
        reason: CloseReason,
    },
    /// The peer has closed, and everything for it is queued: answer its Close, send what is queued,
    /// and close.
    Finish {
        /// The connection.
        conn: ConnId,
    },
    /// Stop reading from this connection; what it sends waits in the kernel.
    Pause {
        /// The connection.
        conn: ConnId,
    },
    /// Read from this connection again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// A broadcast begins: pass it on to other nodes.
    Publish {
        /// The whole message.
        text: Arc<str>,
        /// Where it comes from: not from another node.
        origin: Origin,
    },
    /// A broadcast has been queued for all, or was refused.
    BroadcastDone {
        /// Where it comes from.
        origin: Origin,
        /// How many clients it was queued for; `None` if it was refused. Only an operator's can be.
        queued: Option<usize>,
    },
    /// Close the listening sockets. Connections that were accepted, or wait in the accept queue,
    /// are still answered.
    CloseListener,
    /// Close the socket at once: the peer has not closed in time.
    Cut {
        /// The connection.
        conn: ConnId,
    },
    /// A callback of the application has panicked: log it. What follows from it comes by itself.
    Panicked(Box<Panicked>),
    /// Nothing is left to do: answer connections whose request is not complete, and end the loop.
    Stop,
}

/// A callback of the application has panicked, or has dropped a step that it had deferred.
#[derive(Clone, Debug)]
pub struct Panicked {
    /// The connection that it was called for; none while a client asks to be let in.
    pub conn: Option<ConnId>,
    /// The session, if it has one.
    pub session: Option<SessionId>,
    /// Which callback, and what it said.
    pub what: String,
}

/// Why the server closes a WebSocket connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// This server shuts down.
    Shutdown {
        /// When the client is to connect again.
        retry_after_ms: u64,
    },
    /// Another connection has claimed the session.
    TakenOver,
    /// A frame or a sequence of frames that RFC 6455 forbids.
    ProtocolError,
    /// A message that is none of `sundown.v2`.
    InvalidMessage(Invalid),
    /// A text message that is not UTF-8.
    InvalidUtf8,
    /// A message over `--max-message-size`.
    TooBig,
    /// The peer reads too slowly: more than `--max-outbound-bytes` wait for it.
    TooSlow,
    /// The store has refused the session ([`StoreEvent::Refused`]).
    Refused,
    /// The peer has been silent for `--idle-timeout`.
    Idle,
    /// A callback of the application has panicked.
    Failed {
        /// The step was that of a message, which is not counted.
        on_message: bool,
    },
    /// The application's own.
    Application {
        /// RFC 6455, section 7.4.
        code: u16,
        /// At most 123 bytes of UTF-8.
        text: Cow<'static, str>,
    },
}

impl CloseReason {
    /// A code with a fixed text, of the application.
    pub const fn of(code: u16, text: &'static str) -> Self {
        Self::Application {
            code,
            text: Cow::Borrowed(text),
        }
    }

    /// The close code (RFC 6455, section 7.4; 1013, "try again later", is in IANA's registry).
    pub const fn code(&self) -> u16 {
        match self {
            Self::Shutdown { .. } | Self::Idle => 1001,
            Self::ProtocolError | Self::InvalidMessage(_) => 1002,
            Self::InvalidUtf8 => 1007,
            Self::TooSlow => 1008,
            Self::TooBig => 1009,
            Self::Failed { .. } => 1011,
            Self::Refused => 1013,
            Self::TakenOver => 4001,
            Self::Application { code, .. } => *code,
        }
    }

    /// The text that the Close frame carries.
    pub fn text(&self) -> Cow<'_, str> {
        let text = match self {
            Self::Shutdown { retry_after_ms } => {
                return format!("server shutdown; retry-after-ms={retry_after_ms}").into();
            }
            Self::TakenOver => "session taken over",
            Self::ProtocolError => "protocol error",
            Self::InvalidMessage(invalid) => invalid.text(),
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::TooBig => "message too big",
            Self::TooSlow => "reader too slow",
            Self::Refused => "session refused by the store; try again later",
            Self::Idle => "idle timeout",
            Self::Failed { on_message: true } => "the service failed on this message",
            Self::Failed { on_message: false } => "the service failed outside of a message",
            Self::Application { text, .. } => text,
        };
        text.into()
    }
}

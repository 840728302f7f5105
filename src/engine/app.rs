//! What a service does: the trait for embedders, and the two services that come with sundown.

mod admission;
mod deferred;
mod hub;
mod session;

pub use admission::{Admission, Tells, Upgrade};
pub use deferred::Deferred;
pub(crate) use deferred::{Completion, Desk, Ticket};
pub use hub::Hub;
pub(super) use session::Effects;
pub use session::{InvalidCloseCode, PushTooBig, Session};

use super::ids::SessionId;
use super::mailbox::{Body, PushRefused};
use super::message::Message;

/// A service. It runs on the loop's thread: whatever it does, it must do without blocking.
///
/// What sundown promises, it acknowledges by itself: a plain client gets `{"count":n}` for each of
/// its messages, once n is in the store, whatever the service does with the message
/// ([`Admission::without_counts`] turns that off).
///
/// ```
/// use sundown::{Admission, Application, Message, Session, Upgrade};
///
/// /// Answers every text in capitals, and says how many there have been.
/// struct Shout;
///
/// impl Application for Shout {
///     fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
///         match request.path() {
///             "/shout" => Admission::accept(request).without_counts(),
///             _ => Admission::refuse(404, "not found"),
///         }
///     }
///
///     fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
///         if let Message::Text(text) = message {
///             session.reply_text(format!("{}: {}", session.count(), text.to_uppercase()));
///         }
///     }
/// }
///
/// # fn main() -> Result<(), sundown::Error> {
/// let config = sundown::Config {
///     listen: ([127, 0, 0, 1], 0).into(),
///     admin: None,
///     store: sundown::StoreConfig::Memory,
///     ..sundown::Config::default()
/// };
/// let server = sundown::Server::bind(config, Shout)?;
/// server.handle().shutdown();
/// assert_eq!(server.run()?.exit_code(), 0);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// A callback may panic, if the program unwinds. The server goes on, and logs it. An upgrade is
/// answered 500. A message is not counted, nothing that the callback asked for is done, and the
/// connection is closed with 1011: the client sends the message again when it comes back. The value
/// itself is used again, in the state that the panic has left it in.
pub trait Application: Send {
    /// A client asks to be let in: a valid WebSocket handshake (RFC 6455, section 4.2.1) from an
    /// allowed origin, while there is room. Default: the paths of `Config::paths`, with the session
    /// that the query names.
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        if request.is_listed() {
            Admission::accept(request)
        } else {
            Admission::refuse(404, "not found")
        }
    }

    /// A client has its session: the store has granted it, and its count is known. What is sent
    /// here comes after the hello of `sundown.v1`.
    fn on_open(&mut self, _session: &mut Session<'_>) {}

    /// A data message is complete. It is counted when the call returns. Replies leave in this
    /// order, before the count that covers the message; with `acked` durability and a session, only
    /// after the session's new count is in the store.
    ///
    /// It is called for messages that arrive after the goodbye, too: they are counted, and nothing
    /// can be sent ([`Session::can_reply`]).
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>);

    /// The time has come that [`Session::wake_in`] has asked for.
    fn on_timer(&mut self, _session: &mut Session<'_>) {}

    /// A push of this session was refused, and the rest of its step is committed. It is called once
    /// the store has said so and no step of the session is open, whether the client is still there or
    /// not: after `on_close`, nothing can be sent and no step deferred, but a state and pushes are
    /// committed as ever. If a newer connection has the session by then, it is called for that one.
    ///
    /// It is not stored: nothing is told if the process is killed, another node takes the session
    /// over, or the link to the store breaks before its answer has come.
    fn on_push_refused(
        &mut self,
        _to: &SessionId,
        _body: &Body,
        _why: PushRefused,
        _session: &mut Session<'_>,
    ) {
    }

    /// No message comes from this client any more, here. It is called once for each `on_open`,
    /// also in a shutdown; nothing can be sent, and no step deferred.
    fn on_close(&mut self, _session: &mut Session<'_>, _why: Closed) {}

    /// A shutdown has begun, and clients are about to be notified: the last chance to push from
    /// outside of a session.
    fn on_shutdown(&mut self, _hub: &mut Hub<'_>) {}
}

/// Why no message comes from a client any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// It has sent a Close frame.
    ByClient,
    /// The connection was lost, timed out, or broke the protocol.
    Lost,
    /// The application has closed it ([`Session::close`]).
    ByApplication,
    /// It reads too slowly: more than `--max-outbound-bytes` waited for it.
    TooSlow,
    /// Another connection has claimed the session, here or on another node.
    TakenOver,
    /// The store has refused the session.
    Refused,
    /// A callback has panicked.
    Failed,
    /// This server shuts down.
    Shutdown,
}

/// `--app chat`: counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chat;

impl Application for Chat {
    fn on_message(&mut self, _message: Message<'_>, _session: &mut Session<'_>) {}
}

/// `--app echo`: sends each message back as it came, on any path, and nothing else but the goodbye;
/// for conformance and latency tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Application for Echo {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        Admission::accept(request)
            .without_counts()
            .without_heartbeat()
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        match message {
            Message::Text(text) => session.reply_text(text),
            Message::Binary(bytes) => session.reply_binary(bytes),
        }
    }
}

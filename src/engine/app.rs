//! What a service does with a message: the trait for embedders, and the two that come with sundown.

use super::io::{CloseReason, ConnId, SessionId};
use super::message::{Message, ServerMessage};

/// A service. It runs on the loop's thread: whatever it does, it must do without blocking.
///
/// ```
/// use sundown::{Application, Context, Message};
///
/// /// Answers every text in capitals, and says how many there have been.
/// struct Shout;
///
/// impl Application for Shout {
///     fn accepts(&self, path: &str, _listed: bool) -> bool {
///         path == "/shout"
///     }
///
///     fn on_message(&mut self, message: Message<'_>, context: &mut Context<'_>) {
///         if let Message::Text(text) = message {
///             context.reply_text(format!("{}: {}", context.count(), text.to_uppercase()));
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
pub trait Application: Send {
    /// Whether this request path (without the query) is one of the service's endpoints; upgrades
    /// to others are answered 404. `listed` says whether it is one of `Config::paths`, with or
    /// without the last slash. Default: those.
    fn accepts(&self, _path: &str, listed: bool) -> bool {
        listed
    }

    /// A data message is complete, and is counted. Replies leave in this order; with `acked`
    /// durability and a session, only after the session's new count is in the store.
    ///
    /// It is not called for messages that arrive after the goodbye, which are only counted.
    fn on_message(&mut self, message: Message<'_>, context: &mut Context<'_>);

    /// Whether clients get a timestamp every `--heartbeat`. Default: yes.
    fn wants_heartbeat(&self) -> bool {
        true
    }
}

/// The connection that a message came from, and what the service wants done with it.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) conn: ConnId,
    pub(super) session: Option<&'a SessionId>,
    pub(super) count: u64,
    pub(super) replies: &'a mut Vec<ServerMessage>,
    pub(super) close: Option<CloseReason>,
}

impl Context<'_> {
    /// The connection; unique as long as the server runs.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The session's id; `None` for a plain client that gave none.
    pub fn session(&self) -> Option<&SessionId> {
        self.session
    }

    /// Messages processed in this session (or on this connection), this one included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sends `{"count":n}`, which is how a client knows what has arrived.
    pub fn reply_count(&mut self) {
        self.replies.push(ServerMessage::Count(self.count));
    }

    /// Sends a text message.
    pub fn reply_text(&mut self, text: impl Into<String>) {
        self.replies.push(ServerMessage::Text(text.into()));
    }

    /// Sends a binary message.
    pub fn reply_binary(&mut self, bytes: impl Into<Vec<u8>>) {
        self.replies.push(ServerMessage::Binary(bytes.into()));
    }

    /// Closes the connection, after the replies. Codes 3000–4999 are the service's own (RFC 6455,
    /// section 7.4.2); the text is cut to the 123 bytes that a Close frame can hold.
    pub fn close(&mut self, reason: CloseReason) {
        self.close = Some(reason);
    }
}

/// `--app chat`: counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chat;

impl Application for Chat {
    fn on_message(&mut self, _message: Message<'_>, context: &mut Context<'_>) {
        context.reply_count();
    }
}

/// `--app echo`: sends each message back as it came, on any path; for conformance and latency
/// tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Application for Echo {
    fn accepts(&self, _path: &str, _listed: bool) -> bool {
        true
    }

    fn on_message(&mut self, message: Message<'_>, context: &mut Context<'_>) {
        match message {
            Message::Text(text) => context.reply_text(text),
            Message::Binary(bytes) => context.reply_binary(bytes),
        }
    }

    fn wants_heartbeat(&self) -> bool {
        false
    }
}

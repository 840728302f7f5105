//! Who is let in, and how: a request for an upgrade, and what the application says to it.
//!
//! It owns what may be said: a status that refuses, a subprotocol that was offered. It never sees a
//! socket.

use std::net::SocketAddr;

use crate::config::is_token;
use crate::engine::ids::SessionId;
use crate::engine::message::Protocol;

/// A request to become a WebSocket (RFC 6455, section 4.1): as it came, except for what sundown has
/// checked already.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) session: Option<&'a SessionId>,
    /// The one of `Config::subprotocols` that it gets.
    pub(crate) subprotocol: Option<&'a str>,
    pub(crate) is_listed: bool,
}

impl<'a> Upgrade<'a> {
    /// The path, without the query.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// Whether the path is one of `Config::paths`, with or without its last slash.
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// The query, without the question mark, as it came: percent-encoded. Empty if there is none.
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The session that the query names (`?session=ID`).
    pub fn session(&self) -> Option<&'a SessionId> {
        self.session
    }

    /// The first header field of this name, in whatever case, if its value is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let found = self.fields(name).next()?;
        std::str::from_utf8(found).ok()
    }

    /// All header fields, in the order in which they came for each name; names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().copied()
    }

    /// The subprotocols that the client offers, in its order (RFC 6455, section 11.3.4).
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        let fields = self.fields("sec-websocket-protocol");
        let offers = fields.flat_map(|value| value.split(|byte| *byte == b','));
        offers.filter_map(|offer| std::str::from_utf8(offer.trim_ascii()).ok())
    }

    /// The client's address: what a proxy of `Config::trusted_proxies` says (with port 0 if it names
    /// none), and otherwise where the connection comes from, which may be a proxy. `None` on a Unix
    /// socket of which no trusted proxy says more.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn fields(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter();
        named.filter_map(move |(found, value)| found.eq_ignore_ascii_case(name).then_some(*value))
    }
}

/// Whether a client is let in.
///
/// ```
/// use sundown::{Admission, SessionId, Upgrade};
///
/// /// Charge points, each with a session of its own name.
/// fn admit(request: &Upgrade<'_>) -> Admission {
///     let Some(id) = request.path().strip_prefix("/ocpp/") else {
///         return Admission::refuse(404, "not found");
///     };
///     match SessionId::parse(id) {
///         Ok(session) if request.header("authorization").is_some() => Admission::accept(request)
///             .with_session(session)
///             .with_subprotocol("ocpp1.6"),
///         Ok(_) => Admission::refuse(401, "a password is needed")
///             .with_header("WWW-Authenticate", "Basic realm=\"charge points\""),
///         Err(_) => Admission::refuse(400, "no such charge point"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Admission(pub(crate) Result<Accepted, Refusal>);

/// A client is let in.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) session: Option<SessionId>,
    /// One of the application's own, that the client has offered.
    pub(crate) subprotocol: Option<String>,
    pub(crate) tells: Tells,
}

/// A client is not let in, and gets this answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// Header fields, each ended by CRLF.
    pub(crate) fields: String,
}

/// What sundown says by itself to a client that has no subprotocol, or `sundown.v1`: a set. A client
/// of `sundown.v2` gets all of it but, if so wished, the broadcasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tells(u8);

impl Tells {
    /// `{"count":n}` after each message.
    pub const COUNTS: Self = Self(1);
    /// `{"ts":…}` at each heartbeat.
    pub const HEARTBEAT: Self = Self(2);
    /// `{"broadcast":…}`.
    pub const BROADCASTS: Self = Self(4);
    /// `{"bye":true,"total":n}` before the Close of a shutdown.
    pub const GOODBYE: Self = Self(8);
    /// All of these.
    pub const ALL: Self = Self(15);
    /// None: for a subprotocol that sundown does not know.
    pub const NOTHING: Self = Self(0);

    /// Whether all of `other` is in it.
    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// It, but for what is in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What a client of this protocol is told, if the application asks for this set. Only the
    /// broadcasts are up to it in `sundown.v2`, whose clients rely on the rest.
    pub(crate) fn of(self, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Plain | Protocol::V1 => self,
            Protocol::V2 => Self(self.0 | Self::ALL.without(Self::BROADCASTS).0),
        }
    }
}

/// Fields that each answer has.
const OURS: [&str; 5] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
];

impl Admission {
    /// Lets the client in, with the session that the query names, and with the first subprotocol
    /// that it offers and that is known: `sundown.v2`, `sundown.v1`, or one of
    /// `Config::subprotocols`.
    pub fn accept(request: &Upgrade<'_>) -> Self {
        Self(Ok(Accepted {
            session: request.session.cloned(),
            subprotocol: request.subprotocol.map(str::to_owned),
            tells: Tells::ALL,
        }))
    }

    /// Answers with this status, 400–599 (500 stands for any other), and the body
    /// `{"error":"<text>"}`.
    pub fn refuse(status: u16, text: impl Into<String>) -> Self {
        let is_refusal = (400..=599).contains(&status);
        Self(Err(Refusal {
            status: if is_refusal { status } else { 500 },
            text: text.into(),
            fields: String::new(),
        }))
    }

    /// The client has this session, whatever the query names: the application knows who it is.
    pub fn with_session(self, session: SessionId) -> Self {
        self.accepted(|accepted| accepted.session = Some(session))
    }

    /// The client has no session that outlives its connection, whatever the query names.
    pub fn without_session(self) -> Self {
        self.accepted(|accepted| accepted.session = None)
    }

    /// A subprotocol of the application's own: a token. The client gets it if it has offered it, and nothing
    /// from sundown itself then but Close frames. If it has not, the upgrade goes on without, as RFC
    /// 6455, section 4.2.2, says; [`Upgrade::subprotocols`] tells what was offered.
    pub fn with_subprotocol(self, subprotocol: impl Into<String>) -> Self {
        let subprotocol = Some(subprotocol.into()).filter(|name| is_token(name));
        self.accepted(|accepted| accepted.subprotocol = subprotocol)
    }

    /// Messages are counted, and the client is not told: no `{"count":n}`.
    pub fn without_counts(self) -> Self {
        self.untold(Tells::COUNTS)
    }

    /// No `{"ts":…}`.
    pub fn without_heartbeat(self) -> Self {
        self.untold(Tells::HEARTBEAT)
    }

    /// Nothing of what an operator says to every client.
    pub fn without_broadcasts(self) -> Self {
        self.untold(Tells::BROADCASTS)
    }

    /// No `{"bye":true,"total":n}`: the Close alone.
    pub fn without_goodbye(self) -> Self {
        self.untold(Tells::GOODBYE)
    }

    /// A header field of a refusal, such as `WWW-Authenticate`. One that HTTP forbids (RFC 9110,
    /// section 5), or that each answer of sundown's has, is left out.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let is_ours = OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        let is_value = value
            .bytes()
            .all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
        if let Err(refusal) = &mut self.0
            && is_token(name)
            && !is_ours
            && is_value
        {
            for part in [name, ": ", value, "\r\n"] {
                refusal.fields.push_str(part);
            }
        }
        self
    }

    fn untold(self, what: Tells) -> Self {
        self.accepted(|accepted| accepted.tells = accepted.tells.without(what))
    }

    fn accepted(mut self, change: impl FnOnce(&mut Accepted)) -> Self {
        if let Ok(accepted) = &mut self.0 {
            change(accepted);
        }
        self
    }
}

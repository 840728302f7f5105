//! The messages between client and server (docs/protocol.md): types to bytes, bytes to types.

pub mod v2;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::ids::SessionId;
use super::mailbox::Body;

/// Which messages a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// No subprotocol: counts, timestamps and the goodbye, nothing more.
    Plain,
    /// The subprotocol `sundown.v1`: a hello first, and a notice when a shutdown begins.
    V1,
    /// The subprotocol `sundown.v2`: the same, and each message begins with its kind.
    V2,
}

impl Protocol {
    /// Whether it is one of sundown's own: the client has a session that the store keeps, whether
    /// it names one or not, and gets the hello and the notice.
    pub fn is_own(self) -> bool {
        match self {
            Self::Plain => false,
            Self::V1 | Self::V2 => true,
        }
    }
}

/// A data message from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message; UTF-8 has been checked.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// A message to a client, whatever protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// This many messages of the session have been processed.
    Count(u64),
    /// The heartbeat, from milliseconds since the Unix epoch.
    Timestamp(u64),
    /// The first message, if the protocol is sundown's own. Boxed, since it is the largest and
    /// comes once.
    Hello(Box<Hello>),
    /// A shutdown has begun; if the protocol is sundown's own.
    Notice {
        /// For how long messages are still answered.
        drain_ms: u64,
        /// How long this client should wait, once the connection has closed, before it reconnects.
        reconnect_ms: u64,
    },
    /// The last message: the count that the store holds.
    Goodbye {
        /// Messages processed in this session.
        total: u64,
        /// The number of the session's last push; only `sundown.v2` says it.
        sent: u64,
    },
    /// `{"broadcast":…}`: encoded once for all clients.
    Broadcast(Arc<str>),
    /// A push to the session.
    Push(Box<Delivery>),
    /// An application's text.
    Text(String),
    /// An application's bytes.
    Binary(Vec<u8>),
}

/// A push on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number; only `sundown.v2` says it.
    pub number: u64,
    /// The message.
    pub body: Body,
}

impl Delivery {
    /// The payload for a client that knows no numbers.
    #[cold]
    fn bare(&self) -> &[u8] {
        self.body.as_bytes()
    }
}

/// What a client is told of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The session, given or made.
    pub session: SessionId,
    /// Which life of the session this is; only `sundown.v2` says it.
    pub incarnation: u64,
    /// Messages processed in it so far.
    pub count: u64,
    /// Whether the store knew it.
    pub resumed: bool,
    /// The number of its last push; only `sundown.v2` says it.
    pub sent: u64,
}

impl ServerMessage {
    /// Whether it goes out as a binary message (RFC 6455, section 5.6).
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_)) || matches!(self, Self::Push(push) if push.body.is_binary())
    }

    /// Whether room is reserved for it in every outbound buffer: a client gets the notice and the
    /// goodbye however slowly it reads.
    pub fn is_reserved(&self) -> bool {
        matches!(self, Self::Notice { .. } | Self::Goodbye { .. })
    }

    /// About how many bytes it holds, for accounts of what waits.
    pub fn weight(&self) -> usize {
        let held = match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            // Shared by all who get it, and with the mailbox.
            Self::Broadcast(_)
            | Self::Push(_)
            | Self::Count(_)
            | Self::Timestamp(_)
            | Self::Hello(_)
            | Self::Notice { .. }
            | Self::Goodbye { .. } => 0,
        };
        held + size_of::<Self>()
    }

    /// Writes the payload for a client of this protocol into `scratch`, which is cleared, or lends
    /// what the message holds.
    pub fn payload<'a>(&'a self, protocol: Protocol, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        scratch.clear();
        if protocol == Protocol::V2 {
            v2::write(self, scratch);
            return scratch;
        }
        match self {
            Self::Text(text) => return text.as_bytes(),
            Self::Binary(bytes) => return bytes,
            Self::Broadcast(text) => return text.as_bytes(),
            Self::Push(push) => return push.bare(),
            Self::Count(count) => {
                scratch.extend_from_slice(b"{\"count\":");
                push_decimal(scratch, *count);
                scratch.push(b'}');
            }
            Self::Goodbye { total, .. } => {
                push(scratch, format_args!("{{\"bye\":true,\"total\":{total}}}"));
            }
            Self::Timestamp(unix_ms) => {
                scratch.extend_from_slice(b"{\"ts\":\"");
                push_time(scratch, *unix_ms);
                scratch.extend_from_slice(b"\"}");
            }
            // A session id needs no JSON escape: see `SessionId::parse`.
            Self::Hello(hello) => push(
                scratch,
                format_args!(
                    "{{\"session\":\"{}\",\"count\":{},\"resumed\":{}}}",
                    hello.session, hello.count, hello.resumed
                ),
            ),
            Self::Notice {
                drain_ms,
                reconnect_ms,
            } => push(
                scratch,
                format_args!(
                    "{{\"shutdown\":true,\"drain_ms\":{drain_ms},\"reconnect_ms\":{reconnect_ms}}}"
                ),
            ),
        }
        scratch
    }
}

/// Text, written as bytes.
struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn push(scratch: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let written = Bytes(scratch).write_fmt(text);
    debug_assert!(written.is_ok(), "a Vec takes everything");
}

/// RFC 3339, in UTC.
fn push_time(scratch: &mut Vec<u8>, unix_ms: u64) {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
    push(
        scratch,
        format_args!("{}", humantime::format_rfc3339_millis(time)),
    );
}

/// As `format!` writes it, with fewer instructions: every reply of the chat contains a count.
fn push_decimal(scratch: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    while start == DIGITS_MAX || number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    // Not as a slice: a call that copies bytes takes longer than these few.
    for digit in &digits[start..] {
        scratch.push(*digit);
    }
}

/// Decimal digits of the largest `u64`.
const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &ServerMessage, expected: &str) {
        let mut scratch = b"left over".to_vec();
        let payload = message.payload(Protocol::V1, &mut scratch);
        assert_eq!(std::str::from_utf8(payload).unwrap(), expected);
        if !message.is_binary() {
            serde_json::from_slice::<serde_json::Value>(payload).unwrap();
        }
    }

    #[test]
    fn every_message_as_the_contract_spells_it() {
        check(&ServerMessage::Count(0), r#"{"count":0}"#);
        check(
            &ServerMessage::Count(u64::MAX),
            r#"{"count":18446744073709551615}"#,
        );
        check(
            &ServerMessage::Timestamp(1_795_353_540_000),
            r#"{"ts":"2026-11-22T13:19:00.000Z"}"#,
        );
        check(
            &ServerMessage::Goodbye { total: 7, sent: 2 },
            r#"{"bye":true,"total":7}"#,
        );
        let session = SessionId::parse("a.B_~-9").unwrap();
        check(
            &ServerMessage::Hello(Box::new(Hello {
                session,
                incarnation: 4,
                count: 3,
                resumed: true,
                sent: 2,
            })),
            r#"{"session":"a.B_~-9","count":3,"resumed":true}"#,
        );
        check(
            &ServerMessage::Notice {
                drain_ms: 2_500,
                reconnect_ms: 41,
            },
            r#"{"shutdown":true,"drain_ms":2500,"reconnect_ms":41}"#,
        );
        check(&ServerMessage::Text("\"raw\"".into()), "\"raw\"");
        let broadcast = ServerMessage::Broadcast(r#"{"broadcast":[1]}"#.into());
        check(&broadcast, r#"{"broadcast":[1]}"#);
    }

    #[test]
    fn counts_as_format_writes_them() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        let edges = powers.flat_map(|power| [power - 1, power, power + 1]);
        let binary = (0..64).map(|bits| u64::MAX >> bits);
        for count in (0..1_000).chain(edges).chain(binary) {
            check(
                &ServerMessage::Count(count),
                &format!("{{\"count\":{count}}}"),
            );
        }
    }
}

//! The messages between client and server (docs/protocol.md): types to bytes, bytes to types.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::ids::SessionId;

/// Which messages a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// No subprotocol: counts, timestamps and the goodbye, nothing more.
    Plain,
    /// The subprotocol `sundown.v1`: a hello first, and a notice when a shutdown begins.
    V1,
}

/// A data message from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message; UTF-8 has been checked.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// `{"count":n}`: n messages of this session have been processed.
    Count(u64),
    /// `{"ts":"…"}`: the heartbeat, from milliseconds since the Unix epoch.
    Timestamp(u64),
    /// The first message on every `sundown.v1` connection.
    Hello {
        /// The session, given or made.
        session: SessionId,
        /// Messages processed in it so far.
        count: u64,
        /// Whether the store knew it.
        resumed: bool,
    },
    /// `sundown.v1`: a shutdown has begun.
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
    },
    /// `{"broadcast":…}`: encoded once for all clients.
    Broadcast(Arc<str>),
    /// An application's text.
    Text(String),
    /// An application's bytes.
    Binary(Vec<u8>),
}

impl ServerMessage {
    /// Whether it goes out as a binary message (RFC 6455, section 5.6).
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
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
            // Shared by all who get it.
            Self::Broadcast(_)
            | Self::Count(_)
            | Self::Timestamp(_)
            | Self::Hello { .. }
            | Self::Notice { .. }
            | Self::Goodbye { .. } => 0,
        };
        held + size_of::<Self>()
    }

    /// Writes the payload into `scratch`, which is cleared, or lends what it holds.
    pub fn payload<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        scratch.clear();
        match self {
            Self::Text(text) => return text.as_bytes(),
            Self::Binary(bytes) => return bytes,
            Self::Broadcast(text) => return text.as_bytes(),
            Self::Count(count) => {
                scratch.extend_from_slice(b"{\"count\":");
                push_decimal(scratch, *count);
                scratch.push(b'}');
            }
            Self::Goodbye { total } => {
                push(scratch, format_args!("{{\"bye\":true,\"total\":{total}}}"));
            }
            Self::Timestamp(unix_ms) => {
                let time = UNIX_EPOCH + Duration::from_millis(*unix_ms);
                let text = humantime::format_rfc3339_millis(time);
                push(scratch, format_args!("{{\"ts\":\"{text}\"}}"));
            }
            // A session id needs no JSON escape: see `SessionId::parse`.
            Self::Hello {
                session,
                count,
                resumed,
            } => push(
                scratch,
                format_args!(
                    "{{\"session\":\"{session}\",\"count\":{count},\"resumed\":{resumed}}}"
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

/// As `format!` writes it, with fewer instructions: every reply of the chat contains a count.
fn push_decimal(scratch: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    while start == DIGITS_MAX || number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    scratch.extend_from_slice(&digits[start..]);
}

/// Decimal digits of the largest `u64`.
const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &ServerMessage, expected: &str) {
        let mut scratch = b"left over".to_vec();
        let payload = message.payload(&mut scratch);
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
            &ServerMessage::Goodbye { total: 7 },
            r#"{"bye":true,"total":7}"#,
        );
        let session = SessionId::parse("a.B_~-9").unwrap();
        check(
            &ServerMessage::Hello {
                session,
                count: 3,
                resumed: true,
            },
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

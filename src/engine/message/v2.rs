//! The subprotocol `sundown.v2` (docs/protocol.md): the first character of a message is its kind,
//! and the rest is what the kind says. In a binary message it is the first byte.
//!
//! Pure: bytes to types, types to bytes. What a kind means is the engine's matter.

use super::{Delivery, Message, ServerMessage, push, push_decimal, push_time};

/// A data message from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `m`: a message for the application.
    Body(Message<'a>),
    /// `a`: pushes up to this number have been received.
    Received(u64),
    /// `q`: no more messages on this connection.
    Leaving,
}

/// Why a data message is none of `sundown.v2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is empty, and has no kind.
    Empty,
    /// There is no such kind.
    UnknownKind,
    /// This server does not serve the kind yet.
    NotYet,
    /// What follows the kind is not what it demands.
    Malformed,
    /// It follows a `q`.
    AfterLeaving,
}

impl Invalid {
    /// The reason in the Close frame.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Empty => "sundown.v2: an empty message",
            Self::UnknownKind => "sundown.v2: unknown kind",
            Self::NotYet => "sundown.v2: p, s, u and T are not served yet",
            Self::Malformed => "sundown.v2: malformed",
            Self::AfterLeaving => "sundown.v2: a message after q",
        }
    }
}

/// Reads a client's message.
pub fn parse(message: Message<'_>) -> Result<ClientMessage<'_>, Invalid> {
    let bytes = match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
    };
    let (&kind, rest) = bytes.split_first().ok_or(Invalid::Empty)?;
    match kind {
        b'm' => Ok(ClientMessage::Body(match message {
            Message::Text(text) => Message::Text(&text[1..]),
            Message::Binary(_) => Message::Binary(rest),
        })),
        b'a' => match parse_number(rest) {
            Some(number) => Ok(ClientMessage::Received(number)),
            None => Err(Invalid::Malformed),
        },
        b'q' if rest.is_empty() => Ok(ClientMessage::Leaving),
        b'q' => Err(Invalid::Malformed),
        b'p' | b's' | b'u' | b'T' => Err(Invalid::NotYet),
        _ => Err(Invalid::UnknownKind),
    }
}

/// A number as clients write it: decimal digits, without a zero in front, below 2^64.
pub fn parse_number(digits: &[u8]) -> Option<u64> {
    let is_plain = digits.iter().all(u8::is_ascii_digit);
    let has_zero = digits.len() > 1 && digits[0] == b'0';
    let digits = str::from_utf8(digits).ok()?;
    digits.parse().ok().filter(|_| is_plain && !has_zero)
}

/// A body longer than this leaves no buffer of its size behind.
const KEPT_BYTES: usize = 1024 * 1024;

/// Writes a message to a client into `scratch`, which is empty.
pub(super) fn write(message: &ServerMessage, scratch: &mut Vec<u8>) {
    scratch.shrink_to(KEPT_BYTES);
    match message {
        ServerMessage::Text(text) => write_kind(b'r', text.as_bytes(), scratch),
        ServerMessage::Binary(bytes) => write_kind(b'r', bytes, scratch),
        ServerMessage::Broadcast(text) => write_kind(b'o', text.as_bytes(), scratch),
        ServerMessage::Push(push) => write_push(push, scratch),
        ServerMessage::Count(count) => {
            scratch.push(b'c');
            push_decimal(scratch, *count);
        }
        ServerMessage::Timestamp(unix_ms) => {
            scratch.push(b'k');
            push_time(scratch, *unix_ms);
        }
        // A session id needs no JSON escape: see `SessionId::parse`.
        ServerMessage::Hello(hello) => push(
            scratch,
            format_args!(
                "h{{\"session\":\"{}\",\"incarnation\":{},\"count\":{},\"resumed\":{},\
                 \"sent\":{}}}",
                hello.session, hello.incarnation, hello.count, hello.resumed, hello.sent
            ),
        ),
        ServerMessage::Notice {
            drain_ms,
            reconnect_ms,
        } => push(
            scratch,
            format_args!("n{{\"drain_ms\":{drain_ms},\"reconnect_ms\":{reconnect_ms}}}"),
        ),
        ServerMessage::Goodbye { total, sent } => push(
            scratch,
            format_args!("b{{\"total\":{total},\"sent\":{sent}}}"),
        ),
    }
}

/// A push has a number.
#[cold]
fn write_push(push: &Delivery, scratch: &mut Vec<u8>) {
    scratch.push(b'm');
    push_decimal(scratch, push.number);
    write_kind(b' ', push.body.as_bytes(), scratch);
}

fn write_kind(kind: u8, rest: &[u8], scratch: &mut Vec<u8>) {
    scratch.reserve(1 + rest.len());
    scratch.push(kind);
    scratch.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ids::SessionId;
    use crate::engine::message::{Hello, Protocol};

    #[test]
    fn every_kind_of_a_client() {
        use ClientMessage::{Body, Leaving, Received};
        #[track_caller]
        fn check(text: &str, expected: Result<ClientMessage<'_>, Invalid>) {
            assert_eq!(parse(Message::Text(text)), expected, "{text:?}");
            let binary = expected.map(|message| match message {
                Body(Message::Text(body)) => Body(Message::Binary(body.as_bytes())),
                other @ (Body(_) | Received(_) | Leaving) => other,
            });
            assert_eq!(parse(Message::Binary(text.as_bytes())), binary, "{text:?}");
        }
        check("m", Ok(Body(Message::Text(""))));
        check("mm", Ok(Body(Message::Text("m"))));
        check("m\u{fc}\n", Ok(Body(Message::Text("\u{fc}\n"))));
        check("a0", Ok(Received(0)));
        check("a18446744073709551615", Ok(Received(u64::MAX)));
        check("q", Ok(Leaving));
        for number in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "\u{661}",
            "18446744073709551616",
        ] {
            check(&format!("a{number}"), Err(Invalid::Malformed));
        }
        check("q ", Err(Invalid::Malformed));
        check("", Err(Invalid::Empty));
        for later in ["ptopic body", "stopic", "utopic", "Ttoken", "p"] {
            check(later, Err(Invalid::NotYet));
        }
        for unknown in [
            "x", "M", "Q", "A1", "h{}", "c1", " m", "\u{fc}m", "\0", "{}",
        ] {
            check(unknown, Err(Invalid::UnknownKind));
        }
        let no_text = [b'm', 0xff];
        let body = Body(Message::Binary(&[0xff]));
        assert_eq!(parse(Message::Binary(&no_text)), Ok(body));
    }

    #[test]
    fn reasons_fit_into_a_close_frame() {
        use Invalid::{AfterLeaving, Empty, Malformed, NotYet, UnknownKind};
        for invalid in [Empty, UnknownKind, NotYet, Malformed, AfterLeaving] {
            assert!(invalid.text().len() <= 123, "{invalid:?}");
        }
    }

    #[track_caller]
    fn check(message: &ServerMessage, expected: &str) {
        let mut scratch = b"left over".to_vec();
        let payload = message.payload(Protocol::V2, &mut scratch);
        assert_eq!(str::from_utf8(payload).unwrap(), expected);
    }

    #[test]
    fn every_kind_of_the_server() {
        check(
            &ServerMessage::Hello(Box::new(Hello {
                session: SessionId::parse("a.B_~-9").unwrap(),
                incarnation: 4,
                count: 3,
                resumed: true,
                sent: 2,
            })),
            r#"h{"session":"a.B_~-9","incarnation":4,"count":3,"resumed":true,"sent":2}"#,
        );
        check(&ServerMessage::Count(u64::MAX), "c18446744073709551615");
        check(&ServerMessage::Text("\u{fc}".into()), "r\u{fc}");
        check(&ServerMessage::Text(String::new()), "r");
        check(&ServerMessage::Binary(b"raw".to_vec()), "rraw");
        check(
            &ServerMessage::Timestamp(1_795_353_540_000),
            "k2026-11-22T13:19:00.000Z",
        );
        check(
            &ServerMessage::Notice {
                drain_ms: 2_500,
                reconnect_ms: 41,
            },
            r#"n{"drain_ms":2500,"reconnect_ms":41}"#,
        );
        check(
            &ServerMessage::Goodbye { total: 7, sent: 2 },
            r#"b{"total":7,"sent":2}"#,
        );
        let push = |body| {
            let number = 12;
            ServerMessage::Push(Box::new(Delivery { number, body }))
        };
        check(&push("\u{fc} 1".into()), "m12 \u{fc} 1");
        check(&push(b""[..].into()), "m12 ");
        assert!(push(b""[..].into()).is_binary() && !push("".into()).is_binary());
        let broadcast = ServerMessage::Broadcast(r#"{"broadcast":[1]}"#.into());
        check(&broadcast, r#"o{"broadcast":[1]}"#);
    }

    #[test]
    fn a_long_body_leaves_no_buffer_behind() {
        let mut scratch = Vec::new();
        let long = ServerMessage::Binary(vec![0; 2 * KEPT_BYTES]);
        assert_eq!(
            long.payload(Protocol::V2, &mut scratch).len(),
            2 * KEPT_BYTES + 1
        );
        ServerMessage::Count(1).payload(Protocol::V2, &mut scratch);
        assert!(scratch.capacity() <= KEPT_BYTES);
    }
}

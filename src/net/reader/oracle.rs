//! What tungstenite makes of a client's bytes, to compare the reader with: in its test, and in the
//! fuzz target `frames`. Never a part of the server.
//!
//! tungstenite judges a frame when all of it has come, so where the reader has refused what has
//! begun, the frame is completed for it. It is less strict in one point: it takes a length that is
//! in more bytes than it needs (RFC 6455, section 5.2). What it says is compared up to there.

use std::io::{Cursor, ErrorKind, Read, Result, Write};

use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// What a reader tells, in values of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// A Close with this payload: nothing more follows.
    Closed(Vec<u8>),
    /// A broken rule, and the code of our Close: nothing more follows.
    Failed(u16),
}

/// The frame at the end of some bytes that is not whole, or not as short as it could be.
enum Last {
    /// It begins there; if its header is whole, so many bytes of it are to come.
    Begun(usize, Option<u64>),
    TooLong(usize),
}

/// Panics if a reader has told something else of these bytes than tungstenite does.
pub(crate) fn compare(bytes: &[u8], told: &[Told], message_bytes_max: usize) {
    let last = last_frame(bytes);
    let read = match last {
        Last::Begun(..) => bytes,
        Last::TooLong(at) => &bytes[..at],
    };
    let expected = by_tungstenite(read, message_bytes_max);
    let (told_end, expected_end) = (end(told), end(&expected));
    let (messages, expected) = (
        &told[..told.len() - told_end.len()],
        &expected[..expected.len() - expected_end.len()],
    );
    assert_eq!(messages, expected, "{bytes:x?}");
    match (told_end, expected_end, last) {
        ([Told::Failed(code)], [Told::Failed(expected)], _) => {
            // It looks at a length before it looks at anything else.
            let is_same = code == expected || (*code, *expected) == (1002, 1009);
            assert!(is_same, "{code}, and not {expected}: {bytes:x?}");
        }
        ([Told::Closed(payload)], [Told::Closed(expected)], _) => {
            // It replaces a code that may not be sent, and takes 1014 for one of those.
            let is_same = payload == expected || expected[2..] == *b"Protocol violation";
            assert!(is_same, "{payload:x?}, and not {expected:x?}");
        }
        ([Told::Failed(code)], [], Last::TooLong(_)) => assert_eq!(*code, 1002, "{bytes:x?}"),
        ([Told::Failed(_)], [], Last::Begun(at, missing)) => {
            assert!(at < bytes.len(), "refused behind a whole frame: {bytes:x?}");
            let whole = completed(bytes, at, missing, message_bytes_max);
            compare(&whole, told, message_bytes_max);
        }
        ([], [], Last::Begun(..)) => {}
        (told, expected, _) => panic!("{told:?}, and not {expected:?}: {bytes:x?}"),
    }
}

/// The part of what was told behind which there is nothing.
fn end(told: &[Told]) -> &[Told] {
    match told.last() {
        Some(Told::Closed(_) | Told::Failed(_)) => &told[told.len() - 1..],
        Some(Told::Text(_) | Told::Binary(_) | Told::Ping(_) | Told::Pong) | None => &[],
    }
}

fn last_frame(bytes: &[u8]) -> Last {
    let mut at = 0;
    loop {
        let mut rest = Cursor::new(&bytes[at..]);
        let Ok(Some((header, length))) = FrameHeader::parse(&mut rest) else {
            return Last::Begun(at, None);
        };
        let header_len = rest.position();
        if header.len(length) as u64 != header_len || length > i64::MAX as u64 {
            return Last::TooLong(at);
        }
        let end = header_len + length;
        let come = (bytes.len() - at) as u64;
        if end > come {
            return Last::Begun(at, Some(end - come));
        }
        at += end as usize;
    }
}

/// The bytes, with more of their last frame: as much as tungstenite waits for.
fn completed(bytes: &[u8], at: usize, missing: Option<u64>, message_bytes_max: usize) -> Vec<u8> {
    let mut whole = bytes.to_vec();
    match missing {
        // An empty payload, if that is still open, and the longest if its length has begun.
        None => {
            let header = &bytes[at..];
            let second = header.get(1).copied().unwrap_or(0x80);
            let long_bytes = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            whole.resize(whole.len().max(at + 1), 0x80);
            whole.resize(whole.len().max(at + 2), second);
            whole.resize(whole.len().max(at + 2 + long_bytes), 0xff);
            whole.resize(whole.len().max(at + 2 + long_bytes + 4), 0);
        }
        Some(missing) => {
            let missing = missing.min(message_bytes_max as u64);
            whole.resize(whole.len() + missing as usize, 0);
        }
    }
    whole
}

/// What tungstenite tells of these bytes.
fn by_tungstenite(bytes: &[u8], message_bytes_max: usize) -> Vec<Told> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut stream = Stream(bytes);
    let mut told = Vec::new();
    loop {
        told.push(match context.read(&mut stream) {
            Ok(Message::Text(text)) => Told::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Told::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Told::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Told::Pong,
            Ok(Message::Close(frame)) => {
                let payload = frame.map(|frame| {
                    let code = u16::from(frame.code).to_be_bytes();
                    [&code, frame.reason.as_bytes()].concat()
                });
                return ended(told, Told::Closed(payload.unwrap_or_default()));
            }
            Ok(Message::Frame(_)) => continue,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return told,
            Err(Error::Capacity(_)) => return ended(told, Told::Failed(1009)),
            Err(Error::Utf8(_)) => return ended(told, Told::Failed(1007)),
            Err(error) => {
                assert!(matches!(error, Error::Protocol(_)), "{error}");
                return ended(told, Told::Failed(1002));
            }
        });
    }
}

fn ended(mut told: Vec<Told>, end: Told) -> Vec<Told> {
    told.push(end);
    told
}

/// Bytes that have come, and more that are to come. What is answered goes nowhere.
struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.0.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

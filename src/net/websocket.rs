//! One side of a WebSocket, over bytes: what comes is judged by `validator` and read by
//! tungstenite, message by message, and the frames that we send are encoded straight into the
//! outbound buffer.
//!
//! Pure: input is lent, output is appended. It never holds back output, so that tungstenite's own
//! write buffer is always empty: its `close()` loses the Close frame for good when that is full.

use std::io::{self, Read, Write};

use tungstenite::error::Error;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::{CloseCode, Control, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message, Utf8Bytes};

use super::frame::encode;
use super::validator::Validator;
use crate::engine::io::CloseReason;
use crate::engine::message;

/// The protocol's state for one connection.
#[derive(Debug)]
pub struct WebSocket {
    context: WebSocketContext,
    validator: Validator,
    closing: Closing,
    /// A rule was broken: nothing more is received.
    failed: bool,
}

/// How far our side of the closing handshake is.
#[derive(Debug)]
enum Closing {
    /// Not begun.
    Open,
    /// The peer has closed first, and is owed this payload.
    Owed(Vec<u8>),
    /// Our Close frame is out.
    Sent,
}

/// What came of reading.
#[derive(Debug)]
pub enum Received {
    /// A whole data message.
    Message(Payload),
    /// A ping or a pong: there is nothing to do about it.
    Control,
    /// The peer's Close frame: nothing more will come.
    Closed,
    /// A broken rule: the connection is to be closed with this reason.
    Failed(CloseReason),
    /// The input is used up.
    Nothing,
}

/// A data message, in the buffer that it was received into.
#[derive(Debug)]
pub enum Payload {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Payload {
    /// As the engine takes it.
    pub fn as_message(&self) -> message::Message<'_> {
        match self {
            Self::Text(text) => message::Message::Text(text.as_str()),
            Self::Binary(bytes) => message::Message::Binary(bytes),
        }
    }
}

/// tungstenite reads this much at a time, from memory: small, since each connection holds it.
const READ_BUFFER_BYTES: usize = 256;

impl WebSocket {
    /// A connection whose handshake is complete.
    pub fn new(message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            validator: Validator::new(message_bytes_max),
            closing: Closing::Open,
            failed: false,
        }
    }

    /// Reads from `input`, which is advanced, up to the next thing to know, and no further than to
    /// the end of the frame that tells it. Pongs go to `output`.
    pub fn receive(&mut self, input: &mut &[u8], output: &mut Vec<u8>) -> Received {
        let mut memory = Memory {
            input,
            output,
            validator: Some(&mut self.validator),
        };
        match self.context.read(&mut memory) {
            Ok(Message::Text(text)) => Received::Message(Payload::Text(text)),
            Ok(Message::Binary(bytes)) => Received::Message(Payload::Binary(bytes)),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                // The answer to a ping, which would wait for the next read.
                let flushed = self.context.flush(&mut memory);
                debug_assert!(flushed.is_ok(), "memory takes everything: {flushed:?}");
                Received::Control
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                if let Closing::Open = self.closing {
                    self.closing = Closing::Owed(answer_to(self.validator.close_payload()));
                }
                Received::Closed
            }
            Err(error) => {
                self.failed = true;
                Received::Failed(match self.validator.violation() {
                    Some(reason) => reason.clone(),
                    None => reason_for(&error),
                })
            }
        }
    }

    /// The code of the peer's Close, once it has come with one.
    pub(super) fn peer_close_code(&self) -> Option<u16> {
        let code = self.validator.close_payload().first_chunk()?;
        Some(u16::from_be_bytes(*code))
    }

    /// Whether no frame and no message in fragments is under way, and nothing has failed: the next
    /// byte begins a frame, and tungstenite, which is given no byte past a final one, holds none.
    pub(super) fn is_between_messages(&self) -> bool {
        !self.failed && self.validator.is_between_messages()
    }

    /// Whether nothing at all is under way, nor a Close. What is received next depends on nothing
    /// that was received before, and might as well be received by another, or be another's.
    pub fn is_at_rest(&self) -> bool {
        self.is_between_messages() && matches!(self.closing, Closing::Open)
    }

    /// How many bytes of a message that is not whole, or of a frame, it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.validator.held_bytes() as usize
    }

    /// The payload of the longest frame that has begun.
    pub(super) fn frame_bytes_max(&self) -> u64 {
        self.validator.frame_bytes_max()
    }

    /// Frames that have begun since the last call.
    pub(super) fn take_frames(&mut self) -> usize {
        self.validator.take_frames()
    }

    /// Appends a Close frame; or, if the peer has closed first, the answer to its Close. A second
    /// call appends nothing.
    pub fn close(&mut self, reason: &CloseReason, output: &mut Vec<u8>) {
        match std::mem::replace(&mut self.closing, Closing::Sent) {
            Closing::Open => self.close_first(reason, output),
            Closing::Owed(payload) => encode(OpCode::Control(Control::Close), &payload, output),
            Closing::Sent => {}
        }
    }

    /// Through tungstenite, which answers no ping from here on.
    fn close_first(&mut self, reason: &CloseReason, output: &mut Vec<u8>) {
        let text = reason.text();
        let frame = CloseFrame {
            code: CloseCode::from(reason.code()),
            reason: cut_to(&text, CLOSE_TEXT_BYTES_MAX).into(),
        };
        let mut nothing: &[u8] = &[];
        let mut memory = Memory {
            input: &mut nothing,
            output,
            validator: None,
        };
        let closed = self.context.close(&mut memory, Some(frame));
        debug_assert!(closed.is_ok(), "memory takes everything: {closed:?}");
    }
}

/// The answer to a Close frame: the same payload again (section 5.5.1), unless its code may not be sent.
fn answer_to(payload: &[u8]) -> Vec<u8> {
    match payload.first_chunk() {
        Some(code) if !may_be_sent(u16::from_be_bytes(*code)) => {
            let reason = CloseReason::ProtocolError;
            [&reason.code().to_be_bytes(), reason.text().as_bytes()].concat()
        }
        Some(_) | None => payload.to_vec(),
    }
}

/// Section 7.4: codes below 3000 are the protocol's, and only those that it has defined (1012 to
/// 1014 in IANA's registry) mean anything; 1004 to 1006 and 1015 are never sent.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// RFC 6455, section 5.5: a control frame holds 125 bytes, two of which are the close code.
const CLOSE_TEXT_BYTES_MAX: usize = 123;

fn reason_for(error: &Error) -> CloseReason {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "tungstenite's enum, and it grows"
    )]
    match error {
        Error::Capacity(_) => CloseReason::TooBig,
        Error::Utf8(_) => CloseReason::InvalidUtf8,
        _ => CloseReason::ProtocolError,
    }
}

fn cut_to(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The stream that tungstenite sees: what was received, as far as it may stand, and a buffer that
/// takes everything.
struct Memory<'a, 'b> {
    input: &'a mut &'b [u8],
    output: &'a mut Vec<u8>,
    validator: Option<&'a mut Validator>,
}

impl Read for Memory<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Never `Ok(0)`, which would mean the end of the stream.
        let Some(validator) = &mut self.validator else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if validator.violation().is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.input.len().min(buffer.len());
        match validator.check(&self.input[..len]) {
            0 => Err(io::ErrorKind::InvalidData.into()),
            valid => self.input.read(&mut buffer[..valid]),
        }
    }
}

impl Write for Memory<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frame::encode_message;
    use crate::net::masked::frame;

    #[test]
    fn a_close_is_answered_once_and_after_what_was_sent_before() {
        let mut socket = WebSocket::new(100);
        let mut output = Vec::new();
        let bytes = frame(0x88, &[0x03, 0xe8]);
        let mut input = bytes.as_slice();
        assert!(matches!(
            socket.receive(&mut input, &mut output),
            Received::Closed
        ));
        assert!(
            output.is_empty(),
            "what is still owed goes before the answer"
        );
        encode_message(b"late", false, &mut output);
        socket.close(&CloseReason::of(1001, "too late"), &mut output);
        assert_eq!(output, b"\x81\x04late\x88\x02\x03\xe8");
        socket.close(&CloseReason::of(1001, "too late"), &mut output);
        assert_eq!(output.len(), 10);
    }

    #[test]
    fn no_pong_follows_our_close() {
        let mut socket = WebSocket::new(100);
        let asked = frame(0x89, b"hi");
        let (mut input, mut output) = (&asked[..], Vec::new());
        assert!(matches!(
            socket.receive(&mut input, &mut output),
            Received::Control
        ));
        socket.close(&CloseReason::of(1001, ""), &mut output);
        let answered = [0x8a, 2, b'h', b'i'];
        let close = [0x88, 2, 0x03, 0xe9];
        assert_eq!(output, [&answered[..], &close].concat());
    }

    #[test]
    fn messages_are_still_read_after_our_close() {
        let mut socket = WebSocket::new(100);
        let mut output = Vec::new();
        socket.close(&CloseReason::of(1001, "x".repeat(200).leak()), &mut output);
        assert_eq!(output[..4], [0x88, 125, 0x03, 0xe9]);
        let bytes = [frame(0x81, b"late"), frame(0x88, &[0x03, 0xe9])].concat();
        let mut input = bytes.as_slice();
        assert!(matches!(
            socket.receive(&mut input, &mut output),
            Received::Message(_)
        ));
        assert!(matches!(
            socket.receive(&mut input, &mut output),
            Received::Closed
        ));
    }
}

//! The reader of a connection: what it has read becomes messages, pings, and the peer's Close.
//!
//! A message that is one frame, and came whole, is lent from where it was read to: no copy, no
//! allocation. Of anything else something is under way until the next read: a part of a header, of
//! a payload, or of a message in fragments. It is kept in a buffer that is as large as what has
//! come, never as what was announced; a connection at rest has none.
//!
//! Each byte is judged as it comes. A connection that cannot become right any more fails at once
//! (section 8.1 of RFC 6455 for text), and what is too big is refused when it is announced.
//!
//! Pure. It answers nothing: pongs and the answer to a Close are `connection`'s.

use super::frame::{CODE_BYTES, HEADER_BYTES_MAX, Header, Opcode, SHORT_BYTES_MAX, unmask};
use super::intake::Intake;
use crate::engine::io::CloseReason;
use crate::engine::message::Message;

/// What has come of a connection's frames and is not whole. At rest, that is nothing.
#[derive(Debug, Default)]
pub struct Reader(Option<Box<UnderWay>>);

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A whole data message.
    Message(Message<'a>),
    /// A ping; [`Reader::control_payload`] is owed to it.
    Ping,
    /// A pong: there is nothing to do about it.
    Pong,
    /// The peer's Close frame: nothing more will come.
    Closed,
    /// A broken rule: the connection is to be closed with this reason.
    Failed(CloseReason),
    /// The input is used up.
    Nothing,
}

/// A frame or a message that has begun, or the control frame that was told of last.
#[derive(Debug)]
struct UnderWay {
    part: Part,
    /// A frame has begun a message, and no final one has ended it.
    in_message: bool,
    message: Partial,
    /// The payload of a control frame, as far as it has come.
    control: [u8; SHORT_BYTES_MAX],
    control_len: usize,
}

/// Where in a frame the next byte stands.
#[derive(Debug)]
enum Part {
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        len: usize,
    },
    /// So many bytes of the payload are to come; the mask begins with the next one's.
    Payload { header: Header, left: usize },
    /// Behind a Close frame: nothing there means anything (section 5.5.1).
    Closed,
}

/// What has come of a message.
#[derive(Debug, Default)]
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
    /// So much of it is known to be UTF-8.
    valid: usize,
}

impl Reader {
    /// Reads from `input` up to the next thing to know, and no further than to the end of the frame
    /// that tells it. A message may hold `message_bytes_max`. Behind a Close and a broken rule there
    /// is nothing to know.
    pub fn next<'a>(
        &mut self,
        input: &'a mut Intake<'_>,
        message_bytes_max: usize,
    ) -> Received<'a> {
        self.rest();
        if !self.is_under_way() {
            match take_message(input, message_bytes_max) {
                Ok(Some(message)) => return Received::Message(message),
                Ok(None) if input.rest().is_empty() => return Received::Nothing,
                Ok(None) => {}
                Err(reason) => return Received::Failed(reason),
            }
        }
        let under_way = self.0.get_or_insert_default();
        match under_way.advance(input, message_bytes_max) {
            Err(reason) => Received::Failed(reason),
            Ok(None) => Received::Nothing,
            Ok(Some(Opcode::Ping)) => Received::Ping,
            Ok(Some(Opcode::Pong)) => Received::Pong,
            Ok(Some(Opcode::Close)) => Received::Closed,
            Ok(Some(Opcode::Continuation | Opcode::Text | Opcode::Binary)) => {
                std::mem::take(&mut under_way.message).lend(input)
            }
        }
    }

    /// Lets go of what a connection at rest does without: nothing is under way.
    pub(super) fn rest(&mut self) {
        self.0.take_if(|under_way| under_way.is_between_messages());
    }

    /// Whether a frame or a message has begun and is not whole; or the peer's Close has come.
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// The payload of the ping that was told of last.
    pub fn ping_payload(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], UnderWay::control)
    }

    /// The payload of the peer's Close, once it has come: nothing, or a code and a reason.
    pub fn close_payload(&self) -> Option<&[u8]> {
        let closed = |under_way: &&UnderWay| matches!(under_way.part, Part::Closed);
        self.0.as_deref().filter(closed).map(UnderWay::control)
    }

    /// How many bytes of a message that is not whole, or of a frame, it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.0.as_deref().map_or(0, UnderWay::held_bytes)
    }
}

/// The message at the front, if there is one as most are: in one frame, which is whole.
#[inline]
fn take_message<'b>(
    input: &mut Intake<'b>,
    message_bytes_max: usize,
) -> Result<Option<Message<'b>>, CloseReason> {
    let Some((header, header_len)) = Header::parse(input.rest(), false, message_bytes_max)? else {
        return Ok(None);
    };
    let is_data = matches!(header.opcode, Opcode::Text | Opcode::Binary);
    if !is_data || !header.is_final || input.rest().len() - header_len < header.length {
        return Ok(None);
    }
    input.take_header(header_len);
    let payload = input.take(header.length);
    unmask(payload, header.mask);
    message(header.opcode == Opcode::Text, payload).map(Some)
}

fn message(is_text: bool, payload: &[u8]) -> Result<Message<'_>, CloseReason> {
    if !is_text {
        return Ok(Message::Binary(payload));
    }
    match str::from_utf8(payload) {
        Ok(text) => Ok(Message::Text(text)),
        Err(_) => Err(CloseReason::InvalidUtf8),
    }
}

/// How much of what has come of a text is UTF-8: all but a character that is not whole.
fn valid_len(text: &[u8]) -> Result<usize, CloseReason> {
    match str::from_utf8(text) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(CloseReason::InvalidUtf8),
    }
}

impl Default for UnderWay {
    fn default() -> Self {
        Self {
            part: Part::NEXT_HEADER,
            in_message: false,
            message: Partial::default(),
            control: [0; SHORT_BYTES_MAX],
            control_len: 0,
        }
    }
}

impl Part {
    const NEXT_HEADER: Self = Self::Header {
        bytes: [0; HEADER_BYTES_MAX],
        len: 0,
    };
}

impl UnderWay {
    /// Goes on until a message or a control frame has ended, and returns what its last frame was;
    /// or until the input is used up.
    fn advance(
        &mut self,
        input: &mut Intake<'_>,
        message_bytes_max: usize,
    ) -> Result<Option<Opcode>, CloseReason> {
        loop {
            let is_whole = match self.part {
                Part::Header { .. } => self.take_header(input, message_bytes_max)?,
                Part::Payload { .. } => self.take_payload(input)?,
                Part::Closed => false,
            };
            if !is_whole {
                return Ok(None);
            }
            if let Part::Payload { header, left: 0 } = self.part
                && self.end_frame(header)
            {
                return Ok(Some(header.opcode));
            }
        }
    }

    /// Whether the header is whole, and the payload begins.
    fn take_header(
        &mut self,
        input: &mut Intake<'_>,
        message_bytes_max: usize,
    ) -> Result<bool, CloseReason> {
        let Part::Header { bytes, len } = &mut self.part else {
            return Ok(true);
        };
        let begun = *len;
        let room = &mut bytes[begun..];
        let come = input.rest().len().min(room.len());
        room[..come].copy_from_slice(&input.rest()[..come]);
        *len += come;
        let bytes_max = message_bytes_max - self.message.bytes.len();
        let parsed = Header::parse(&bytes[..*len], self.in_message, bytes_max)?;
        let Some((header, header_len)) = parsed else {
            input.take(come);
            return Ok(false);
        };
        input.take_header(header_len - begun);
        match header.opcode {
            Opcode::Text | Opcode::Binary => {
                self.in_message = true;
                self.message.is_text = header.opcode == Opcode::Text;
            }
            Opcode::Continuation => {}
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control_len = 0,
        }
        self.part = Part::Payload {
            left: header.length,
            header,
        };
        Ok(true)
    }

    /// Whether the payload is whole.
    fn take_payload(&mut self, input: &mut Intake<'_>) -> Result<bool, CloseReason> {
        let Part::Payload { header, left } = &mut self.part else {
            return Ok(true);
        };
        let come = input.take(*left);
        unmask(come, header.mask);
        header.mask.rotate_left(come.len() % 4);
        *left -= come.len();
        let is_whole = *left == 0;
        match header.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.message.bytes.extend_from_slice(come);
                // What ends a message is judged with all of it.
                if !is_whole || !header.is_final {
                    self.message.judge()?;
                }
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.control[self.control_len..][..come.len()].copy_from_slice(come);
                self.control_len += come.len();
            }
        }
        if header.opcode == Opcode::Close {
            let reason = self.control().get(CODE_BYTES..).unwrap_or_default();
            if valid_len(reason)? < reason.len() && is_whole {
                return Err(CloseReason::InvalidUtf8);
            }
        }
        Ok(is_whole)
    }

    /// Goes on behind the last byte of a frame. Whether a message or a control frame has ended.
    fn end_frame(&mut self, header: Header) -> bool {
        self.part = Part::NEXT_HEADER;
        match header.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.in_message = !header.is_final;
            }
            Opcode::Close => {
                self.part = Part::Closed;
                self.message = Partial::default();
            }
            Opcode::Ping | Opcode::Pong => {}
        }
        header.is_final
    }

    fn control(&self) -> &[u8] {
        &self.control[..self.control_len]
    }

    /// Whether the next byte begins a message or a control frame.
    fn is_between_messages(&self) -> bool {
        !self.in_message && matches!(self.part, Part::Header { len: 0, .. })
    }

    fn held_bytes(&self) -> usize {
        let of_frame = match self.part {
            Part::Header { len, .. } => len,
            Part::Payload { header, .. } if header.opcode.is_control() => self.control_len,
            Part::Payload { .. } | Part::Closed => 0,
        };
        self.message.bytes.len() + of_frame
    }
}

impl Partial {
    /// Judges what has come of a text since the last time.
    fn judge(&mut self) -> Result<(), CloseReason> {
        if self.is_text {
            self.valid += valid_len(&self.bytes[self.valid..])?;
        }
        Ok(())
    }

    /// The whole message.
    fn lend<'a>(self, input: &'a mut Intake<'_>) -> Received<'a> {
        match message(self.is_text, input.lend(self.bytes)) {
            Ok(message) => Received::Message(message),
            Err(reason) => Received::Failed(reason),
        }
    }
}

#[cfg(test)]
mod tests;

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

use super::body::{Body, whole_characters};
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
    /// A ping; [`Reader::ping_payload`] is owed to it.
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
#[derive(Debug, Default)]
struct UnderWay {
    part: Part,
    /// A frame has begun a message, and no final one has ended it.
    in_message: bool,
    message: Body,
    control: Control,
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

/// What has come of a control frame's payload.
#[derive(Debug)]
struct Control {
    bytes: [u8; SHORT_BYTES_MAX],
    len: usize,
}

impl Reader {
    /// Reads from `input` up to the next thing to know, and no further than to the end of the frame
    /// that tells it. A message may hold `message_bytes_max`; a large one takes the `spare` buffer, if
    /// it has memory. Behind a Close and a broken rule there is nothing to know.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &'a mut Intake<'_>,
        message_bytes_max: usize,
        spare: &mut Vec<u8>,
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
        self.go_on(input, message_bytes_max, spare)
    }

    /// With what is under way. Apart, so that most messages do not pay for it.
    #[inline(never)]
    fn go_on<'a>(
        &mut self,
        input: &'a mut Intake<'_>,
        message_bytes_max: usize,
        spare: &mut Vec<u8>,
    ) -> Received<'a> {
        let under_way = self.0.get_or_insert_default();
        match under_way.advance(input, message_bytes_max, spare) {
            Err(reason) => Received::Failed(reason),
            Ok(None) => Received::Nothing,
            Ok(Some(Opcode::Ping)) => Received::Ping,
            Ok(Some(Opcode::Pong)) => Received::Pong,
            Ok(Some(Opcode::Close)) => Received::Closed,
            Ok(Some(Opcode::Continuation | Opcode::Text | Opcode::Binary)) => {
                Received::Message(input.lend(std::mem::take(&mut under_way.message)))
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
        self.0
            .as_deref()
            .map_or(&[], |under_way| under_way.control.payload())
    }

    /// The payload of the peer's Close, once it has come: nothing, or a code and a reason.
    pub fn close_payload(&self) -> Option<&[u8]> {
        let closed = |under_way: &&UnderWay| matches!(under_way.part, Part::Closed);
        self.0
            .as_deref()
            .filter(closed)
            .map(|under_way| under_way.control.payload())
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

impl Default for Part {
    fn default() -> Self {
        Self::NEXT_HEADER
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
        spare: &mut Vec<u8>,
    ) -> Result<Option<Opcode>, CloseReason> {
        loop {
            let is_whole = match self.part {
                Part::Header { .. } => self.take_header(input, message_bytes_max)?,
                Part::Payload { .. } => self.take_payload(input, spare)?,
                Part::Closed => false,
            };
            if !is_whole {
                return Ok(None);
            }
            if let Part::Payload { header, left: 0 } = self.part
                && self.end_frame(header)?
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
        let bytes_max = message_bytes_max - self.message.len();
        let parsed = Header::parse(&bytes[..*len], self.in_message, bytes_max)?;
        let Some((header, header_len)) = parsed else {
            input.take(come);
            return Ok(false);
        };
        input.take_header(header_len - begun);
        match header.opcode {
            Opcode::Text | Opcode::Binary => {
                self.in_message = true;
                self.message = Body::new(header.opcode == Opcode::Text);
            }
            Opcode::Continuation => {}
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control.len = 0,
        }
        self.part = Part::Payload {
            left: header.length,
            header,
        };
        Ok(true)
    }

    /// Whether the payload is whole.
    fn take_payload(
        &mut self,
        input: &mut Intake<'_>,
        spare: &mut Vec<u8>,
    ) -> Result<bool, CloseReason> {
        let Part::Payload { header, left } = &mut self.part else {
            return Ok(true);
        };
        let piece = input.take(*left);
        unmask(piece, header.mask);
        header.mask.rotate_left(piece.len() % 4);
        let left_max = if header.is_final { *left } else { usize::MAX };
        *left -= piece.len();
        let is_whole = *left == 0;
        match header.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.message.push(piece, left_max, spare)?;
            }
            Opcode::Ping | Opcode::Pong => self.control.push(piece),
            Opcode::Close => {
                self.control.push(piece);
                self.control.judge_reason(is_whole)?;
            }
        }
        Ok(is_whole)
    }

    /// Goes on behind the last byte of a frame. Whether a message or a control frame has ended.
    fn end_frame(&mut self, header: Header) -> Result<bool, CloseReason> {
        self.part = Part::NEXT_HEADER;
        match header.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary if header.is_final => {
                self.message.judge_end()?;
                self.in_message = false;
            }
            Opcode::Close => {
                self.part = Part::Closed;
                self.message = Body::default();
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary | Opcode::Ping | Opcode::Pong => {}
        }
        Ok(header.is_final)
    }

    /// Whether the next byte begins a message or a control frame.
    fn is_between_messages(&self) -> bool {
        !self.in_message && matches!(self.part, Part::Header { len: 0, .. })
    }

    fn held_bytes(&self) -> usize {
        let of_frame = match self.part {
            Part::Header { len, .. } => len,
            Part::Payload { header, .. } if header.opcode.is_control() => self.control.len,
            Part::Payload { .. } | Part::Closed => 0,
        };
        self.message.len() + of_frame
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            bytes: [0; SHORT_BYTES_MAX],
            len: 0,
        }
    }
}

impl Control {
    fn push(&mut self, piece: &[u8]) {
        self.bytes[self.len..][..piece.len()].copy_from_slice(piece);
        self.len += piece.len();
    }

    fn payload(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Judges the reason of a Close, which follows its code and is a text.
    fn judge_reason(&self, is_whole: bool) -> Result<(), CloseReason> {
        let reason = self.payload().get(CODE_BYTES..).unwrap_or_default();
        let (_, begun) = whole_characters(reason)?;
        if is_whole && !begun.is_empty() {
            return Err(CloseReason::InvalidUtf8);
        }
        Ok(())
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

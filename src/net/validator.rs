//! What RFC 6455 demands of a client's bytes, checked as they come.
//!
//! tungstenite judges a frame when all of it has arrived, and takes lengths that are longer than
//! they need to be. This stands before it and judges each byte: a connection that cannot become
//! right any more fails at once (section 8.1 for text), not after the megabyte that was announced.
//! What is too big is refused before it is held.
//!
//! Pure. It never holds back or changes a byte that may stand; messages are put together, and pings
//! are answered, by tungstenite.

use super::frame::{SHORT_BYTES_MAX, long_length, unmask};
use super::utf8::Utf8;
use crate::engine::io::CloseReason;

/// How far the client's bytes have been judged.
#[derive(Debug)]
pub(super) struct Validator {
    message_bytes_max: u64,
    part: Part,
    /// The message that a fragment has begun and none has ended.
    open: Option<Kind>,
    /// Bytes of that message, in the fragments that have ended.
    message_bytes: u64,
    /// The text of the message so far.
    text: Utf8,
    /// The payload of the client's Close frame.
    close: Vec<u8>,
    violation: Option<CloseReason>,
    /// Frames that have begun since somebody asked.
    frames: usize,
    /// The payload of the longest frame that has begun.
    frame_bytes_max: u64,
}

/// Where in a frame the next byte stands.
#[derive(Debug)]
enum Part {
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        len: usize,
    },
    Payload(Frame),
    /// Behind a Close frame: nothing there means anything (section 5.5.1).
    Closed,
}

/// A frame whose header has been judged.
#[derive(Debug)]
struct Frame {
    is_final: bool,
    kind: Kind,
    /// Bytes of the payload, and those of them to come.
    length: u64,
    left: u64,
    /// Its first byte is for the next byte of the payload.
    mask: [u8; 4],
}

/// What a payload is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

/// Two bytes, a length of eight, and the mask.
const HEADER_BYTES_MAX: usize = 14;

const NEXT_HEADER: Part = Part::Header {
    bytes: [0; HEADER_BYTES_MAX],
    len: 0,
};

impl Validator {
    /// For a connection whose handshake is complete.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max: message_bytes_max as u64,
            part: NEXT_HEADER,
            open: None,
            message_bytes: 0,
            text: Utf8::default(),
            close: Vec::new(),
            violation: None,
            frames: 0,
            frame_bytes_max: 0,
        }
    }

    /// Judges the next bytes, to the end of a final frame at most, behind which there is something
    /// to tell, and returns how many of them may be passed on. If there are none, there is a
    /// violation, and what was passed on before does not complete the frame that commits it.
    pub(super) fn check(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.violation.is_none() {
            let judged = match &mut self.part {
                Part::Header { bytes: header, len } => {
                    let taken = take_header(header, *len, &bytes[at..]);
                    *len += taken;
                    let (header, len) = (*header, *len);
                    self.header(&header[..len]).map(|()| taken)
                }
                Part::Payload(_) => self.payload(&bytes[at..]),
                Part::Closed => Ok(bytes.len() - at),
            };
            match judged.and_then(|len| Ok((len, self.frame_end()?))) {
                Ok((len, tells)) => {
                    at += len;
                    if tells {
                        break;
                    }
                }
                Err(reason) => self.violation = Some(reason),
            }
        }
        at
    }

    /// Why the connection is to fail: once there is a reason, it remains.
    pub(super) fn violation(&self) -> Option<&CloseReason> {
        self.violation.as_ref()
    }

    /// Frames whose header has come since the last call.
    pub(super) fn take_frames(&mut self) -> usize {
        std::mem::take(&mut self.frames)
    }

    /// Whether no frame and no message has begun and not ended, and all that has come may stand.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.part, Part::Header { len: 0, .. })
            && self.open.is_none()
            && self.violation.is_none()
    }

    /// How much of the message and of the frame that are under way has been passed on.
    pub(super) fn held_bytes(&self) -> u64 {
        let of_frame = match &self.part {
            Part::Header { len, .. } => *len as u64,
            Part::Payload(frame) => frame.length - frame.left,
            Part::Closed => 0,
        };
        self.message_bytes + of_frame
    }

    /// The payload of the longest frame that has begun.
    pub(super) fn frame_bytes_max(&self) -> u64 {
        self.frame_bytes_max
    }

    /// The payload of the client's Close frame: nothing, or a code and a reason.
    pub(super) fn close_payload(&self) -> &[u8] {
        &self.close
    }

    /// Judges a header, as far as it has come.
    fn header(&mut self, header: &[u8]) -> Result<(), CloseReason> {
        let length_bytes = match header.get(1).map(|second| second & 0x7f) {
            None => return self.first_byte(header[0]).map(drop),
            Some(126) => 2,
            Some(127) => 8,
            Some(_) => 0,
        };
        let (kind, second) = (self.first_byte(header[0])?, header[1]);
        // Section 5.1: frames from a client are masked. Section 5.5: control frames are short.
        let is_masked = second & 0x80 != 0;
        let is_short = second & 0x7f <= SHORT_BYTES_MAX;
        if !is_masked || kind.is_control() && !is_short {
            return Err(CloseReason::ProtocolError);
        }
        let mask_at = 2 + length_bytes;
        if header.len() < mask_at {
            return Ok(());
        }
        let length = match length_bytes {
            0 => u64::from(second & 0x7f),
            _ => long_length(&header[2..mask_at])?,
        };
        self.length(kind, length)?;
        if let Some(mask) = header[mask_at..].first_chunk() {
            self.begin(header[0], kind, length, *mask);
        }
        Ok(())
    }

    /// The payload's kind, if such a frame may stand here.
    fn first_byte(&self, first: u8) -> Result<Kind, CloseReason> {
        let is_final = first & 0x80 != 0;
        // Section 5.2: reserved bits mean something only to extensions, and there are none.
        if first & 0x70 != 0 {
            return Err(CloseReason::ProtocolError);
        }
        // Section 5.4: control frames come in one piece, and messages one after the other.
        match (first & 0x0f, self.open, is_final) {
            (0x0, Some(kind), _) => Ok(kind),
            (0x1, None, _) => Ok(Kind::Text),
            (0x2, None, _) => Ok(Kind::Binary),
            (0x8, _, true) => Ok(Kind::Close),
            (0x9, _, true) => Ok(Kind::Ping),
            (0xa, _, true) => Ok(Kind::Pong),
            _ => Err(CloseReason::ProtocolError),
        }
    }

    fn length(&self, kind: Kind, length: u64) -> Result<(), CloseReason> {
        match kind {
            // Section 5.5.1: if there is a payload, it begins with a code of two bytes.
            Kind::Close if length == 1 => Err(CloseReason::ProtocolError),
            Kind::Text | Kind::Binary if length > self.message_bytes_max - self.message_bytes => {
                Err(CloseReason::TooBig)
            }
            Kind::Text | Kind::Binary | Kind::Close | Kind::Ping | Kind::Pong => Ok(()),
        }
    }

    fn begin(&mut self, first: u8, kind: Kind, length: u64, mask: [u8; 4]) {
        let is_final = first & 0x80 != 0;
        match kind {
            Kind::Text | Kind::Binary => self.open = (!is_final).then_some(kind),
            // Its reason is a text of its own, and no message goes on behind it.
            Kind::Close => self.text = Utf8::default(),
            Kind::Ping | Kind::Pong => {}
        }
        self.frames = self.frames.saturating_add(1);
        self.frame_bytes_max = self.frame_bytes_max.max(length);
        self.part = Part::Payload(Frame {
            is_final,
            kind,
            length,
            left: length,
            mask,
        });
    }

    /// Judges what `bytes` holds of the payload, and returns how much that is.
    fn payload(&mut self, bytes: &[u8]) -> Result<usize, CloseReason> {
        let Part::Payload(frame) = &mut self.part else {
            return Ok(0);
        };
        let len = frame.left.min(bytes.len() as u64) as usize;
        if len == 0 || matches!(frame.kind, Kind::Binary | Kind::Ping | Kind::Pong) {
            frame.left -= len as u64;
            return Ok(len);
        }
        let mut chunk = [0; CHUNK_BYTES];
        let len = len.min(CHUNK_BYTES);
        let chunk = &mut chunk[..len];
        chunk.copy_from_slice(&bytes[..len]);
        unmask(chunk, frame.mask);
        frame.left -= len as u64;
        frame.mask.rotate_left(len % 4);
        let mut text: &[u8] = chunk;
        if frame.kind == Kind::Close {
            // Its code is no text.
            let code_left = CLOSE_CODE_BYTES.saturating_sub(self.close.len());
            self.close.extend_from_slice(text);
            text = &text[code_left.min(len)..];
        }
        if self.text.push(text) {
            Ok(len)
        } else {
            Err(CloseReason::InvalidUtf8)
        }
    }

    /// Goes on to the next header, if this was the payload's last byte, and returns whether it was
    /// that of a final frame: the last of a message, or a control frame.
    fn frame_end(&mut self) -> Result<bool, CloseReason> {
        let Part::Payload(Frame {
            is_final,
            kind,
            length,
            left: 0,
            ..
        }) = self.part
        else {
            return Ok(false);
        };
        let ends_text = matches!(kind, Kind::Text | Kind::Close) && is_final;
        if ends_text && !self.text.is_whole() {
            return Err(CloseReason::InvalidUtf8);
        }
        match kind {
            Kind::Text | Kind::Binary if is_final => self.message_bytes = 0,
            Kind::Text | Kind::Binary => self.message_bytes += length,
            Kind::Close | Kind::Ping | Kind::Pong => {}
        }
        self.part = match kind {
            Kind::Close => Part::Closed,
            Kind::Text | Kind::Binary | Kind::Ping | Kind::Pong => NEXT_HEADER,
        };
        Ok(is_final)
    }
}

const CLOSE_CODE_BYTES: usize = 2;

/// Payloads are unmasked in pieces of this size, to be looked at.
const CHUNK_BYTES: usize = 256;

impl Kind {
    fn is_control(self) -> bool {
        match self {
            Self::Text | Self::Binary => false,
            Self::Ping | Self::Pong | Self::Close => true,
        }
    }
}

/// Moves what `bytes` has of a header behind the `len` bytes that are there, and returns how much
/// that was.
fn take_header(header: &mut [u8; HEADER_BYTES_MAX], len: usize, bytes: &[u8]) -> usize {
    let room = &mut header[len..];
    let taken = bytes.len().min(room.len());
    room[..taken].copy_from_slice(&bytes[..taken]);
    let whole = match (len + taken, header[1] & 0x7f) {
        (..2, _) => 2,
        (_, 126) => 2 + 2 + 4,
        (_, 127) => HEADER_BYTES_MAX,
        (_, _) => 2 + 4,
    };
    taken.min(whole - len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::masked::frame;

    const LIMIT: usize = 1_000;

    /// All that may be passed on of these bytes.
    fn check_all(validator: &mut Validator, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            match validator.check(&bytes[at..]) {
                0 => return at,
                passed => at += passed,
            }
        }
    }

    /// The first `valid` bytes may stand, and the next may not, for this reason: in one piece, cut
    /// at every byte, and byte by byte.
    #[track_caller]
    fn check(bytes: &[u8], valid: usize, reason: &CloseReason) {
        let judge = |pieces: &[&[u8]]| {
            let mut validator = Validator::new(LIMIT);
            let mut passed = 0;
            for piece in pieces {
                passed += check_all(&mut validator, piece);
                if validator.violation().is_some() {
                    break;
                }
            }
            (passed, validator.violation().cloned())
        };
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let (passed, violation) = judge(&[head, tail]);
            assert!(passed <= valid, "cut at {cut}: {passed} bytes were passed");
            assert_eq!(violation.as_ref(), Some(reason), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            judge(&single),
            (valid, Some(reason.clone())),
            "byte by byte"
        );
        assert_eq!(judge(&[&bytes[..valid]]), (valid, None), "what is valid");
    }

    #[test]
    fn the_first_byte_of_a_frame() {
        for first in 0..=u8::MAX {
            let is_valid = matches!(first, 0x01 | 0x02 | 0x81 | 0x82 | 0x88 | 0x89 | 0x8a);
            if !is_valid {
                check(&frame(first, b""), 0, &CloseReason::ProtocolError);
            }
            let is_valid = matches!(first, 0x00 | 0x80 | 0x88 | 0x89 | 0x8a);
            let begun = frame(0x01, b"a");
            let both = [begun.clone(), frame(first, b"")].concat();
            if is_valid {
                let mut validator = Validator::new(LIMIT);
                assert_eq!(check_all(&mut validator, &both), both.len(), "{first:#x}");
            } else {
                check(&both, begun.len(), &CloseReason::ProtocolError);
            }
        }
    }

    #[test]
    fn judging_stops_behind_each_final_frame() {
        let pieces = [
            frame(0x82, b"a"),
            [frame(0x01, b""), frame(0x00, b"a"), frame(0x89, b"")].concat(),
            [frame(0x00, b"b"), frame(0x80, b"c")].concat(),
            frame(0x88, b""),
        ];
        let (bytes, mut validator, mut at) = (pieces.concat(), Validator::new(LIMIT), 0);
        for piece in pieces {
            assert_eq!(validator.check(&bytes[at..]), piece.len());
            at += piece.len();
        }
    }

    #[test]
    fn lengths_and_masks() {
        let check = |header: &[u8], valid| check(header, valid, &CloseReason::ProtocolError);
        check(&[0x81, 0x01], 1);
        check(&[0x82, 0x7f], 1);
        check(&[0x89, 0xfe], 1);
        check(&[0x88, 0xff], 1);
        check(&[0x88, 0x81], 1);
        check(&[0x82, 0xfe, 0, 125], 3);
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 9);
        check(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 9);
    }

    #[test]
    fn what_is_too_big_is_refused_when_it_is_announced() {
        let check = |bytes: &[u8], valid| check(bytes, valid, &CloseReason::TooBig);
        check(&[0x82, 0xfe, 0x03, 0xe9], 3);
        check(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], 9);
        let mut fragments = [0x02, 0xfe, 0x03, 0xe7, 1, 2, 3, 4].to_vec();
        fragments.extend([0; 999]);
        fragments.extend(frame(0x89, b"between"));
        fragments.extend(frame(0x00, b"1"));
        let valid = fragments.len();
        let over = [fragments.as_slice(), &[0x80, 0x81]].concat();
        check(&over, valid + 1);

        fragments.extend(frame(0x80, b""));
        fragments.extend([0x82, 0xfe, 0x03, 0xe8, 1, 2, 3, 4]);
        let mut validator = Validator::new(LIMIT);
        assert_eq!(check_all(&mut validator, &fragments), fragments.len());
    }

    #[test]
    fn text_is_judged_byte_by_byte() {
        let check = |bytes: &[u8], valid| check(bytes, valid, &CloseReason::InvalidUtf8);
        check(&frame(0x81, b"ab\x80cd"), 6 + 2);
        check(&frame(0x81, b"a\xf4\x90\x80\x80"), 6 + 2);
        check(&frame(0x81, b"ab\xc3"), 6 + 2);
        let begun = frame(0x01, b"a\xe2\x82");
        check(
            &[begun.clone(), frame(0x80, b"(more")].concat(),
            begun.len() + 6,
        );
        let between = [begun, frame(0x89, b"\xff"), frame(0x00, b"")].concat();
        check(
            &[between.clone(), frame(0x80, b"")].concat(),
            between.len() + 5,
        );
        check(&frame(0x88, b"\x03\xe8ok\xc0"), 6 + 4);
        check(&frame(0x88, b"\x03\xe8ok\xc3"), 6 + 4);
    }

    #[test]
    fn what_is_held_is_what_has_come_of_a_message_that_is_not_whole() {
        let fragment = [&frame(0x02, b"abc")[..], &frame(0x00, b"defg")].concat();
        let (ping, last) = (frame(0x89, b"xy"), frame(0x80, b"hi"));
        // How much is held after each byte: of the message, and of the frame, a header included.
        let header = |before: u64| (1..=5).map(move |len| before + len).chain([before]);
        let payload = |before: u64, len: u64| (1..=len).map(move |len| before + len);
        let held = [
            header(0).chain(payload(0, 3)).collect::<Vec<_>>(),
            header(3).chain(payload(3, 4)).collect(),
            header(7).chain([8, 7]).collect(),
            header(7).chain([8, 0]).collect(),
            header(0).chain([1, 0]).collect(),
        ];
        let bytes = [fragment, ping, last, frame(0x81, b"ok")].concat();
        let mut validator = Validator::new(LIMIT);
        for (at, (byte, held)) in bytes.iter().zip(held.concat()).enumerate() {
            assert_eq!(validator.check(&[*byte]), 1);
            assert_eq!(validator.held_bytes(), held, "behind byte {at}");
        }
    }

    #[test]
    fn what_may_stand_is_passed_on_however_it_is_cut() {
        let bytes = [
            frame(0x01, "é€".as_bytes().split_last().unwrap().1),
            frame(0x89, b"\xff\xfe"),
            frame(0x80, b"\xac"),
            frame(0x82, b"\xff"),
            frame(0x8a, b"\xff"),
            frame(0x01, b"\xe2"),
            // The code is no text, and the reason is one of its own.
            frame(0x88, b"\x03\xf6ok"),
            // Nothing is looked at behind it.
            frame(0x88, b"\x03\xe8"),
            b"\xff".to_vec(),
        ]
        .concat();
        for cut in 0..=bytes.len() {
            let mut validator = Validator::new(LIMIT);
            let (head, tail) = bytes.split_at(cut);
            let passed = check_all(&mut validator, head) + check_all(&mut validator, tail);
            assert_eq!(passed, bytes.len(), "cut at {cut}");
            assert_eq!(validator.close_payload(), b"\x03\xf6ok");
        }
    }
}

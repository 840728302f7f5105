//! Frames as RFC 6455, section 5, has them: a client's header is read and judged, its mask is taken
//! off, and ours are encoded.
//!
//! Pure. It knows one frame at a time: which frames make a message is `reader`'s.

use crate::engine::io::CloseReason;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// More of a message.
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// What stands before a client's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    /// Bytes of the payload.
    pub(super) length: usize,
    pub(super) mask: [u8; 4],
}

/// Two bytes, a length of eight, and the mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The most that a control frame holds (section 5.5), and the longest length that stands in the
/// second byte itself (section 5.2).
pub(super) const SHORT_BYTES_MAX: usize = 125;

impl Header {
    /// The header that `bytes` begin with, and how long it is; `None`: it is not whole. It is
    /// refused at the first byte that makes it wrong. `in_message`: a message in fragments has
    /// begun; `bytes_max`: so much may a data frame hold.
    #[inline]
    pub(super) fn parse(
        bytes: &[u8],
        in_message: bool,
        bytes_max: usize,
    ) -> Result<Option<(Self, usize)>, CloseReason> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let opcode = Opcode::parse(*first, in_message)?;
        let Some((second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        // Section 5.1: frames from a client are masked.
        let Some(short) = second.checked_sub(MASKED) else {
            return Err(CloseReason::ProtocolError);
        };
        let long_bytes = match usize::from(short) {
            ..=SHORT_BYTES_MAX => 0,
            _ if opcode.is_control() => return Err(CloseReason::ProtocolError),
            126 => 2,
            _ => 8,
        };
        let Some((long, rest)) = rest.split_at_checked(long_bytes) else {
            return Ok(None);
        };
        let length = match long_bytes {
            0 => u64::from(short),
            _ => long_length(long)?,
        };
        if !opcode.is_control() && length > bytes_max as u64 {
            return Err(CloseReason::TooBig);
        }
        // Section 5.5.1: if a Close has a payload, it begins with a code of two bytes.
        if opcode == Opcode::Close && length == 1 {
            return Err(CloseReason::ProtocolError);
        }
        let header = |mask: &[u8; 4]| Self {
            opcode,
            is_final: first & FINAL != 0,
            // Below one limit or the other, each of which is a `usize`.
            length: length as usize,
            mask: *mask,
        };
        Ok(rest
            .first_chunk()
            .map(|mask| (header(mask), 2 + long_bytes + mask.len())))
    }
}

impl Opcode {
    /// Of a frame that may stand here: no reserved bit, since there are no extensions (section
    /// 5.2), control frames in one piece, and messages one after the other (section 5.4).
    fn parse(first: u8, in_message: bool) -> Result<Self, CloseReason> {
        match (first, in_message) {
            (0x81 | 0x01, false) => Ok(Self::Text),
            (0x82 | 0x02, false) => Ok(Self::Binary),
            (0x80 | 0x00, true) => Ok(Self::Continuation),
            (0x88, _) => Ok(Self::Close),
            (0x89, _) => Ok(Self::Ping),
            (0x8a, _) => Ok(Self::Pong),
            _ => Err(CloseReason::ProtocolError),
        }
    }

    pub(super) fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// The bit beside the opcode that says that a message ends here, and the one beside the length.
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A length of two or eight bytes. Section 5.2: the shortest form is a must, and the topmost of 64
/// bits is zero.
fn long_length(bytes: &[u8]) -> Result<u64, CloseReason> {
    let length = bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let shorter_max = match bytes.len() {
        2 => SHORT_BYTES_MAX as u64,
        _ => u64::from(u16::MAX),
    };
    if length <= shorter_max || length > i64::MAX as u64 {
        return Err(CloseReason::ProtocolError);
    }
    Ok(length)
}

/// Takes the mask off, or puts it on: its first byte is for the first of `payload`.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let four = u32::from_ne_bytes(mask);
    let eight = u64::from(four) << 32 | u64::from(four);
    let (eights, rest) = payload.as_chunks_mut();
    for bytes in eights {
        *bytes = (u64::from_ne_bytes(*bytes) ^ eight).to_ne_bytes();
    }
    let (fours, rest) = rest.as_chunks_mut();
    for bytes in fours {
        *bytes = (u32::from_ne_bytes(*bytes) ^ four).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Appends a data message in one frame.
pub fn encode_message(payload: &[u8], binary: bool, output: &mut Vec<u8>) {
    encode(opcode_of_message(binary), payload, output);
}

/// Appends the header of a data message in one frame: so many bytes are to follow.
pub(super) fn encode_header_of_message(payload_len: usize, binary: bool, output: &mut Vec<u8>) {
    encode_header(opcode_of_message(binary), payload_len, output);
}

/// Appends an empty ping.
pub fn encode_ping(output: &mut Vec<u8>) {
    encode(Opcode::Ping, &[], output);
}

/// Appends the answer to a ping with this payload.
pub fn encode_pong(payload: &[u8], output: &mut Vec<u8>) {
    encode(Opcode::Pong, payload, output);
}

/// Appends a Close.
pub fn encode_close(reason: &CloseReason, output: &mut Vec<u8>) {
    let text = reason.text();
    let mut end = text.len().min(SHORT_BYTES_MAX - CODE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let payload = [&reason.code().to_be_bytes(), &text.as_bytes()[..end]].concat();
    encode(Opcode::Close, &payload, output);
}

/// Appends the answer to a Close with this payload: the same again (section 5.5.1), unless its code
/// may not be sent.
pub fn encode_close_answer(payload: &[u8], output: &mut Vec<u8>) {
    match close_code(payload) {
        Some(code) if !may_be_sent(code) => encode_close(&CloseReason::ProtocolError, output),
        Some(_) | None => encode(Opcode::Close, payload, output),
    }
}

/// The code that the payload of a Close begins with, if it has one.
pub(super) fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().copied().map(u16::from_be_bytes)
}

pub(super) const CODE_BYTES: usize = size_of::<u16>();

/// Section 7.4: codes below 3000 are the protocol's, and only those that it has defined (1012 to
/// 1014 in IANA's registry) mean anything; 1004 to 1006 and 1015 are never sent.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn opcode_of_message(binary: bool) -> Opcode {
    if binary { Opcode::Binary } else { Opcode::Text }
}

fn encode(opcode: Opcode, payload: &[u8], output: &mut Vec<u8>) {
    output.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header(opcode, payload.len(), output);
    output.extend_from_slice(payload);
}

fn encode_header(opcode: Opcode, payload_len: usize, output: &mut Vec<u8>) {
    let first = FINAL | opcode as u8;
    match payload_len {
        ..=SHORT_BYTES_MAX => output.extend_from_slice(&[first, payload_len as u8]),
        126..=0xffff => {
            output.extend_from_slice(&[first, 126]);
            output.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            output.extend_from_slice(&[first, 127]);
            output.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::OpCode;

    use super::*;
    use crate::net::masked::{MASK, frame, header};

    const LIMIT: usize = 70_000;

    /// tungstenite's reading of a header, and what RFC 6455 demands beyond it.
    fn judged(bytes: &[u8], in_message: bool) -> Result<(u8, bool, usize), CloseReason> {
        let parsed = FrameHeader::parse(&mut Cursor::new(bytes));
        let Ok(Some((header, length))) = parsed else {
            return Err(CloseReason::ProtocolError);
        };
        let opcode = u8::from(header.opcode);
        let is_plain = !(header.rsv1 || header.rsv2 || header.rsv3) && header.mask.is_some();
        let is_shortest = header.len(length) == bytes.len() && i64::try_from(length).is_ok();
        let may_stand = match header.opcode {
            OpCode::Control(_) => header.is_final && length <= 125 && (opcode, length) != (8, 1),
            // Section 5.4: messages come one after the other.
            OpCode::Data(_) => in_message == (opcode == 0),
        };
        if !is_plain || !is_shortest || !may_stand {
            return Err(CloseReason::ProtocolError);
        }
        if length > LIMIT as u64 {
            return Err(CloseReason::TooBig);
        }
        Ok((opcode, header.is_final, length as usize))
    }

    #[test]
    fn a_header_is_read_as_tungstenite_reads_it_and_judged_more_strictly() {
        for [first, second] in (0..=u16::MAX).map(u16::to_be_bytes) {
            let lengths = match second & 0x7f {
                126 => vec![0, 125, 126, 65_535],
                127 => vec![0, 65_535, 65_536, LIMIT as u64, 70_001, 1 << 63],
                short => vec![u64::from(short)],
            };
            for (length, in_message) in lengths.iter().flat_map(|len| [(len, false), (len, true)]) {
                let mut bytes = header(first, second, *length);
                if second & 0x80 == 0 {
                    bytes.truncate(bytes.len() - MASK.len());
                }
                let parsed = Header::parse(&bytes, in_message, LIMIT);
                let found = parsed.map(|parsed| {
                    let (header, len) = parsed.expect("a whole header");
                    assert_eq!((header.mask, len), (MASK, bytes.len()));
                    (header.opcode as u8, header.is_final, header.length)
                });
                let expected = judged(&bytes, in_message);
                assert_eq!(found, expected, "{bytes:x?}, in a message: {in_message}");
            }
        }
    }

    /// It is refused at the byte at `wrong`, and not before.
    #[track_caller]
    fn check(bytes: &[u8], wrong: usize, reason: &CloseReason) {
        for len in 0..=bytes.len() {
            let expected = if len > wrong {
                Err(reason.clone())
            } else {
                Ok(None)
            };
            let parsed = Header::parse(&bytes[..len], false, LIMIT);
            assert_eq!(parsed, expected, "{len} bytes of {bytes:x?}");
        }
    }

    #[test]
    fn a_header_is_refused_at_the_byte_that_makes_it_wrong() {
        for first in [
            0x00, 0x80, 0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f, 0x09, 0x08,
        ] {
            check(&header(first, 0x80, 0), 0, &CloseReason::ProtocolError);
        }
        for (first, second) in [
            (0x81, 0x01),
            (0x82, 0x7f),
            (0x89, 0xfe),
            (0x88, 0xff),
            (0x88, 0x81),
        ] {
            check(
                &header(first, second, 1 << 20),
                1,
                &CloseReason::ProtocolError,
            );
        }
        for (second, length, reason) in [
            (0xfe, 125, CloseReason::ProtocolError),
            (0xff, 0xffff, CloseReason::ProtocolError),
            (0xff, 1 << 63, CloseReason::ProtocolError),
            (0xff, LIMIT as u64 + 1, CloseReason::TooBig),
            (0xff, i64::MAX as u64, CloseReason::TooBig),
        ] {
            let bytes = header(0x82, second, length);
            check(&bytes, bytes.len() - MASK.len() - 1, &reason);
        }
    }

    #[test]
    fn a_mask_is_taken_off_and_put_on() {
        for len in 0..40 {
            let payload: Vec<u8> = (0..len).collect();
            let masked = frame(0x82, &payload).split_off(6);
            let mut bytes = masked.clone();
            unmask(&mut bytes, MASK);
            assert_eq!(bytes, payload);
            unmask(&mut bytes, MASK);
            assert_eq!(bytes, masked);
        }
    }

    #[test]
    fn frames_are_encoded_as_tungstenite_encodes_them() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong] {
                let (mut bytes, mut expected) = (Vec::new(), Vec::new());
                encode_header(opcode, len, &mut bytes);
                let header = FrameHeader {
                    opcode: OpCode::from(opcode as u8),
                    ..FrameHeader::default()
                };
                header.format(len as u64, &mut expected).unwrap();
                assert_eq!(bytes, expected, "{opcode:?}, {len} bytes");
            }
        }
        let mut bytes = Vec::new();
        encode_message("é".as_bytes(), false, &mut bytes);
        encode_message(b"b", true, &mut bytes);
        encode_ping(&mut bytes);
        encode_pong(b"hi", &mut bytes);
        assert_eq!(bytes, b"\x81\x02\xc3\xa9\x82\x01b\x89\x00\x8a\x02hi");
    }

    #[test]
    fn a_close_has_a_code_and_as_much_of_its_text_as_fits() {
        let mut bytes = Vec::new();
        encode_close(&CloseReason::of(1001, ""), &mut bytes);
        assert_eq!(bytes, [0x88, 2, 0x03, 0xe9]);
        let text = "é".repeat(62).leak();
        bytes.clear();
        encode_close(&CloseReason::of(1001, text), &mut bytes);
        assert_eq!(bytes[..4], [0x88, 124, 0x03, 0xe9]);
        assert_eq!(&bytes[4..], &text.as_bytes()[..122], "whole characters");
    }

    #[test]
    fn a_close_is_answered_with_its_payload_unless_its_code_may_not_be_sent() {
        let answer = |payload: &[u8]| {
            let mut bytes = Vec::new();
            encode_close_answer(payload, &mut bytes);
            bytes
        };
        assert_eq!(answer(b""), [0x88, 0]);
        let mut refused = Vec::new();
        encode_close(&CloseReason::ProtocolError, &mut refused);
        for code in 0..=u16::MAX {
            let payload = [&code.to_be_bytes()[..], b"why"].concat();
            let same = [&[0x88, 5], &payload[..]].concat();
            let may = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(
                answer(&payload),
                if may { &same } else { &refused }[..],
                "{code}"
            );
        }
    }
}

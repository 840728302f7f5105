//! Frames as RFC 6455, section 5, has them: ours are encoded, and a client's mask is taken off.
//!
//! Pure. It knows one frame at a time.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::engine::io::CloseReason;

/// The most that a control frame holds (section 5.5), and the longest length that stands in the
/// second byte itself (section 5.2).
pub(super) const SHORT_BYTES_MAX: u8 = 125;

/// Takes the mask off, or puts it on: its first byte is for the first of `payload`.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (eights, rest) = payload.as_chunks_mut();
    let four = u64::from(u32::from_ne_bytes(mask));
    let wide = four << 32 | four;
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// A length of two or eight bytes. Section 5.2: the shortest form is a must, and the topmost of 64
/// bits is zero.
pub(super) fn long_length(bytes: &[u8]) -> Result<u64, CloseReason> {
    let length = bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let shorter_max = match bytes.len() {
        2 => u64::from(SHORT_BYTES_MAX),
        _ => u64::from(u16::MAX),
    };
    if length <= shorter_max || length > i64::MAX as u64 {
        return Err(CloseReason::ProtocolError);
    }
    Ok(length)
}

/// Appends a data message in one frame.
pub fn encode_message(payload: &[u8], binary: bool, output: &mut Vec<u8>) {
    let kind = if binary { Data::Binary } else { Data::Text };
    encode(OpCode::Data(kind), payload, output);
}

/// Appends the header of a data message in one frame: so many bytes are to follow.
pub(super) fn encode_header_of_message(payload_len: usize, binary: bool, output: &mut Vec<u8>) {
    let kind = if binary { Data::Binary } else { Data::Text };
    encode_header(OpCode::Data(kind), payload_len, output);
}

/// Appends an empty ping.
pub fn encode_ping(output: &mut Vec<u8>) {
    encode(OpCode::Control(Control::Ping), &[], output);
}

pub(super) fn encode(opcode: OpCode, payload: &[u8], output: &mut Vec<u8>) {
    output.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header(opcode, payload.len(), output);
    output.extend_from_slice(payload);
}

fn encode_header(opcode: OpCode, payload_len: usize, output: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let formatted = header.format(payload_len as u64, output);
    debug_assert!(formatted.is_ok(), "a Vec takes everything");
}

/// Two bytes, and a length of eight: there is no mask.
const HEADER_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::masked::{MASK, frame};

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
}

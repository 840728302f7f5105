//! A client's bytes, right and wrong ones: what `support::frame` writes by the book, this can also
//! write against it.

use crate::support::frame::{CLOSE, close_payload, unmasked};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// How a length is written (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    Bits7,
    Bits16,
    Bits64,
}

/// A whole frame.
pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked(FIN | opcode, payload.as_ref())
}

/// A fragment after which the message goes on.
pub(crate) fn part(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked(opcode, payload.as_ref())
}

/// The last fragment of a message.
pub(crate) fn last(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(CONTINUATION, payload)
}

pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = [&close_payload(code, ""), reason.as_ref()].concat();
    masked(CLOSE, &payload)
}

/// What the server sends: no mask, FIN, the shortest form of the length.
pub(crate) fn answer(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    unmasked(FIN | opcode, payload.as_ref())
}

/// The server's Close frame.
pub(crate) fn close_answer(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    unmasked(CLOSE, &[&close_payload(code, ""), reason.as_ref()].concat())
}

/// A message in fragments of this size; an empty one is one empty frame.
pub(crate) fn fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size).max(1);
    let fragment = |at: usize| {
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        let fin = if at + 1 == count { FIN } else { 0 };
        let from = (at * size).min(payload.len());
        let to = (from + size).min(payload.len());
        masked(fin | opcode, &payload[from..to])
    };
    (0..count).map(fragment).collect()
}

/// A frame with a mask, as clients must.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    masked_with([0x5a, 0xc3, 0x0f, 0x96], first, payload)
}

pub(crate) fn masked_with(mask: [u8; 4], first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u64;
    let width = match len {
        0..=125 => Width::Bits7,
        126..=0xffff => Width::Bits16,
        _ => Width::Bits64,
    };
    let mut bytes = header(first, len, width);
    bytes.reserve(4 + payload.len());
    bytes.extend(mask);
    // Sixteen at a time: there are many mebibytes to mask.
    let (blocks, rest) = payload.as_chunks();
    let wide = u128::from_ne_bytes([mask; 4].concat().try_into().expect("four times four"));
    for block in blocks {
        bytes.extend((u128::from_ne_bytes(*block) ^ wide).to_ne_bytes());
    }
    bytes.extend(
        rest.iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// A header up to its mask, which is left out, with any length in any form.
pub(crate) fn header(first: u8, len: u64, width: Width) -> Vec<u8> {
    let mut bytes = vec![first];
    match width {
        Width::Bits7 => bytes.push(FIN | u8::try_from(len).expect("seven bits")),
        Width::Bits16 => {
            bytes.push(FIN | 0x7e);
            bytes.extend(u16::try_from(len).expect("16 bits").to_be_bytes());
        }
        Width::Bits64 => {
            bytes.push(FIN | 0x7f);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes
}

/// A text of exactly this many bytes, with characters of every length.
pub(crate) fn text_of(len: usize) -> Vec<u8> {
    let mut text: Vec<u8> = "aé€😀".bytes().cycle().take(len).collect();
    while str::from_utf8(&text).is_err() {
        text.pop();
    }
    text.resize(len, b'z');
    text
}

/// So many bytes, most of them no text.
pub(crate) fn noise_of(len: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(167) >> 3) as u8 ^ 0xa5;
    (0..len).map(byte).collect()
}

//! WebSocket frames (RFC 6455, section 5.2) as a client writes and reads them, by hand.

/// The first bit: the message's last frame.
pub(crate) const FIN: u8 = 0x80;
/// FIN with the opcodes of section 11.8.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame with a mask, as clients must. `first` is the first byte: FIN, reserved bits, opcode.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0x80, payload.len());
    frame.extend_from_slice(&MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// A frame without a mask, as clients must not.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn header(first: u8, mask_bit: u8, len: usize) -> Vec<u8> {
    let mut header = vec![first];
    if let Ok(len) = u8::try_from(len)
        && len < 126
    {
        header.push(mask_bit + len);
    } else if let Ok(len) = u16::try_from(len) {
        header.push(mask_bit + 126);
        header.extend_from_slice(&len.to_be_bytes());
    } else {
        header.push(mask_bit + 127);
        header.extend_from_slice(&(len as u64).to_be_bytes());
    }
    header
}

/// The payload of a Close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    payload
}

/// A frame at the start of `bytes`: its first byte, where its payload lies, and its end is the
/// payload's end. Holds the server to what a strict client demands of it.
pub(crate) fn parse(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "the server set a reserved bit: {first:#x}");
    assert_eq!(second & 0x80, 0, "the server masked a frame");
    let (len, start) = match second {
        126 => (
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let end = start + usize::try_from(len).expect("a frame that fits the memory");
    (bytes.len() >= end).then_some((first, start..end))
}
